//! The rotary embedding: its keys, and the tensors that stand for what has no key.

use super::family::Family;
use super::metadata::{Sizes, find, float, missing};
use super::value::{Array, Metadata, Value};
use crate::error::{Code, Error, Result};
use serde_json::Value as Json;

/// The parameters of the rotary embedding, wherever a version of transformers keeps them.
struct Rotary<'a> {
    base: f32,
    scaling: Option<&'a Json>,
    kind: &'a str,
}

fn rotary_of(config: &Json) -> Result<Rotary<'_>> {
    let nested = find(config, &["rope_parameters", "rope_scaling"]);
    // Gemma 3 has one set for global and one for local layers.
    let nested = nested.map(|n| n.get("full_attention").unwrap_or(n));
    let base = match nested
        .map(|n| float(n, "rope_theta"))
        .transpose()?
        .flatten()
    {
        Some(base) => base,
        None => float(config, "rope_theta")?.unwrap_or(10_000.0),
    };
    let kind = nested.and_then(|n| find(n, &["rope_type", "type"]));
    Ok(Rotary {
        base,
        scaling: nested,
        kind: kind.and_then(Json::as_str).unwrap_or("default"),
    })
}

/// Sets the keys of the rotary embedding; `unsupported` for a scaling that has none.
pub(super) fn rotary(m: &mut Metadata, family: &Family, config: &Json) -> Result<()> {
    let own = |name: &str| format!("{}.rope.{name}", family.arch);
    let rotary = rotary_of(config)?;
    m.set(own("freq_base"), Value::F32(rotary.base));
    let part = |key: &str| {
        rotary
            .scaling
            .map(|s| float(s, key))
            .transpose()
            .map(Option::flatten)
    };
    if let Some(base) = local_base(config)? {
        m.set(own("freq_base_swa"), Value::F32(base));
    }
    match rotary.kind {
        // Llama 3 keeps its factors in a tensor; sections of time and place have a key of their own.
        "default" | "llama3" | "mrope" => Ok(()),
        kind @ ("linear" | "yarn") => {
            m.set_string(own("scaling.type"), kind);
            let factor = part("factor")?.ok_or_else(|| missing("rope factor is missing".into()))?;
            m.set(own("scaling.factor"), Value::F32(factor));
            if let Some(length) = part("original_max_position_embeddings")? {
                m.set_count(own("scaling.original_context_length"), length as usize)?;
            }
            for (from, key, times) in YARN {
                if let Some(value) = part(from)?.filter(|_| kind == "yarn") {
                    m.set(own(key), Value::F32(value * times));
                }
            }
            Ok(())
        }
        "longrope" => {
            let (factor, length) = long_scale(config)?;
            m.set_count(own("scaling.original_context_length"), length as usize)?;
            m.set(own("scaling.attn_factor"), Value::F32(factor));
            Ok(())
        }
        other => {
            let what = format!("rotary scaling {other:?} has no GGUF keys here");
            Err(Error::new(Code::Unsupported, what).at("config.json"))
        }
    }
}

/// Keys of YaRN: where the config has the value, and what the file wants it times.
pub(super) const YARN: &[(&str, &str, f32)] = &[
    ("beta_fast", "scaling.yarn_beta_fast", 1.0),
    ("beta_slow", "scaling.yarn_beta_slow", 1.0),
    ("mscale_all_dim", "scaling.yarn_log_multiplier", 0.1),
];

/// The base of layers that look at a window, where it is another.
fn local_base(config: &Json) -> Result<Option<f32>> {
    let nested = find(config, &["rope_parameters"]).and_then(|r| r.get("sliding_attention"));
    match nested {
        Some(local) => float(local, "rope_theta"),
        None => float(config, "rope_local_base_freq"),
    }
}

