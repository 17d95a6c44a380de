//! How a checkpoint says it is quantized, from its config and the headers of its files.

use super::models::tensors;
use super::parse::parse;
use super::runs::runs;
use crate::error::Result;
use crate::layout::{self, Resolver};
use crate::model::config::Config;
use crate::model::joined;
use crate::model::load::{Loader, Source, TensorInfo};
use crate::scheme::Scheme;
use crate::tensor::{Dtype, checked_bytes};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A checkpoint without its data.
#[derive(Debug, Deserialize)]
struct Description {
    config: Value,
    tensors: Vec<Value>,
}

/// JSON `{ format, problem, kvCache, runs, torn, tensors: [{ scheme, weights, codes }] }`, tensors in the
/// given order.
///
/// `format` is null for an original. `problem` says why a quantization cannot be followed; its
/// tensors count as plain ones. `weights` is how many values of the original a tensor stands for:
/// 0 for scales and everything else beside the codes. `torn` names two linears that engines join
/// and that differ.
pub(super) fn describe(request: &str) -> Result<String> {
    let request: Description = parse("checkpoint", request)?;
    let infos = tensors(request.tensors)?;
    let (resolver, problem) = match layout::detect(&request.config) {
        Ok(resolver) => (resolver, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let parts = resolver
        .as_ref()
        .map_or_else(BTreeMap::new, |r| parts(r, &infos));
    let row = |info: &TensorInfo| -> Result<Value> {
        let found = parts.get(&*info.name);
        let count = info.shape.iter().product::<usize>() as u64;
        Ok(json!({
            "scheme": blocks(info).or(found.map(|part| part.scheme.to_string())),
            "weights": found.map_or(Ok(count), |part| part.weights(info))?,
            "codes": found.is_some_and(|part| part.codes) || blocks(info).is_some(),
        }))
    };
    let rows = infos.iter().map(row).collect::<Result<Vec<_>>>()?;
    let config = &request.config["quantization_config"];
    let named = config["format"]
        .as_str()
        .or(config["quant_method"].as_str());
    let format = named.or(resolver.as_ref().map(|r| r.layout.name()));
    let cache = resolver.as_ref().and_then(|r| r.cache).map(|c| c.name);
    let mut found = json!({
        "format": format, "problem": problem, "kvCache": cache, "tensors": rows,
    });
    let schemes = modules(&parts);
    let source = Source {
        tensors: infos,
        config: request.config,
    };
    let loader = Loader::new(&source);
    found["runs"] = runs(&source, &loader);
    let loader = loader.ok().filter(|_| resolver.is_some());
    found["torn"] = json!(loader.and_then(|l| torn(l.config(), &schemes)));
    Ok(found.to_string())
}

/// Schemes of quantized matrices by module.
fn modules(parts: &BTreeMap<&str, Part>) -> BTreeMap<String, Scheme> {
    let row = |part: &Part| (part.module.clone(), part.scheme);
    parts.values().map(row).collect()
}

/// What servers would join and cannot.
fn torn(model: &Config, schemes: &BTreeMap<String, Scheme>) -> Option<String> {
    joined::torn(model, |module| schemes.get(module).map(Scheme::to_string))
}

/// Blocks are codes and scales in one; the name of their type says all.
fn blocks(info: &TensorInfo) -> Option<String> {
    match info.dtype {
        Dtype::Blocks(ty) => Some(ty.name.into()),
        _ => None,
    }
}

/// A tensor of a quantized matrix.
struct Part {
    module: String,
    scheme: Scheme,
    /// Whether it holds the codes.
    codes: bool,
}

impl Part {
    fn weights(&self, info: &TensorInfo) -> Result<u64> {
        if !self.codes {
            return Ok(0);
        }
        let bits = u64::from(self.scheme.bits);
        Ok(8 * checked_bytes(info.dtype, &info.shape)? / bits)
    }
}

/// The tensors of quantized matrices by name.
fn parts<'a>(resolver: &Resolver, infos: &'a [TensorInfo]) -> BTreeMap<&'a str, Part> {
    let names: BTreeSet<&str> = infos.iter().map(|t| &*t.name).collect();
    let of_name = |t: &'a TensorInfo| Some((&*t.name, part(resolver, &names, &t.name)?));
    infos.iter().filter_map(of_name).collect()
}

fn part(resolver: &Resolver, names: &BTreeSet<&str>, name: &str) -> Option<Part> {
    let found = resolver.member(name, |name| names.contains(name))?;
    Some(Part {
        module: found.module.to_owned(),
        scheme: found.rule.scheme,
        codes: resolver.layout.codes().contains(&found.ending),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(config: &Value, tensors: &[(&str, &str, &[usize])]) -> Value {
        let list: Vec<_> = tensors
            .iter()
            .map(|(name, dtype, shape)| json!({ "name": name, "dtype": dtype, "shape": shape }))
            .collect();
        let request = json!({ "config": { "quantization_config": config }, "tensors": list });
        serde_json::from_str(&describe(&request.to_string()).unwrap()).unwrap()
    }

    #[test]
    fn tensors_are_told_apart_by_what_lies_beside_them() {
        let config = json!({
            "quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4",
        });
        let found = described(
            &config,
            &[
                ("a.weight", "U8", &[4096, 1]),
                ("a.weight.absmax", "F32", &[128]),
                ("norm.weight", "F32", &[64]),
            ],
        );
        assert_eq!(found["format"], "bitsandbytes");
        let tensors = json!([
            { "scheme": "nf4", "weights": 8192, "codes": true },
            { "scheme": "nf4", "weights": 0, "codes": false },
            { "scheme": null, "weights": 64, "codes": false },
        ]);
        assert_eq!(found["tensors"], tensors);
    }

    #[test]
    fn what_cannot_be_followed_is_described_all_the_same() {
        let config = json!({ "quant_method": "quark" });
        let found = described(&config, &[("a.weight", "U8", &[8, 2])]);
        assert_eq!(found["format"], "quark");
        assert!(found["problem"].as_str().unwrap().contains("quark"));
        assert_eq!(found["tensors"][0]["weights"], 16);
        let original = described(&Value::Null, &[("a.weight", "BF16", &[8, 2])]);
        assert_eq!(
            (&original["format"], &original["problem"]),
            (&Value::Null, &Value::Null)
        );
    }
}
