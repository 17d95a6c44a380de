//! config.json from the keys of a file: the rows of `metadata.rs` and `family.rs` read backwards.

use super::families::FAMILIES;
use super::family::{Family, KeyKind};
use super::granted::Taken;
use super::import_keys::own_keys;
use super::import_rope::{self, short};
use super::metadata::{EXPERTS, KEYS, OPTIONAL};
use super::pooling;
use super::value::Metadata;
use crate::error::{Code, Error, Result};
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};

/// Model types with their classes in transformers, and what loaders of GGUF take for granted
/// beside the rows of `Family::granted`, as JSON members.
const KNOWN: &[(&str, &str, &str)] = &[
    ("llama", "LlamaForCausalLM", "{}"),
    ("mixtral", "MixtralForCausalLM", "{}"),
    ("qwen2", "Qwen2ForCausalLM", "{}"),
    ("qwen2_vl", "Qwen2VLForConditionalGeneration", "{}"),
    ("qwen2_moe", "Qwen2MoeForCausalLM", "{}"),
    ("qwen3", "Qwen3ForCausalLM", "{}"),
    ("qwen3_moe", "Qwen3MoeForCausalLM", "{}"),
    ("gemma2", "Gemma2ForCausalLM", GELU),
    (
        "gemma3_text",
        "Gemma3ForCausalLM",
        r#"{"hidden_activation": "gelu_pytorch_tanh", "sliding_window_pattern": 6,
            "rope_local_base_freq": 10000.0}"#,
    ),
    ("phi3", "Phi3ForCausalLM", "{}"),
    ("glm4", "Glm4ForCausalLM", "{}"),
    ("granite", "GraniteForCausalLM", "{}"),
    ("olmo2", "Olmo2ForCausalLM", "{}"),
    (
        "smollm3",
        "SmolLM3ForCausalLM",
        r#"{"no_rope_layer_interval": 4}"#,
    ),
    ("qwen3_vl", "Qwen3VLForConditionalGeneration", "{}"),
    (
        "deepseek_v2",
        "DeepseekV2ForCausalLM",
        r#"{"topk_method": "greedy"}"#,
    ),
    ("deepseek_v3", "DeepseekV3ForCausalLM", "{}"),
    ("bert", "BertModel", r#"{"hidden_act": "gelu"}"#),
];

const GELU: &str = r#"{"hidden_activation": "gelu_pytorch_tanh"}"#;

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
        let experts = count("expert_count")?;
        // What `Config` allows: a stacked tensor is as many as it has experts.
        for (name, found, most) in [
            ("block_count", layers, 1 << 10),
            ("expert_count", experts, 1 << 12),
        ] {
            if found > most {
                return Err(bad(format!("{} is {found}", own(name))));
            }
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
            family: family(m, arch)?,
            layers,
            head_dim,
            experts,
            context: m.index(&own("context_length"))?.unwrap_or(0),
            arch: arch.into(),
        })
    }

    /// `model_type` of config.json.
    pub(super) fn model_type(&self) -> &str {
        match self.family {
            // One architecture of GGUF, two of transformers.
            Some(family) if family.arch == "llama" && self.experts > 0 => "mixtral",
            Some(family) => family.model_types[0],
            None => &self.arch,
        }
    }
}

/// The row of an architecture; of several the one whose fixed keys the file has.
fn family(m: &Metadata, arch: &str) -> Result<Option<&'static Family>> {
    for row in FAMILIES.iter().filter(|f| f.arch == arch) {
        let mut fits = true;
        for key in row.keys {
            if let KeyKind::Always(n) = key.kind {
                let found = m.index(&format!("{arch}.{}", key.name))?;
                fits &= found.is_none_or(|found| found == u64::from(n));
            }
        }
        if fits {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

/// config.json as transformers would have it. `names` are the tensors of the file, `vocabulary` the
/// rows of its embedding, `classes` those of its scores, `values` those of `import_rope::FACTORS`.
///
/// `config` when a key is missing, `metadata` when one has another type, `unsupported` for what no
/// config.json says.
pub(super) fn config(
    m: &Metadata,
    model: &Model,
    (names, vocabulary, classes): (&BTreeSet<&str>, Option<usize>, Option<usize>),
    values: &BTreeMap<String, Vec<f32>>,
) -> Result<Json> {
    let model_type = model.model_type();
    let known = KNOWN.iter().find(|(name, ..)| *name == model_type);
    let mut config = match known.map(|(.., granted)| serde_json::from_str(granted)) {
        Some(Ok(Json::Object(granted))) => granted,
        _ => Map::new(),
    };
    config.insert("model_type".into(), json!(model_type));
    if let Some((_, class, _)) = known {
        config.insert("architectures".into(), json!([class]));
    }
    for one in model.family.map_or(&[][..], |f| f.granted) {
        match one.value {
            Taken::True => _ = config.insert(one.from.into(), json!(true)),
            Taken::NotTrue => _ = config.insert(one.from.into(), json!(false)),
            Taken::Count(n) => _ = config.insert(one.from.into(), json!(n)),
            Taken::Nothing => {}
        }
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
    if model.family.is_some_and(|f| f.encoder) {
        if let Some(kinds) = m.index("tokenizer.ggml.token_type_count")? {
            config.insert("type_vocab_size".into(), json!(kinds));
        }
        if let Some(classes) = classes {
            pooling::ranks(&mut config, m, (&model.arch, classes))?;
        }
    } else {
        by_tensors(&mut config, model, names);
        import_rope::set(&mut config, m, model, values)?;
    }
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
    let key = match model.model_type() {
        "mixtral" => 0,
        name if name.starts_with("deepseek") => 2,
        _ => 1,
    };
    EXPERTS[key]
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
    if model.experts > 0 && model.arch.starts_with("qwen") {
        let dense = |layer: &usize| !names.contains(&*format!("blk.{layer}.ffn_gate_inp.weight"));
        let dense: Vec<_> = (0..model.layers).filter(dense).collect();
        if !dense.is_empty() {
            config.insert("mlp_only_layers".into(), json!(dense));
        }
    }
}
