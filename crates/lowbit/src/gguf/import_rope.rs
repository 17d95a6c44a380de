//! The rotary embedding of config.json from the keys and tensors of a file.

use super::import_config::Model;
use super::rotary::{YARN, rope_factors};
use super::value::Metadata;
use crate::error::{Code, Error, Result};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;

/// Tensors whose values are a part of config.json: divisors of the rotary frequencies.
pub(super) const FACTORS: &[&str] = &[
    "rope_freqs.weight",
    "rope_factors_short.weight",
    "rope_factors_long.weight",
];

/// How far factors may be from those of Llama 3's rule and still be taken for them.
const SAME: f32 = 1e-4;

/// The number that a float of 32 bits is written as.
pub(super) fn short(value: f64) -> f64 {
    // Every f32 has a shortest text, whose value as f64 rounds to the same f32.
    let text = (value as f32).to_string();
    text.parse().unwrap_or(value)
}

/// Sets `rope_theta` and, where there is one, `rope_scaling`; `unsupported` for other scalings.
pub(super) fn set(
    config: &mut Map<String, Json>,
    m: &Metadata,
    model: &Model,
    values: &BTreeMap<String, Vec<f32>>,
) -> Result<()> {
    let own = |name: &str| format!("{}.rope.{name}", model.arch);
    let float = |name: &str| -> Result<Option<f64>> { Ok(m.float(&own(name))?.map(short)) };
    // What loaders of GGUF assume for every family.
    let base = float("freq_base")?.unwrap_or(10_000.0);
    config.insert("rope_theta".into(), json!(base));
    if let Some(local) = float("freq_base_swa")? {
        config.insert("rope_local_base_freq".into(), json!(local));
    }
    // A head whose keys come from a narrow vector turns in its own part.
    let narrow = config.contains_key("kv_lora_rank");
    if let Some(dim) = m.index(&own("dimension_count"))?.filter(|d| *d > 0)
        && dim < model.head_dim as u64
        && !narrow
    {
        let part = dim as f64 / model.head_dim as f64;
        config.insert("partial_rotary_factor".into(), json!(part));
    }
    let original = m.index(&own("scaling.original_context_length"))?;
    let factor = float("scaling.factor")?;
    let attention = float("scaling.attn_factor")?;
    let scaling = match m.string(&own("scaling.type"))? {
        _ if values.contains_key(FACTORS[1]) => {
            let list = |name: &str| values.get(name).cloned().unwrap_or_default();
            Some(
                json!({"rope_type": "longrope", "short_factor": shortest(&list(FACTORS[1])),
                "long_factor": shortest(&list(FACTORS[2]))}),
            )
        }
        Some("linear") => Some(json!({"rope_type": "linear", "factor": factor.unwrap_or(1.0)})),
        Some("yarn") => Some(yarn(m, factor.unwrap_or(1.0), own)?),
        None | Some("none" | "longrope") => match values.get(FACTORS[0]) {
            Some(factors) => from_factors(factors, base, model),
            None => sections(m, &own("dimension_sections"))?,
        },
        Some(other) => {
            let shown: String = other.chars().take(60).collect();
            let what = format!("rotary scaling {shown:?}");
            return Err(Error::new(Code::Unsupported, what)
                .at("the metadata")
                .remedy("known: none, linear, yarn, longrope"));
        }
    };
    let Some(mut scaling) = scaling else {
        return Ok(());
    };
    if let Some(original) = original {
        scaling["original_max_position_embeddings"] = json!(original);
        if scaling["rope_type"] == "longrope" {
            config.insert("original_max_position_embeddings".into(), json!(original));
        }
    }
    if let Some(attention) = attention {
        scaling["attention_factor"] = json!(attention);
    }
    config.insert("rope_scaling".into(), scaling);
    Ok(())
}

fn yarn(m: &Metadata, factor: f64, own: impl Fn(&str) -> String) -> Result<Json> {
    let mut yarn = json!({"rope_type": "yarn", "factor": factor});
    for (from, key, times) in YARN {
        if let Some(value) = m.float(&own(key))? {
            yarn[*from] = json!(short(short(value) / short(f64::from(*times))));
        }
    }
    if let Some(all) = yarn.get("mscale_all_dim").cloned() {
        // Loaders take one for the other.
        yarn["mscale"] = all;
    }
    Ok(yarn)
}

/// Parts of a head that turn with time, height and width: to text all the same.
fn sections(m: &Metadata, key: &str) -> Result<Option<Json>> {
    let sections = m.integers(key)?.map(|all| &all[..all.len().min(3)]);
    Ok(sections.map(|s| json!({"type": "mrope", "mrope_section": s})))
}

fn shortest(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| short(f64::from(*v))).collect()
}

/// The scaling that a list of divisors comes from: Llama 3's rule where its numbers give the list,
/// else the list itself.
fn from_factors(factors: &[f32], base: f64, model: &Model) -> Option<Json> {
    if factors.iter().all(|f| *f == 1.0) {
        return None;
    }
    let factor = factors.iter().copied().fold(1.0, f32::max);
    let rule = |original: u64| {
        json!({"rope_type": "llama3", "factor": short(f64::from(factor)), "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": original})
    };
    let fits = |scaling: &Json| {
        let config = json!({"rope_theta": base, "head_dim": 2 * factors.len(), "hidden_size": 1,
            "num_attention_heads": 1, "num_hidden_layers": 1, "rope_scaling": scaling});
        let found = rope_factors(&config).ok().flatten()?;
        let off = |(a, b): (&f32, &f32)| ((a - b) / b).abs();
        let worst = found.iter().zip(factors).map(off).fold(0.0, f32::max);
        (found.len() == factors.len() && worst <= SAME).then_some(())
    };
    // The context of the released models first.
    let originals = std::iter::once(8192).chain((5..=20).map(|p| 1u64 << p));
    let known = originals.map(rule).find(|scaling| fits(scaling).is_some());
    let list = shortest(factors);
    Some(known.unwrap_or_else(|| {
        json!({"rope_type": "longrope", "short_factor": list, "long_factor": list,
            "attention_factor": 1.0, "original_max_position_embeddings": model.context})
    }))
}
