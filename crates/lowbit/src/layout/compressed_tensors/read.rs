//! `quantization_config` of compressed-tensors → which module has which scheme.

use super::args::{read_inputs, read_weights};
use super::format::{FORMATS, Format};
use super::{CURRENT, CompressedTensors, fp4, pack, whole};
use crate::error::{Code, Error, Result};
use crate::kv_cache;
use crate::layout::target::Target;
use crate::layout::{Layout, Resolver, Rule};
use crate::scheme::Scheme;
use serde_json::Value;
use std::collections::BTreeMap;

/// A layout for each format, in the order of [`FORMATS`].
static LAYOUTS: [CompressedTensors; 6] = [
    only(&pack::PACK),
    only(&whole::INT),
    only(&whole::FLOAT),
    only(&whole::NAIVE),
    only(&fp4::NVFP4),
    only(&fp4::MXFP4),
];

/// Codes of 3 bits as they lay before version 0.18.
static BEFORE_0_18: CompressedTensors = only(&pack::BEFORE_0_18);

const fn only(format: &'static dyn Format) -> CompressedTensors {
    CompressedTensors {
        format: Some(format),
        old: false,
    }
}

pub(super) fn wrong(what: impl Into<String>) -> Error {
    Error::new(Code::Config, what).at("quantization_config")
}

pub(super) fn unsupported(what: impl Into<String>) -> Error {
    Error::new(Code::Unsupported, what).at("quantization_config")
}

/// Reads what llm-compressor writes; names what it cannot follow.
pub(super) fn config(config: &Value) -> Result<Resolver> {
    let cache = kv_cache::from_config(&config[kv_cache::KEY])?;
    for (key, what) in [
        ("sparsity_config", "sparse weights"),
        ("transform_config", "online rotations"),
    ] {
        if !is_absent(&config[key]) {
            return Err(unsupported(format!("{key}: {what}")));
        }
    }
    let format = config["format"].as_str();
    let groups = config["config_groups"].as_object();
    let groups = groups.ok_or_else(|| wrong("config_groups is missing"))?;
    let old = before_0_18(config)?;
    // A target that two groups name belongs to the later one.
    let mut targets = BTreeMap::new();
    for (name, group) in groups {
        let place = |e: Error| e.at(format!("group {name:?}"));
        let scheme = read_group(group).map_err(place)?;
        let layout = layout(group, format, &scheme, old).map_err(place)?;
        for target in strings(&group["targets"], "targets").map_err(place)? {
            targets.insert(target, (scheme, layout));
        }
    }
    let ignored = match &config["ignore"] {
        Value::Null => Vec::new(),
        ignore => strings(ignore, "ignore")?,
    };
    let rule = |(target, (scheme, layout)): (&str, (Scheme, &'static CompressedTensors))| {
        Ok(Rule {
            target: Target::parse(target)?,
            scheme,
            layout: layout as &dyn Layout,
        })
    };
    let rules = targets.into_iter().map(rule);
    let ignored = ignored.into_iter().map(Target::parse);
    Ok(Resolver::new(
        &CURRENT,
        rules.collect::<Result<_>>()?,
        ignored.collect::<Result<_>>()?,
    )
    .with_cache(cache))
}

/// What reads a group, from its own `format` or that of the whole.
fn layout(
    group: &Value,
    whole: Option<&str>,
    scheme: &Scheme,
    old: bool,
) -> Result<&'static CompressedTensors> {
    let name = group["format"].as_str().or(whole).unwrap_or_default();
    let Some(at) = FORMATS.iter().position(|f| f.name() == name) else {
        let known: Vec<_> = FORMATS.iter().map(|f| f.name()).collect();
        let error = unsupported(format!("format {name:?}"));
        return Err(error.remedy(format!("expected {}", known.join(", "))));
    };
    let accepted = FORMATS[at].accepts(scheme);
    accepted.map_err(|e| unsupported(e.what))?;
    let streams_differ = at == 0 && 32 % scheme.bits != 0;
    Ok(if old && streams_differ {
        &BEFORE_0_18
    } else {
        &LAYOUTS[at]
    })
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

fn read_group(group: &Value) -> Result<Scheme> {
    if group.is_array() {
        let error = unsupported("a preset instead of a scheme");
        return Err(error.remedy("write the preset out as weights and activations"));
    }
    if !group["output_activations"].is_null() {
        return Err(unsupported("output_activations: quantized activations"));
    }
    let weights = group["weights"].as_object();
    let weights = weights.ok_or_else(|| wrong("weights are missing"))?;
    let mut scheme = read_weights(weights)?;
    if let Some(inputs) = group["input_activations"].as_object() {
        scheme.activations = Some(read_inputs(inputs, &scheme)?);
    }
    Ok(scheme)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
