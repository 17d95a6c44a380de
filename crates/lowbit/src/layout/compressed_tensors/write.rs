//! Which module has which scheme → `quantization_config` of compressed-tensors.

use super::format::home;
use crate::scheme::{Activations, Element, Group, Scheme};
use serde_json::{Map, Value, json};

/// The versions whose formats are written: since and before the packing changed.
const VERSIONS: [&str; 2] = ["0.18.0", "0.17.1"];

/// The commonest scheme is for every `Linear`, which loaders need to see for fused experts; other
/// schemes are for the modules they name.
pub(super) fn config(
    assignment: &[(String, Scheme)],
    ignored: &[String],
    by_index: bool,
    old: bool,
) -> Value {
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
            "format": home(scheme).name(),
            "input_activations": activations(scheme),
            "output_activations": null,
        });
        (format!("group_{i}"), group)
    };
    let mut formats: Vec<_> = schemes.iter().map(|(s, _)| home(s).name()).collect();
    formats.dedup();
    let format = match formats[..] {
        [only] => only,
        _ => "mixed-precision",
    };
    let groups: Map<String, Value> = schemes.iter().enumerate().map(group).collect();
    json!({
        "config_groups": groups,
        "format": format,
        "global_compression_ratio": null,
        "ignore": ignored,
        "kv_cache_scheme": null,
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "sparsity_config": {},
        "transform_config": {},
        "version": VERSIONS[usize::from(old)],
    })
}

/// Only keys that every version of compressed-tensors knows: it refuses others.
fn weights(scheme: &Scheme, by_index: bool) -> Value {
    let fp4 = matches!(scheme.element, Element::Nvfp4 | Element::Mxfp4);
    let (strategy, size, block) = match scheme.group {
        Group::Run(n) if scheme.element == Element::Nvfp4 => {
            ("tensor_group", json!(n), json!(null))
        }
        Group::Run(n) => ("group", json!(n), json!(null)),
        Group::Tensor => ("tensor", json!(null), json!(null)),
        Group::Block { rows, cols } => ("block", json!(null), json!([rows, cols])),
        Group::Row | Group::Flat(_) => ("channel", json!(null), json!(null)),
    };
    let integer = scheme.element == Element::Int;
    let mut weights = json!({
        "actorder": if by_index && integer { json!("group") } else { Value::Null },
        "block_structure": block,
        "dynamic": false,
        "group_size": size,
        "num_bits": scheme.bits,
        "strategy": strategy,
        "symmetric": scheme.is_symmetric(),
        "type": if integer { "int" } else { "float" },
    });
    if fp4 {
        let dtype = match scheme.element {
            Element::Nvfp4 => "torch.float8_e4m3fn",
            _ => "torch.uint8",
        };
        weights["scale_dtype"] = json!(dtype);
        weights["zp_dtype"] = json!(dtype);
    }
    weights
}

/// Rounding of inputs: per token, per group of a token beside blocks of weights, or static.
fn activations(scheme: &Scheme) -> Value {
    let Some(Activations { bits, dynamic }) = scheme.activations else {
        return Value::Null;
    };
    if scheme.element == Element::Nvfp4 {
        return json!({
            "actorder": null,
            "block_structure": null,
            "dynamic": "local",
            "group_size": 16,
            "num_bits": bits,
            "observer": "static_minmax",
            "scale_dtype": "torch.float8_e4m3fn",
            "strategy": "tensor_group",
            "symmetric": true,
            "type": "float",
            "zp_dtype": "torch.float8_e4m3fn",
        });
    }
    let (strategy, size) = match (dynamic, scheme.group) {
        (false, _) => ("tensor", Value::Null),
        (true, Group::Block { cols, .. }) => ("group", json!(cols)),
        (true, _) => ("token", Value::Null),
    };
    json!({
        "actorder": null,
        "block_structure": null,
        "dynamic": dynamic,
        "group_size": size,
        "num_bits": bits,
        "strategy": strategy,
        "symmetric": true,
        "type": if scheme.element == Element::Int { "int" } else { "float" },
    })
}