/// How much wider attention is made for a longer context, and the original context.
fn long_scale(config: &Json) -> Result<(f32, f32)> {
    let key = "original_max_position_embeddings";
    let scaling = rotary_of(config)?.scaling;
    let part = |key: &str| scaling.map_or(Ok(None), |s| float(s, key));
    let old = match part(key)? {
        Some(old) => Some(old),
        None => float(config, key)?,
    };
    let old = old.filter(|old| *old > 1.0);
    let old = old.ok_or_else(|| missing(format!("{key} is missing")))?;
    if let Some(factor) = part("attention_factor")? {
        return Ok((factor, old));
    }
    let longer = float(config, "max_position_embeddings")?.unwrap_or(old) / old;
    let factor = if longer <= 1.0 {
        1.0
    } else {
        libm::sqrtf(1.0 + libm::logf(longer) / libm::logf(old))
    };
    Ok((factor, old))
}

/// How many values of a head turn.
pub(super) fn rotary_dim(config: &Json, sizes: &Sizes) -> Result<usize> {
    let nested = rotary_of(config)?.scaling;
    let part = nested.map_or(Ok(None), |n| float(n, "partial_rotary_factor"))?;
    let part = match part {
        Some(part) => part,
        None => float(config, "partial_rotary_factor")?.unwrap_or(1.0),
    };
    Ok((part * sizes.head_dim as f32) as usize)
}

/// Parts of a head that turn with time, height and width; the fourth is 0.
pub(super) fn sections(config: &Json) -> Result<Option<Value>> {
    let nested = rotary_of(config)?.scaling;
    let list = nested.and_then(|n| n.get("mrope_section")?.as_array());
    let list = list.ok_or_else(|| missing("mrope_section is missing".into()))?;
    let mut sections: Vec<i32> = list
        .iter()
        .filter_map(|n| n.as_u64().and_then(|n| i32::try_from(n).ok()))
        .collect();
    sections.resize(4, 0);
    Ok(Some(Value::Array(Array::I32(sections))))
}

/// Tensors of the rotary embedding that come from config.json: name and values.
pub(super) fn rope_tensors(config: &Json) -> Result<Vec<(&'static str, Vec<f32>)>> {
    if let Some(factors) = rope_factors(config)? {
        return Ok(vec![("rope_freqs.weight", factors)]);
    }
    let rotary = rotary_of(config)?;
    let Some(scaling) = rotary.scaling.filter(|_| rotary.kind == "longrope") else {
        return Ok(Vec::new());
    };
    let wanted = rotary_dim(config, &Sizes::from_config(config)?)? / 2;
    let list = |key: &str| {
        let list = scaling.get(key).and_then(Json::as_array);
        let values = list.map(|l| {
            l.iter()
                .filter_map(Json::as_f64)
                .map(|v| v as f32)
                .collect()
        });
        let values: Vec<f32> = values.unwrap_or_default();
        if values.len() == wanted {
            return Ok(values);
        }
        let what = format!("{key} has {} values, {wanted} are wanted", values.len());
        Err(missing(what))
    };
    Ok(vec![
        ("rope_factors_long.weight", list("long_factor")?),
        ("rope_factors_short.weight", list("short_factor")?),
    ])
}

/// Llama 3's factors of the rotary frequencies, `[head_dim / 2]`; none for other models.
///
/// A frequency whose wavelength is short against the original context stays, a long one is divided
/// by the factor, those between are blended.
pub(super) fn rope_factors(config: &Json) -> Result<Option<Vec<f32>>> {
    let rotary = rotary_of(config)?;
    let Some(scaling) = rotary.scaling.filter(|_| rotary.kind == "llama3") else {
        return Ok(None);
    };
    let number =
        |key: &str, absent: f32| float(scaling, key).map(|v| f64::from(v.unwrap_or(absent)));
    let factor = number("factor", 8.0)?;
    let (low, high) = (
        number("low_freq_factor", 1.0)?,
        number("high_freq_factor", 4.0)?,
    );
    let old = number("original_max_position_embeddings", 8192.0)?;
    let dim = Sizes::from_config(config)?.head_dim;
    let of = |i: usize| {
        let exponent = (2 * i) as f32 / dim as f32;
        let frequency = 1.0 / f64::from(libm::powf(rotary.base, exponent));
        let length = 2.0 * std::f64::consts::PI / frequency;
        if length < old / high {
            1.0
        } else if length > old / low {
            factor as f32
        } else {
            let t = (old / length - low) / (high - low);
            (1.0 / ((1.0 - t) / factor + t)) as f32
        }
    };
    Ok(Some((0..dim / 2).map(of).collect()))
}
