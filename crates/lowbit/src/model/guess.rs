//! What can be said of a checkpoint whose family nobody here knows: which of its tensors look like
//! linears. Rounding to nearest needs no more than that.
//!
//! | a tensor | is |
//! |---|---|
//! | of two dimensions, floats, named `*.weight` | a linear |
//! | the same, named like an embedding, a norm, a router or a head, or with a row per token | copied |
//! | of one, three or more dimensions, or of another type | copied |

use super::arch;
use super::config::Config;
use super::load::{Source, TensorInfo};
use super::ops::Part;
use super::weights::Linear;
use crate::error::{Code, Error, Result};
use crate::tensor::Dtype;
use serde_json::Value;
use std::sync::Arc;

/// Parts of names, in lower case, of matrices that are no linears or should stay as they are.
const COPIED: &[&str] = &[
    "embed",
    "emb",
    "wte",
    "wpe",
    "norm",
    "ln",
    "router",
    "head",
    "classifier",
    "score",
    "pooler",
    "bias",
    "codebook",
];
/// Whole components of names: experts are chosen by a module that most families call so.
const COPIED_WHOLE: &[&str] = &["gate", "shared", "cls", "gating"];

/// Families whose matrices lie the other way round, inputs first.
const TRANSPOSED: &[&str] = &["gpt2", "openai-gpt", "imagegpt", "decision_transformer"];

/// Most blocks that numbers in names are taken for.
const BLOCKS_MAX: usize = 1 << 10;

/// The linears of a checkpoint of an unknown family, by block.
#[derive(Debug, PartialEq, Eq)]
pub struct Guess {
    /// What config.json calls the family.
    pub model_type: String,
    /// What looks like linears, by the first number in their names.
    pub blocks: Vec<Vec<Linear>>,
}

impl Guess {
    /// How many linears there are.
    pub fn count(&self) -> usize {
        self.blocks.iter().map(Vec::len).sum()
    }
}

/// A config that only quantizing without data can use: it names linears and runs nothing.
///
/// `unsupported` when the family stores matrices transposed, `unknown-architecture` when nothing
/// looks like a linear.
pub fn config(source: &Source) -> Result<Config> {
    let model_type = source.config.get("model_type").and_then(Value::as_str);
    let model_type: String = model_type.unwrap_or_default().chars().take(60).collect();
    let known = |key| source.config.get(key).and_then(Value::as_u64);
    if TRANSPOSED.contains(&model_type.as_str()) {
        let what = format!("model_type {model_type:?} stores its matrices transposed");
        return Err(Error::new(Code::Unsupported, what).at("config.json"));
    }
    let vocabulary = known("vocab_size").unwrap_or(0);
    let mut blocks: Vec<Vec<Linear>> = Vec::new();
    for info in &source.tensors {
        let Some(linear) = linear(info, vocabulary) else {
            continue;
        };
        let block = block_of(&linear.module);
        if blocks.len() <= block {
            blocks.resize_with(block + 1, Vec::new);
        }
        blocks[block].push(linear);
    }
    if blocks.is_empty() {
        let what =
            format!("model_type {model_type:?} is not known, and no tensor looks like a linear");
        return Err(Error::new(Code::UnknownArchitecture, what).at("config.json"));
    }
    Ok(Config::guessed(Arc::new(Guess { model_type, blocks })))
}

/// Whether an error says that the family is unknown, and not that it lacks something.
pub fn is_unknown(config: &Value) -> bool {
    let model_type = config.get("model_type").and_then(Value::as_str);
    model_type.is_some_and(|name| arch::find(name).is_err())
}

fn linear(info: &TensorInfo, vocabulary: u64) -> Option<Linear> {
    let module = info.name.strip_suffix(".weight")?;
    let [rows, cols] = info.shape[..] else {
        return None;
    };
    let floats = [Dtype::F32, Dtype::F16, Dtype::BF16].contains(&info.dtype);
    let large = rows > 1 && cols > 1 && rows as u64 != vocabulary;
    (floats && large && !is_copied(module)).then(|| Linear {
        part: Part::Guessed,
        module: module.into(),
        weight: info.name.clone(),
        bias: None,
        rows,
        cols,
        quantizable: true,
    })
}

/// Whether a name says that a matrix is no linear, or one that errors of rounding hurt most.
fn is_copied(module: &str) -> bool {
    // At the top, that is what some call their head.
    if module == "output" {
        return true;
    }
    module.split('.').any(|component| {
        let component = component.to_lowercase();
        let words = component.split('_').collect::<Vec<_>>();
        COPIED_WHOLE.contains(&component.as_str())
            || words.iter().any(|w| COPIED.contains(w))
            || ["embed", "norm", "router", "head"]
                .iter()
                .any(|w| component.contains(w))
    })
}

/// The first number in a name, as in `h.3.mlp.fc`.
fn block_of(module: &str) -> usize {
    let mut numbers = module.split('.').filter_map(|c| c.parse::<usize>().ok());
    numbers.next().unwrap_or(0).min(BLOCKS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_decide_what_is_copied() {
        for name in [
            "transformer.wte",
            "model.embed_tokens",
            "h.0.ln_1",
            "h.0.input_layernorm",
            "h.0.mlp.gate",
            "lm_head",
            "output",
            "position_embeddings",
            "rel_pos_emb",
            "classifier",
        ] {
            assert!(is_copied(name), "{name}");
        }
        for name in [
            "h.0.attn.query",
            "h.0.mlp.gate_proj",
            "encoder.output_proj",
            "layer.0.output.dense",
            "h.1.linear",
            "blocks.2.mlp.fc1",
        ] {
            assert!(!is_copied(name), "{name}");
        }
        assert_eq!([block_of("h.12.mlp.3.fc"), block_of("fc")], [12, 0]);
    }
}
