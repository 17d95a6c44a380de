//! `quantization_config` of compressed-tensors ⇄ which module has which scheme.

use super::super::Resolver;
use super::super::target::Target;
use super::{BEFORE_0_18, CURRENT};
use crate::error::{Code, Error, Result};
use crate::scheme::{BITS, Group, Scheme};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const FORMAT: &str = "pack-quantized";
/// The version whose bit stream is written.
const VERSION: &str = "0.18.0";

/// The commonest scheme is for every `Linear`, which loaders need to see for fused experts; other
/// schemes are for the modules they name.
pub(super) fn write(assignment: &[(String, Scheme)], ignored: &[String], by_index: bool) -> Value {
    let mut schemes: Vec<(Scheme, Vec<&str>)> = Vec::new();
    for (module, scheme) in assignment {
        match schemes.iter_mut().find(|(s, _)| s == scheme) {
            Some((_, modules)) => modules.push(module),
            None => schemes.push((*scheme, vec![module])),
        }
    }
    // The commonest comes last: compressed-tensors stops at the first target that fits and warns of
    // names that it then never looks for.
    schemes.sort_by_key(|(_, modules)| modules.len());
    let last = schemes.len().saturating_sub(1);
    let group = |(i, (scheme, modules)): (usize, &(Scheme, Vec<&str>))| {
        let targets = if i == last {
            json!(["Linear"])
        } else {
            json!(modules)
        };
        let group = json!({
            "targets": targets,
            "weights": weights(scheme, by_index),
            "format": FORMAT,
            "input_activations": null,
            "output_activations": null,
        });
        (format!("group_{i}"), group)
    };
    let groups: Map<String, Value> = schemes.iter().enumerate().map(group).collect();
    json!({
        "config_groups": groups,
        "format": FORMAT,
        "global_compression_ratio": null,
        "ignore": ignored,
        "kv_cache_scheme": null,
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "sparsity_config": {},
        "transform_config": {},
        "version": VERSION,
    })
}

/// Only keys that every version of compressed-tensors knows: it refuses others.
fn weights(scheme: &Scheme, by_index: bool) -> Value {
    let (strategy, size) = match scheme.group {
        Group::Run(n) => ("group", json!(n)),
        _ => ("channel", Value::Null),
    };
    json!({
        "actorder": if by_index { json!("group") } else { Value::Null },
        "block_structure": null,
        "dynamic": false,
        "group_size": size,
        "num_bits": scheme.bits,
        "strategy": strategy,
        "symmetric": scheme.is_symmetric(),
        "type": "int",
    })
}

fn wrong(what: impl Into<String>) -> Error {
    Error::new(Code::Config, what).at("quantization_config")
}

fn unsupported(what: impl Into<String>) -> Error {
    Error::new(Code::Unsupported, what).at("quantization_config")
}

/// Reads what `write` and llm-compressor write; names what it cannot follow.
pub(super) fn read(config: &Value) -> Result<Resolver> {
    for (key, what) in [
        ("kv_cache_scheme", "a quantized KV cache"),
        ("sparsity_config", "sparse weights"),
        ("transform_config", "online rotations"),
    ] {
        if !is_absent(&config[key]) {
            return Err(unsupported(format!("{key}: {what}")));
        }
    }
    let format = config["format"].as_str().unwrap_or_default();
    if !matches!(format, FORMAT | "mixed-precision") {
        let error = unsupported(format!("format {format:?}"));
        return Err(error.remedy(format!("expected {FORMAT:?}")));
    }
    let groups = config["config_groups"].as_object();
    let groups = groups.ok_or_else(|| wrong("config_groups is missing"))?;
    // A target that two groups name belongs to the later one.
    let mut targets = BTreeMap::new();
    for (name, group) in groups {
        let place = |e: Error| e.at(format!("group {name:?}"));
        let scheme = read_group(group, format).map_err(place)?;
        for target in strings(&group["targets"], "targets").map_err(place)? {
            targets.insert(target, scheme);
        }
    }
    let ignored = match &config["ignore"] {
        Value::Null => Vec::new(),
        ignore => strings(ignore, "ignore")?,
    };
    let odd = targets.values().any(|s| 32 % s.bits != 0);
    let old = before_0_18(config)?;
    let layout = if old && odd { &BEFORE_0_18 } else { &CURRENT };
    let parsed = targets.into_iter().map(|(t, s)| Ok((Target::parse(t)?, s)));
    let ignored = ignored.into_iter().map(Target::parse);
    Ok(Resolver::new(
        layout,
        parsed.collect::<Result<_>>()?,
        ignored.collect::<Result<_>>()?,
    ))
}

