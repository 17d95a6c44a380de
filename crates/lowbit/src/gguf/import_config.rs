//! config.json from the keys of a file: the rows of `metadata.rs` and `family.rs` read backwards.

use super::family::{FAMILIES, Family, KeyKind};
use super::import_rope::{self, short};
use super::metadata::{EXPERTS, KEYS, OPTIONAL};
use super::value::Metadata;
use crate::error::{Code, Error, Result};
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};

/// What a model of a GGUF architecture is to transformers.
struct Known {
    /// The value of `general.architecture`.
    arch: &'static str,
    /// Whether it has experts.
    experts: bool,
    model_type: &'static str,
    class: &'static str,
    /// What loaders of GGUF take for granted and no key says, as JSON members.
    granted: &'static str,
}

const fn known(arch: &'static str, model_type: &'static str, class: &'static str) -> Known {
    Known {
        arch,
        experts: false,
        model_type,
        class,
        granted: "{}",
    }
}

const KNOWN: &[Known] = &[
    known("llama", "llama", "LlamaForCausalLM"),
    Known {
        experts: true,
        ..known("llama", "mixtral", "MixtralForCausalLM")
    },
    known("qwen2", "qwen2", "Qwen2ForCausalLM"),
    Known {
        experts: true,
        granted: r#"{"norm_topk_prob": false}"#,
        ..known("qwen2moe", "qwen2_moe", "Qwen2MoeForCausalLM")
    },
    known("qwen3", "qwen3", "Qwen3ForCausalLM"),
    Known {
        experts: true,
        granted: r#"{"norm_topk_prob": true}"#,
        ..known("qwen3moe", "qwen3_moe", "Qwen3MoeForCausalLM")
    },
    Known {
        granted: r#"{"hidden_activation": "gelu_pytorch_tanh"}"#,
        ..known("gemma2", "gemma2", "Gemma2ForCausalLM")
    },
    Known {
        granted: r#"{"hidden_activation": "gelu_pytorch_tanh", "sliding_window_pattern": 6,
            "rope_local_base_freq": 10000.0}"#,
        ..known("gemma3", "gemma3_text", "Gemma3ForCausalLM")
    },
    known("phi3", "phi3", "Phi3ForCausalLM"),
    known("glm4", "glm4", "Glm4ForCausalLM"),
    known("granite", "granite", "GraniteForCausalLM"),
    known("olmo2", "olmo2", "Olmo2ForCausalLM"),
    Known {
        granted: r#"{"no_rope_layer_interval": 4}"#,
        ..known("smollm3", "smollm3", "SmolLM3ForCausalLM")
    },
    Known {
        experts: true,
        ..known("deepseek2", "deepseek_v3", "DeepseekV3ForCausalLM")
    },
];

/// Layers of the one Gemma 2 whose scores are not over the root of a head's width.
const GEMMA2_LARGEST: usize = 46;

/// What the rest of the import needs to know of a model.
#[derive(Debug)]
pub(super) struct Model {
    /// The value of `general.architecture`.
    pub(super) arch: String,
    /// Its row, if there is one.
    pub(super) family: Option<&'static Family>,
    pub(super) layers: usize,
    pub(super) head_dim: usize,
    pub(super) experts: usize,
    pub(super) context: u64,
}

fn bad(what: impl Into<String>) -> Error {
    Error::new(Code::Config, what).at("the metadata")
}

/// One integer for the whole model; `unsupported` when layers differ.
fn uniform(m: &Metadata, key: &str, layers: usize) -> Result<Option<u64>> {
    let Some(values) = m.per_layer(key, layers)? else {
        return Ok(None);
    };
    if values.iter().any(|v| *v != values[0]) {
        let what = format!("{key} differs from layer to layer");
        return Err(Error::new(Code::Unsupported, what).at("the metadata"));
    }
    Ok(values.first().copied())
}

impl Model {
    /// Reads the sizes; `metadata` for values of another type, `config` for what cannot be.
    pub(super) fn read(m: &Metadata) -> Result<Self> {
        let arch = m.string("general.architecture")?;
        let arch = arch.ok_or_else(|| bad("general.architecture is missing"))?;
        let own = |name: &str| format!("{arch}.{name}");
        let count = |name: &str| -> Result<usize> {
            let found = m.index(&own(name))?.unwrap_or(0);
            let fits = usize::try_from(found).ok().filter(|n| *n <= 1 << 24);
            fits.ok_or_else(|| bad(format!("{} is {found}", own(name))))
        };
        let layers = count("block_count")?;
        if layers > 1 << 10 {
            return Err(bad(format!("{} is {layers}", own("block_count"))));
        }
        let heads = uniform(m, &own("attention.head_count"), layers)?.unwrap_or(0);
        let heads = usize::try_from(heads).unwrap_or(0).max(1);
        let head_dim = match (
            count("attention.key_length")?,
            count("rope.dimension_count")?,
        ) {
            (0, _) if count("embedding_length")? > 0 => count("embedding_length")? / heads,
            (0, rotated) => rotated,
            (width, _) => width,
        };
        Ok(Self {
            family: FAMILIES.iter().find(|f| f.arch == arch),
            layers,
            head_dim,
            experts: count("expert_count")?,
            context: m.index(&own("context_length"))?.unwrap_or(0),
            arch: arch.into(),
        })
    }

    fn known(&self) -> Option<&'static Known> {
        let is = |k: &&Known| k.arch == self.arch && k.experts == (self.experts > 0);
        KNOWN.iter().find(is)
    }
}

