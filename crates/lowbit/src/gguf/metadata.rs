//! Keys of a model from its config.json.

use super::family::{Family, KeyKind};
use super::mix::Mix;
use super::value::{Metadata, Value};
use crate::error::{Code, Error, Result};
use serde_json::Value as Json;

/// Sizes of a model that names and changes depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Experts per layer, 0 without any.
    pub experts: usize,
    /// Width of a head.
    pub head_dim: usize,
}

/// Names of one value in the configs of different families, the first that is there.
pub(super) type Names = &'static [&'static str];

/// Keys that all families have: name, where config.json has it, whether it is a float.
pub(super) const KEYS: &[(&str, Names, bool)] = &[
    ("context_length", &["max_position_embeddings"], false),
    ("embedding_length", &["hidden_size"], false),
    ("feed_forward_length", &["intermediate_size"], false),
    ("attention.head_count", &["num_attention_heads"], false),
    (
        "attention.head_count_kv",
        &["num_key_value_heads", "num_attention_heads"],
        false,
    ),
    ("attention.layer_norm_rms_epsilon", &["rms_norm_eps"], true),
];

/// Keys that are written when the config has them.
pub(super) const OPTIONAL: &[(&str, Names)] = &[
    ("attention.key_length", &["head_dim"]),
    ("attention.value_length", &["head_dim"]),
    ("expert_count", EXPERTS),
    ("expert_used_count", &["num_experts_per_tok"]),
];

pub(super) const EXPERTS: Names = &["num_local_experts", "num_experts", "n_routed_experts"];

fn missing(what: String) -> Error {
    Error::new(Code::Config, what).at("config.json")
}

fn find<'a>(config: &'a Json, names: &[&str]) -> Option<&'a Json> {
    let mut values = names.iter().filter_map(|n| config.get(n));
    values.find(|v| !v.is_null())
}

fn count(config: &Json, names: &[&str]) -> Result<Option<usize>> {
    let Some(value) = find(config, names) else {
        return Ok(None);
    };
    let number = value.as_u64().filter(|n| *n <= 1 << 30);
    let number = number.ok_or_else(|| missing(format!("{} is {value}", names[0])))?;
    Ok(Some(number as usize))
}

fn wanted(config: &Json, names: &[&str]) -> Result<usize> {
    count(config, names)?.ok_or_else(|| missing(format!("{} is missing", names[0])))
}

fn float(config: &Json, name: &str) -> Result<Option<f32>> {
    let Some(value) = find(config, &[name]) else {
        return Ok(None);
    };
    let number = value.as_f64().filter(|v| v.is_finite());
    let number = number.ok_or_else(|| missing(format!("{name} is {value}")))?;
    Ok(Some(number as f32))
}

/// The part of config.json that describes the language model.
pub fn text_config(config: &Json) -> &Json {
    config.get("text_config").unwrap_or(config)
}

impl Sizes {
    /// Reads the sizes; `config` names what is missing or out of range.
    pub fn from_config(config: &Json) -> Result<Self> {
        let heads = wanted(config, &["num_attention_heads"])?;
        let hidden = wanted(config, &["hidden_size"])?;
        if heads == 0 {
            return Err(missing("num_attention_heads is 0".into()));
        }
        Ok(Self {
            layers: wanted(config, &["num_hidden_layers"])?,
            heads,
            kv_heads: count(config, &["num_key_value_heads"])?.unwrap_or(heads),
            experts: count(config, EXPERTS)?.unwrap_or(0),
            head_dim: count(config, &["head_dim"])?.unwrap_or(hidden / heads),
        })
    }
}

/// Keys of a model: what it is, its sizes, its rotary embedding. `values` is how many weights it
/// has; `config` names what config.json lacks, `unsupported` a rotary scaling without keys.
pub fn metadata(
    family: &Family,
    config: &Json,
    name: &str,
    mix: &Mix,
    values: u64,
) -> Result<Metadata> {
    let sizes = Sizes::from_config(config)?;
    let mut m = Metadata::new();
    m.set_string("general.architecture", family.arch);
    m.set_string("general.type", "model");
    m.set_string("general.name", name);
    m.set_string("general.size_label", size_label(values));
    let own = |name: &str| format!("{}.{name}", family.arch);
    m.set_count(own("block_count"), sizes.layers)?;
    for (name, from, is_float) in KEYS {
        if *is_float {
            let value = float(config, from[0])?.unwrap_or(1e-6);
            m.set(own(name), Value::F32(value));
        } else {
            m.set_count(own(name), wanted(config, from)?)?;
        }
    }
    for (name, from) in OPTIONAL {
        if let Some(value) = count(config, from)?.filter(|v| *v > 0) {
            m.set_count(own(name), value)?;
        }
    }
    for key in family.keys {
        let absent = || missing(format!("{} is missing", key.from));
        match key.kind {
            KeyKind::HeadDim => m.set_count(own(key.name), sizes.head_dim)?,
            KeyKind::Count => m.set_count(own(key.name), wanted(config, &[key.from])?)?,
            KeyKind::MaybeCount => {
                if let Some(value) = count(config, &[key.from])? {
                    m.set_count(own(key.name), value)?;
                }
            }
            KeyKind::Float | KeyKind::MaybeFloat => match float(config, key.from)? {
                Some(value) => m.set(own(key.name), Value::F32(value)),
                None if key.kind == KeyKind::Float => return Err(absent()),
                None => {}
            },
        }
    }
    rotary(&mut m, family, config)?;
    m.set("general.file_type", Value::U32(mix.file_type));
    m.set("general.quantization_version", Value::U32(2));
    Ok(m)
}

/// Millions or billions of weights, as in `4.1M` and `7B`.
fn size_label(values: u64) -> String {
    let units = [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")];
    let n = values as f64;
    let unit = units.iter().find(|(size, _)| n >= *size);
    let (size, letter) = unit.copied().unwrap_or((1.0, ""));
    let scaled = n / size;
    if scaled >= 9.95 || scaled.fract() < 0.05 {
        format!("{scaled:.0}{letter}")
    } else {
        format!("{scaled:.1}{letter}")
    }
}

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

fn rotary(m: &mut Metadata, family: &Family, config: &Json) -> Result<()> {
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
    match rotary.kind {
        // Llama 3 keeps its factors in a tensor.
        "default" | "llama3" => Ok(()),
        kind @ ("linear" | "yarn") => {
            m.set_string(own("scaling.type"), kind);
            let factor = part("factor")?.ok_or_else(|| missing("rope factor is missing".into()))?;
            m.set(own("scaling.factor"), Value::F32(factor));
            if let Some(length) = part("original_max_position_embeddings")? {
                m.set_count(own("scaling.original_context_length"), length as usize)?;
            }
            Ok(())
        }
        other => {
            let what = format!("rotary scaling {other:?} has no GGUF keys here");
            Err(Error::new(Code::Unsupported, what).at("config.json"))
        }
    }
}

/// Llama 3's factors of the rotary frequencies, `[head_dim / 2]`; none for other models.
///
/// A frequency whose wavelength is short against the original context stays, a long one is divided
/// by the factor, those between are blended.
pub fn rope_factors(config: &Json) -> Result<Option<Vec<f32>>> {
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
