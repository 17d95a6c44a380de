//! What only configs of encoders and of classifiers say.

use super::Config;
use crate::error::{Code, Error, Result};
use crate::kernels::activate::Activation;
use crate::model::arch::Arch;
use crate::model::archs::ACTIVATIONS;
use crate::model::fields::Fields;
use serde_json::Value;

/// What an encoder has beside its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoder {
    /// Rows of the table of positions.
    pub positions: usize,
    /// The row of a text's first token; those before it are never used.
    pub first: usize,
    /// Kinds of text: rows of their table; 0 in families without.
    pub types: usize,
    /// Activation of the MLP.
    pub activation: Activation,
}

/// An encoder's values, if the family is one; its context is what positions it has.
pub(super) fn read(
    fields: &Fields<'_>,
    arch: &Arch,
    config: &mut Config,
) -> Result<Option<Encoder>> {
    let Some(keys) = arch.encoder else {
        return Ok(None);
    };
    let kind = fields.text("position_embedding_type")?;
    if let Some(kind) = kind.filter(|k| *k != "absolute") {
        return Err(unsupported(format!("position_embedding_type {kind:?}")));
    }
    for key in ["is_decoder", "add_cross_attention"] {
        if fields.flag(key, false)? {
            return Err(unsupported(format!("{key} in {}", arch.name)));
        }
    }
    let first = match keys.behind_padding {
        None => 0,
        Some(absent) => fields.count("pad_token_id", 0..=1 << 24, Some(absent))? + 1,
    };
    let positions = config.context;
    if first >= positions {
        let allowed = format!("less than max_position_embeddings, {positions}, less 1");
        return Err(fields.refuse("pad_token_id", &(first - 1).into(), allowed));
    }
    config.context = positions - first;
    let name = fields.text("hidden_act")?.unwrap_or("gelu");
    let activation = ACTIVATIONS.iter().find(|(known, _)| *known == name);
    Ok(Some(Encoder {
        positions,
        first,
        types: match keys.types {
            None => 0,
            Some(absent) => fields.count("type_vocab_size", 1..=1 << 16, Some(absent))?,
        },
        activation: activation.map_or(Activation::Gelu, |(_, by)| *by),
    }))
}

fn unsupported(what: String) -> Error {
    Error::new(Code::Unsupported, what).at("config.json")
}

/// Labels of a model for sequence classification, 0 for any other: as many as `id2label` names,
/// or `num_labels`, or 2.
pub(super) fn labels(fields: &Fields<'_>) -> Result<usize> {
    let classes = fields.get("architectures").and_then(Value::as_array);
    let classifies = |class: &Value| {
        let name = class.as_str();
        name.is_some_and(|name| name.ends_with("ForSequenceClassification"))
    };
    if !classes.is_some_and(|list| list.iter().any(classifies)) {
        return Ok(0);
    }
    match fields.get("id2label").and_then(Value::as_object) {
        Some(names) if !names.is_empty() => Ok(names.len()),
        _ => fields.count("num_labels", 1..=1 << 20, Some(2)),
    }
}