/// config.json as transformers would have it. `names` are the tensors of the file, `values` those
/// of `import_rope::FACTORS`.
///
/// `config` when a key is missing, `metadata` when one has another type, `unsupported` for what no
/// config.json says.
pub(super) fn config(
    m: &Metadata,
    model: &Model,
    (names, vocabulary): (&BTreeSet<&str>, Option<usize>),
    values: &BTreeMap<String, Vec<f32>>,
) -> Result<Json> {
    let mut config = match model.known().map(|k| serde_json::from_str(k.granted)) {
        Some(Ok(Json::Object(granted))) => granted,
        _ => Map::new(),
    };
    let class = model.known().map(|k| (k.model_type, k.class));
    let (model_type, class) = class.unwrap_or((&model.arch, ""));
    config.insert("model_type".into(), json!(model_type));
    if !class.is_empty() {
        config.insert("architectures".into(), json!([class]));
    }
    // What other tools compute in; nothing that runs here asks for it.
    config.insert("torch_dtype".into(), json!("bfloat16"));
    sizes(&mut config, m, model)?;
    own_keys(&mut config, m, model)?;
    if let Some(rows) = vocabulary {
        config.insert("vocab_size".into(), json!(rows));
    }
    let tied = !names.contains("output.weight");
    config.insert("tie_word_embeddings".into(), json!(tied));
    by_tensors(&mut config, model, names);
    import_rope::set(&mut config, m, model, values)?;
    for word in ["bos", "eos"] {
        if let Some(id) = m.index(&format!("tokenizer.ggml.{word}_token_id"))? {
            config.insert(format!("{word}_token_id"), json!(id));
        }
    }
    Ok(Json::Object(config))
}

/// Keys that all families have.
fn sizes(config: &mut Map<String, Json>, m: &Metadata, model: &Model) -> Result<()> {
    let own = |name: &str| format!("{}.{name}", model.arch);
    config.insert("num_hidden_layers".into(), json!(model.layers));
    for (name, to, is_float) in KEYS {
        let value = if *is_float {
            m.float(&own(name))?.map(|v| json!(short(v)))
        } else {
            uniform(m, &own(name), model.layers)?.map(|v| json!(v))
        };
        match value {
            Some(value) => _ = config.insert(to[0].into(), value),
            // Its own default, or as many as there are heads.
            None if *is_float || to.len() > 1 || model.family.is_none() => {}
            None => return Err(bad(format!("{} is missing", own(name)))),
        }
    }
    for (name, to) in OPTIONAL {
        let Some(value) = uniform(m, &own(name), model.layers)?.filter(|v| *v > 0) else {
            continue;
        };
        let key = if to[0] == EXPERTS[0] {
            experts_key(model)
        } else {
            to[0]
        };
        // The first of several keys with one name in config.json counts.
        config.entry(key).or_insert_with(|| json!(value));
    }
    // Families differ in what a missing width means.
    if model.head_dim > 0 {
        config.entry("head_dim").or_insert(json!(model.head_dim));
    }
    Ok(())
}

/// Under which of its names the config has the number of experts.
fn experts_key(model: &Model) -> &'static str {
    let family = model.known().map_or("", |k| k.model_type);
    let key = match family {
        "mixtral" => 0,
        _ if family.starts_with("deepseek") => 2,
        _ => 1,
    };
    EXPERTS[key]
}

/// The family's own keys, and what follows from others.
fn own_keys(config: &mut Map<String, Json>, m: &Metadata, model: &Model) -> Result<()> {
    for key in model.family.map_or(&[][..], |f| f.keys) {
        let name = format!("{}.{}", model.arch, key.name);
        let value = match key.kind {
            KeyKind::HeadDim => None,
            KeyKind::Count | KeyKind::MaybeCount => m.index(&name)?.map(|v| json!(v)),
            KeyKind::Float | KeyKind::MaybeFloat => m.float(&name)?.map(|v| json!(short(v))),
        };
        if let Some(value) = value {
            config.insert(key.from.into(), value);
        }
    }
    let pattern = format!("{}.attention.sliding_window_pattern", model.arch);
    if let Some(every) = m.get(&pattern).and_then(super::Value::as_index) {
        config.insert("sliding_window_pattern".into(), json!(every));
    }
    if model.arch.starts_with("gemma") {
        let width = match config
            .get("hidden_size")
            .zip(config.get("num_attention_heads"))
        {
            Some((hidden, heads)) if model.arch == "gemma2" && model.layers == GEMMA2_LARGEST => {
                let of = |v: &Json| v.as_u64().unwrap_or(1).max(1);
                of(hidden) / of(heads)
            }
            _ => model.head_dim as u64,
        };
        config.insert("query_pre_attn_scalar".into(), json!(width));
    }
    Ok(())
}

/// What only the tensors tell: biases, and which blocks have experts.
fn by_tensors(config: &mut Map<String, Json>, model: &Model, names: &BTreeSet<&str>) {
    for (key, part) in [
        ("attention_bias", "attn_q.bias"),
        ("mlp_bias", "ffn_up.bias"),
    ] {
        let there = names.contains(&*format!("blk.0.{part}"));
        config.insert(key.into(), json!(there));
    }
    if model.experts > 0 {
        let dense = |layer: &usize| !names.contains(&*format!("blk.{layer}.ffn_gate_inp.weight"));
        let dense: Vec<_> = (0..model.layers).filter(dense).collect();
        if !dense.is_empty() {
            config.insert("mlp_only_layers".into(), json!(dense));
        }
    }
}
