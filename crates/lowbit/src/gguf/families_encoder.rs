//! The rows of encoders.

use super::families::PLAIN;
use super::family::{Family, KeyKind, key};
use super::metadata::Sizes;
use serde_json::Value as Json;

/// The layer before the scores of classes, and the scores.
pub(super) const HEAD: &str = "cls";
pub(super) const SCORES: &str = "cls.output";

const LEFT: &[&str] = &["cls.", "lm_head.", "embeddings.position_ids"];

/// BERT. Heads that predict words or order stay behind: files of this architecture give states of
/// tokens, what `pooling_type` makes of them, and scores of classes.
pub(super) const BERT: Family = Family {
    model_types: &["bert"],
    arch: "bert",
    base: "bert.",
    blocks: "encoder.layer",
    outside: &[
        ("embeddings.word_embeddings", "token_embd"),
        ("embeddings.position_embeddings", "position_embd"),
        ("embeddings.token_type_embeddings", "token_types"),
        ("embeddings.LayerNorm", "token_embd_norm"),
        ("pooler.dense", HEAD),
        ("classifier", SCORES),
    ],
    left: LEFT,
    encoder: true,
    names: &[
        ("attention.self.query", "attn_q"),
        ("attention.self.key", "attn_k"),
        ("attention.self.value", "attn_v"),
        ("attention.output.dense", "attn_output"),
        ("attention.output.LayerNorm", "attn_output_norm"),
        ("intermediate.dense", "ffn_up"),
        ("output.dense", "ffn_down"),
        ("output.LayerNorm", "layer_output_norm"),
    ],
    keys: &[
        key(
            "attention.layer_norm_epsilon",
            "layer_norm_eps",
            KeyKind::Epsilon,
        ),
        key("attention.causal", "", KeyKind::Off),
    ],
    misfit,
    ..PLAIN
};

/// The same with positions that count from behind the padding's: a file begins with the first that
/// is used, so that it is a BERT to who reads it.
pub(super) const ROBERTA: Family = Family {
    model_types: &["roberta", "xlm-roberta"],
    base: "roberta.",
    outside: &[
        ("embeddings.word_embeddings", "token_embd"),
        ("embeddings.position_embeddings", "position_embd"),
        ("embeddings.token_type_embeddings", "token_types"),
        ("embeddings.LayerNorm", "token_embd_norm"),
        ("classifier.dense", HEAD),
        ("classifier.out_proj", SCORES),
    ],
    left: &["pooler.", "cls.", "lm_head.", "embeddings.position_ids"],
    ..BERT
};

fn misfit(config: &Json, _: &Sizes) -> Option<String> {
    let text = |key: &str| config.get(key).and_then(Json::as_str);
    let act = text("hidden_act").unwrap_or("gelu");
    if !act.starts_with("gelu") {
        return Some(format!("hidden_act is {act:?}: llama.cpp takes gelu"));
    }
    let kind = text("position_embedding_type").unwrap_or("absolute");
    if kind != "absolute" {
        return Some(format!("position_embedding_type is {kind:?}"));
    }
    let class = class(config)?;
    let other = class.ends_with("Classification") && !classifies(config);
    other.then(|| format!("{class} has a head that is not written"))
}

fn class(config: &Json) -> Option<&str> {
    config.get("architectures")?.get(0)?.as_str()
}

/// Whether the model gives scores to classes of whole texts.
pub(super) fn classifies(config: &Json) -> bool {
    class(config).is_some_and(|class| class.ends_with("ForSequenceClassification"))
}

/// Names of the classes in their order, as far as the config has them.
pub(super) fn labels(config: &Json) -> Vec<String> {
    let named = config.get("id2label").and_then(Json::as_object);
    let named = named.map_or(0, serde_json::Map::len);
    let label = |i: usize| config.get("id2label")?.get(i.to_string())?.as_str();
    (0..named)
        .filter_map(|i| label(i).map(Into::into))
        .collect()
}

/// Rows of the table of positions before the first that is used.
pub(super) fn unused_positions(family: &Family, config: &Json) -> usize {
    if family.base != ROBERTA.base {
        return 0;
    }
    let padding = config.get("pad_token_id").and_then(Json::as_u64);
    padding.map_or(2, |id| id.min(1 << 24) as usize + 1)
}