/// Null, empty, or a format that says "none".
fn is_absent(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty() || map.get("format").is_some_and(|f| f == "dense"),
        _ => false,
    }
}

fn strings<'a>(value: &'a Value, key: &str) -> Result<Vec<&'a str>> {
    let list = value
        .as_array()
        .map(|l| l.iter().map(Value::as_str).collect());
    list.flatten()
        .ok_or_else(|| wrong(format!("{key} is not a list of strings")))
}

/// Which bit stream 3-bit codes have; files without a version are taken as current.
fn before_0_18(config: &Value) -> Result<bool> {
    let Some(version) = config.get("version").filter(|v| !v.is_null()) else {
        return Ok(false);
    };
    let text = version.as_str().unwrap_or_default();
    let mut numbers = text.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor) < (0, 18)),
        _ => Err(wrong(format!("cannot read version {version}"))),
    }
}

fn read_group(group: &Value, format: &str) -> Result<Scheme> {
    if group.is_array() {
        let error = unsupported("a preset instead of a scheme");
        return Err(error.remedy("write the preset out as weights and activations"));
    }
    for key in ["input_activations", "output_activations"] {
        if !group[key].is_null() {
            return Err(unsupported(format!("{key}: quantized activations")));
        }
    }
    match group["format"].as_str() {
        Some(FORMAT) => {}
        None if format == FORMAT => {}
        other => {
            return Err(unsupported(format!(
                "format {:?}",
                other.unwrap_or_default()
            )));
        }
    }
    let weights = group["weights"].as_object();
    read_weights(weights.ok_or_else(|| wrong("weights are missing"))?)
}

/// What pack-quantized leaves at its defaults, by key: anything else is another format.
const FIXED: &[(&str, &[&str])] = &[
    ("type", &["int"]),
    ("dynamic", &["false"]),
    ("block_structure", &[]),
    ("scale_dtype", &[]),
    ("zp_dtype", &["torch.int8", "int8"]),
    (
        "actorder",
        &["group", "dynamic", "weight", "static", "false"],
    ),
    ("observer_kwargs", &["{}"]),
];

fn read_weights(weights: &Map<String, Value>) -> Result<Scheme> {
    let free = [
        "num_bits",
        "symmetric",
        "strategy",
        "group_size",
        "observer",
    ];
    for (key, value) in weights.iter().filter(|(k, _)| !free.contains(&k.as_str())) {
        let Some((_, allowed)) = FIXED.iter().find(|(k, _)| k == key) else {
            return Err(unsupported(format!(
                "weights.{key}, which is not known here"
            )));
        };
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        let settings = key == "observer_kwargs" && value.is_object();
        if !value.is_null() && !settings && !allowed.contains(&text.as_str()) {
            return Err(unsupported(format!("weights.{key} {text:?}")));
        }
    }
    let bits = weights.get("num_bits").map_or(Some(8), Value::as_u64);
    let bits = bits.and_then(|b| u8::try_from(b).ok()).unwrap_or(0);
    if !BITS.contains(&bits) {
        let shown = weights.get("num_bits").unwrap_or(&Value::Null);
        return Err(unsupported(format!("weights.num_bits {shown}")));
    }
    let symmetric = match weights.get("symmetric") {
        None => true,
        Some(value) => value
            .as_bool()
            .ok_or_else(|| wrong("weights.symmetric is not a bool"))?,
    };
    Ok(Scheme::weights(bits, read_group_size(weights)?, symmetric))
}

fn read_group_size(weights: &Map<String, Value>) -> Result<Group> {
    let size = weights.get("group_size").and_then(Value::as_i64);
    let strategy = weights.get("strategy").and_then(Value::as_str);
    match (strategy, size) {
        (Some("group") | None, Some(n)) if n > 0 => {
            let n = usize::try_from(n).map_err(|_| wrong("weights.group_size"))?;
            Ok(Group::Run(n))
        }
        (Some("channel"), None | Some(-1)) | (None, Some(-1)) => Ok(Group::Row),
        (Some(strategy @ ("group" | "channel")), size) => {
            let size = size.map_or_else(|| "null".into(), |n| n.to_string());
            Err(wrong(format!(
                "weights.strategy {strategy:?} with group_size {size}"
            )))
        }
        (strategy, _) => {
            let strategy = strategy.unwrap_or("tensor");
            Err(unsupported(format!("weights.strategy {strategy:?}")))
        }
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
