//! The keys of a family as members of config.json.

use super::family::{Key, KeyKind};
use super::import_config::Model;
use super::import_rope::short;
use super::value::{Array, Metadata, Value};
use crate::error::{Code, Error, Result};
use serde_json::{Map, Value as Json, json};

/// Layers of those Gemmas whose scores are not over the root of a head's width.
const LARGE_GEMMAS: &[(&str, usize)] = &[("gemma2", 46), ("gemma3", 62)];

/// Counts of which 0 stands for null in config.json.
const NULL_FOR_ZERO: &[&str] = &["q_lora_rank", "sliding_window"];

/// The family's own keys, and what follows from others.
pub(super) fn own_keys(config: &mut Map<String, Json>, m: &Metadata, model: &Model) -> Result<()> {
    let keys = model.family.map_or(&[][..], |f| f.keys);
    for key in keys {
        if let Some(value) = own_value(key, m, model)? {
            config.insert(key.from.into(), value);
        }
    }
    for key in keys {
        // The other part of a sum is known now.
        if key.kind == KeyKind::OneHead
            && let Some(heads) = config.get("num_attention_heads").cloned()
        {
            config.insert(key.from.into(), heads);
        }
        let name = format!("{}.{}", model.arch, key.name);
        let KeyKind::CountPlus(other) = key.kind else {
            continue;
        };
        if let Some(sum) = m.index(&name)? {
            let part = config.get(other).and_then(Json::as_u64).unwrap_or(0);
            config.insert(key.from.into(), json!(sum.saturating_sub(part)));
            // To transformers a head is what turns.
            config.insert("head_dim".into(), json!(part));
        }
    }
    if model.arch.starts_with("gemma") {
        let width = match config
            .get("hidden_size")
            .zip(config.get("num_attention_heads"))
        {
            Some((hidden, heads)) if LARGE_GEMMAS.contains(&(&*model.arch, model.layers)) => {
                let of = |v: &Json| v.as_u64().unwrap_or(1).max(1);
                of(hidden) / of(heads)
            }
            _ => model.head_dim as u64,
        };
        config.insert("query_pre_attn_scalar".into(), json!(width));
    }
    Ok(())
}

/// What a family's key says, as its member of config.json has it.
fn own_value(key: &Key, m: &Metadata, model: &Model) -> Result<Option<Json>> {
    let name = format!("{}.{}", model.arch, key.name);
    Ok(match key.kind {
        KeyKind::Count | KeyKind::CountOr(_) | KeyKind::MaybeCount => {
            let value = m.index(&name)?;
            let null = value == Some(0) && NULL_FOR_ZERO.contains(&key.from);
            value.map(|v| if null { Json::Null } else { json!(v) })
        }
        KeyKind::MaybeFloat | KeyKind::Epsilon => m.float(&name)?.map(|v| json!(short(v))),
        KeyKind::MaybeFlag => m.bool(&name)?.map(|v| json!(v)),
        KeyKind::Windows => windows(m, &name, model.layers)?,
        // These are read where the rotary embedding is, or are no value of config.json.
        KeyKind::CountPlus(_)
        | KeyKind::HeadDim
        | KeyKind::RotaryDim
        | KeyKind::Sections
        | KeyKind::OneHead
        | KeyKind::Off
        | KeyKind::Always(_) => None,
    })
}

/// Which layers look at a window only: a flag for each.
fn windows(m: &Metadata, name: &str, layers: usize) -> Result<Option<Json>> {
    let every = m.get(name).and_then(Value::as_index).filter(|n| *n > 0);
    let flags = match (m.get(name), every) {
        (Some(Value::Array(Array::Bool(flags))), _) => flags.clone(),
        (_, Some(every)) => (1..=layers as u64).map(|i| i % every != 0).collect(),
        _ => return Ok(None),
    };
    if flags.len() != layers {
        let what = format!("{name} has {} values for {layers} layers", flags.len());
        return Err(Error::new(Code::Metadata, what).at("the metadata"));
    }
    let kind = |sliding: &bool| {
        if *sliding {
            "sliding_attention"
        } else {
            "full_attention"
        }
    };
    Ok(Some(flags.iter().map(kind).collect()))
}
