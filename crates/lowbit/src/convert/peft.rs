//! What PEFT writes about an adapter: settings, patterns, names of tensors.

use crate::error::{Code, Error, Result};
use regex_lite::Regex;
use serde_json::Value;

/// Settings that change what a merge is, and the values with which they change nothing.
const REFUSED: &[(&str, &str)] = &[
    ("use_dora", "DoRA, which scales the merged weights anew"),
    ("lora_bias", "biases of factors"),
    ("layer_replication", "replicated layers"),
    ("target_parameters", "factors of parameters outside linears"),
    ("trainable_token_indices", "single trained tokens"),
    (
        "megatron_config",
        "factors that are cut for several devices",
    ),
    ("use_qalora", "factors over groups of inputs"),
    ("alora_invocation_tokens", "adapters that wait for a text"),
    ("arrow_config", "routed adapters"),
];

/// First values of factors that leave the weights of the base model alone.
const STARTS: &[&str] = &["gaussian", "eva", "orthogonal", "true", "false"];

/// `unsupported` names a kind of adapter that is not merged.
pub(super) fn refuse(config: &Value) -> Result<()> {
    let kind = config["peft_type"].as_str().unwrap_or("LORA");
    if kind != "LORA" {
        let error = wrong(Code::Unsupported, format!("peft_type {kind:?}"));
        return Err(error.remedy("expected LORA"));
    }
    for (key, what) in REFUSED {
        let value = &config[key];
        let empty = value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(serde_json::Map::is_empty);
        if !(value.is_null() || value == false || empty) {
            let error = wrong(Code::Unsupported, format!("{key}: {what}"));
            return Err(error.remedy("merge the adapter with PEFT first"));
        }
    }
    let start = &config["init_lora_weights"];
    let start = start
        .as_str()
        .map_or_else(|| start.to_string(), str::to_lowercase);
    if start != "null" && !STARTS.contains(&&*start) {
        let what = format!("init_lora_weights {start:?} changed the weights of its base");
        let error = wrong(Code::Unsupported, what);
        return Err(
            error.remedy("save the adapter converted to LoRA, as PEFT's documentation says")
        );
    }
    Ok(())
}

/// Patterns over the ends of module names, as PEFT matches them, with a number each.
pub(super) fn patterns(value: &Value) -> Result<Vec<(Regex, f64)>> {
    let pairs = value.as_object().into_iter().flatten();
    pairs
        .map(|(key, number)| {
            let bad = || wrong(Code::Config, format!("pattern {key:?} with {number}"));
            let regex = Regex::new(&format!("^(?:.*\\.)?(?:{key})$")).map_err(|_| bad())?;
            Ok((regex, number.as_f64().ok_or_else(bad)?))
        })
        .collect()
}

pub(super) fn pattern(patterns: &[(Regex, f64)], module: &str) -> Option<f64> {
    let found = patterns.iter().find(|(regex, _)| regex.is_match(module));
    found.map(|(_, number)| *number)
}

/// What a tensor of an adapter is, with the module or tensor of the model that it is for.
pub(super) enum Role {
    A(String),
    B(String),
    Whole(String),
}

/// Endings of factors, and whether they are A.
const FACTORS: &[(&str, bool)] = &[
    (".lora_A.weight", true),
    (".lora_B.weight", false),
    (".lora_embedding_A", true),
    (".lora_embedding_B", false),
];

pub(super) fn is_embedding(name: &str) -> bool {
    name.ends_with(".lora_embedding_A")
}

pub(super) fn role(name: &str) -> Result<Role> {
    let own = name.strip_prefix("base_model.model.").unwrap_or(name);
    for (ending, is_a) in FACTORS {
        if let Some(module) = own.strip_suffix(ending) {
            let module = module.to_owned();
            return Ok(if *is_a {
                Role::A(module)
            } else {
                Role::B(module)
            });
        }
    }
    if own.contains(".lora_") {
        let what = format!("tensor {name:?} is no factor of a plain LoRA");
        return Err(wrong(Code::Unsupported, what).remedy("merge the adapter with PEFT first"));
    }
    Ok(Role::Whole(own.replace(".base_layer.", ".")))
}

/// An error about the adapter.
pub(super) fn wrong(code: Code, what: String) -> Error {
    Error::new(code, what).at("the adapter")
}
