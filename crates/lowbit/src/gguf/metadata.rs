//! Keys of a model from its config.json.

use super::family::{Family, Key, KeyKind};
use super::mix::Mix;
use super::rotary::{rotary, rotary_dim, sections};
use super::value::{Array, Metadata, Value};
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

pub(super) fn missing(what: String) -> Error {
    Error::new(Code::Config, what).at("config.json")
}

pub(super) fn find<'a>(config: &'a Json, names: &[&str]) -> Option<&'a Json> {
    let mut values = names.iter().filter_map(|n| config.get(n));
    values.find(|v| !v.is_null())
}

pub(super) fn count(config: &Json, names: &[&str]) -> Result<Option<usize>> {
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

pub(super) fn float(config: &Json, name: &str) -> Result<Option<f32>> {
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
        if *is_float && family.encoder {
            // Layer norms have a key of their own.
        } else if *is_float {
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
        if let Some(value) = value_of(key, config, &sizes)? {
            m.set(own(key.name), value);
        }
    }
    if family.encoder {
        let kinds = count(config, &["type_vocab_size"])?.unwrap_or(2);
        m.set_count("tokenizer.ggml.token_type_count", kinds)?;
    } else {
        rotary(&mut m, family, config)?;
    }
    m.set("general.file_type", Value::U32(mix.file_type));
    m.set("general.quantization_version", Value::U32(2));
    Ok(m)
}

/// What a family's key is set to, if at all.
fn value_of(key: &Key, config: &Json, sizes: &Sizes) -> Result<Option<Value>> {
    let number = |n: usize| match u32::try_from(n) {
        Ok(n) => Ok(Some(Value::U32(n))),
        Err(_) => Err(missing(format!("{} is {n}", key.from))),
    };
    match key.kind {
        KeyKind::HeadDim => number(sizes.head_dim),
        KeyKind::RotaryDim => number(rotary_dim(config, sizes)?),
        KeyKind::Count => number(wanted(config, &[key.from])?),
        KeyKind::CountOr(absent) => number(count(config, &[key.from])?.unwrap_or(absent)),
        KeyKind::CountPlus(other) => {
            number(wanted(config, &[key.from])? + wanted(config, &[other])?)
        }
        KeyKind::Always(n) => Ok(Some(Value::U32(n))),
        KeyKind::Off => Ok(Some(Value::Bool(false))),
        KeyKind::Epsilon => Ok(Some(Value::F32(float(config, key.from)?.unwrap_or(1e-12)))),
        KeyKind::OneHead => Ok(Some(Value::U32(1))),
        KeyKind::MaybeCount => count(config, &[key.from])?.map_or(Ok(None), number),
        KeyKind::MaybeFloat => Ok(float(config, key.from)?.map(Value::F32)),
        KeyKind::MaybeFlag => {
            let flag = config.get(key.from).and_then(Json::as_bool) == Some(true);
            Ok(flag.then_some(Value::Bool(true)))
        }
        KeyKind::Sections => sections(config),
        KeyKind::Windows => Ok(windows(config, sizes.layers)),
    }
}

/// Which layers look at a window only, where the config says it.
fn windows(config: &Json, layers: usize) -> Option<Value> {
    let types = config.get("layer_types").and_then(Json::as_array);
    let flags: Vec<bool> = if let Some(types) = types {
        types.iter().map(|t| *t == "sliding_attention").collect()
    } else {
        let step = config
            .get("sliding_window_pattern")
            .and_then(Json::as_u64)?;
        let step = step.max(1) as usize;
        (1..=layers).map(|i| !i.is_multiple_of(step)).collect()
    };
    Some(Value::Array(Array::Bool(flags)))
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
