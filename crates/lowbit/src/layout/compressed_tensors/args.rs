//! The arguments of one quantization: of weights or of inputs.

use super::read::{unsupported, wrong};
use crate::error::Result;
use crate::scheme::{Activations, BITS, Element, Group, Scheme, ZeroPoint};
use serde_json::{Map, Value};

/// Keys whose value decides something, read by name.
const READ: &[&str] = &[
    "num_bits",
    "symmetric",
    "strategy",
    "group_size",
    "observer",
    "type",
    "block_structure",
    "dynamic",
];

/// Keys that must be at their defaults, and what counts as that: anything else is another format.
const FIXED: &[(&str, &[&str])] = &[
    (
        "scale_dtype",
        &[
            "torch.float8_e4m3fn",
            "float8_e4m3fn",
            "torch.uint8",
            "uint8",
        ],
    ),
    (
        "zp_dtype",
        &[
            "torch.int8",
            "int8",
            "torch.float8_e4m3fn",
            "float8_e4m3fn",
            "torch.uint8",
            "uint8",
        ],
    ),
    (
        "actorder",
        &["group", "dynamic", "weight", "static", "false"],
    ),
    ("observer_kwargs", &["{}"]),
];

/// Names a key that is not known, or that has a value that is not.
fn check_keys(args: &Map<String, Value>, place: &str) -> Result<()> {
    for (key, value) in args.iter().filter(|(k, _)| !READ.contains(&k.as_str())) {
        let Some((_, allowed)) = FIXED.iter().find(|(k, _)| k == key) else {
            return Err(unsupported(format!(
                "{place}.{key}, which is not known here"
            )));
        };
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        let settings = key == "observer_kwargs" && value.is_object();
        if !value.is_null() && !settings && !allowed.contains(&text.as_str()) {
            return Err(unsupported(format!("{place}.{key} {text:?}")));
        }
    }
    Ok(())
}

fn bits_of(args: &Map<String, Value>, place: &str) -> Result<u8> {
    let bits = args.get("num_bits").map_or(Some(8), Value::as_u64);
    let bits = bits.and_then(|b| u8::try_from(b).ok()).unwrap_or(0);
    if !BITS.contains(&bits) {
        let shown = args.get("num_bits").unwrap_or(&Value::Null);
        return Err(unsupported(format!("{place}.num_bits {shown}")));
    }
    Ok(bits)
}

/// A boolean that is absent, null or there.
fn flag(args: &Map<String, Value>, key: &str, place: &str, default: bool) -> Result<bool> {
    match args.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Bool(value)) => Ok(*value),
        Some(other) => match key {
            "dynamic" => Err(unsupported(format!("{place}.dynamic {other}"))),
            _ => Err(wrong(format!("{place}.{key} is not a bool"))),
        },
    }
}

fn kind(args: &Map<String, Value>) -> &str {
    args.get("type").and_then(Value::as_str).unwrap_or("int")
}

/// The scheme of weights, without rounding of inputs.
pub(super) fn read_weights(weights: &Map<String, Value>) -> Result<Scheme> {
    check_keys(weights, "weights")?;
    let bits = bits_of(weights, "weights")?;
    let symmetric = flag(weights, "symmetric", "weights", true)?;
    if flag(weights, "dynamic", "weights", false)? {
        return Err(unsupported("weights.dynamic true"));
    }
    let (group, nvfp4) = read_group_size(weights)?;
    let element = match (kind(weights), bits, group) {
        ("int", ..) => Element::Int,
        ("float", 8, _) if symmetric => Element::Fp8,
        ("float", 4, _) if nvfp4 && symmetric => Element::Nvfp4,
        ("float", 4, Group::Run(32)) if symmetric => Element::Mxfp4,
        (other, ..) => {
            let what = format!("weights.type {other:?} with {bits} bits in these groups");
            return Err(unsupported(what));
        }
    };
    Ok(Scheme {
        element,
        zero: if symmetric {
            ZeroPoint::None
        } else {
            ZeroPoint::Int
        },
        ..Scheme::weights(bits, group, symmetric)
    })
}

/// Rounding of inputs in 8 bits of the weights' kind, or of NVFP4's in its own 4.
pub(super) fn read_inputs(inputs: &Map<String, Value>, scheme: &Scheme) -> Result<Activations> {
    let place = "input_activations";
    check_keys(inputs, place)?;
    if scheme.element == Element::Nvfp4 {
        return read_small(inputs, scheme);
    }
    let integer = scheme.element == Element::Int;
    let bits = bits_of(inputs, place)?;
    if bits != 8 || kind(inputs) != if integer { "int" } else { "float" } {
        let what = format!("{place} of {bits} bits and type {:?}", kind(inputs));
        return Err(unsupported(what).remedy("expected 8 bits of the weights' type"));
    }
    if !flag(inputs, "symmetric", place, true)? {
        return Err(unsupported(format!("{place}.symmetric false")));
    }
    let dynamic = flag(inputs, "dynamic", place, false)?;
    let strategy = inputs.get("strategy").and_then(Value::as_str);
    let size = inputs.get("group_size").and_then(Value::as_u64);
    let known = match (dynamic, strategy, scheme.group) {
        (false, Some("tensor") | None, _) => true,
        (true, Some("token"), group) => !matches!(group, Group::Block { .. }),
        (true, Some("group"), Group::Block { cols, .. }) => size == Some(cols as u64),
        _ => false,
    };
    if !known {
        let strategy = strategy.unwrap_or_default();
        let what = format!("{place}.strategy {strategy:?}, dynamic {dynamic}, for {scheme}");
        return Err(unsupported(what));
    }
    Ok(Activations { bits, dynamic })
}

/// E2M1 in the groups of the weights, scaled at run time under one scale from calibration.
fn read_small(inputs: &Map<String, Value>, scheme: &Scheme) -> Result<Activations> {
    let is = |key: &str, wanted: Value| inputs.get(key) == Some(&wanted);
    let known = is("num_bits", 4.into())
        && is("type", "float".into())
        && is("dynamic", "local".into())
        && is("strategy", "tensor_group".into())
        && is("group_size", 16.into())
        && flag(inputs, "symmetric", "input_activations", true)?;
    if known {
        let (bits, dynamic) = (4, false);
        return Ok(Activations { bits, dynamic });
    }
    let what = format!("input_activations other than 4-bit floats in local groups, for {scheme}");
    Err(unsupported(what))
}

/// Which weights share a scale, and whether the matrix has a scale above that.
fn read_group_size(weights: &Map<String, Value>) -> Result<(Group, bool)> {
    let size = weights.get("group_size").and_then(Value::as_i64);
    let strategy = weights.get("strategy").and_then(Value::as_str);
    let block = weights.get("block_structure").filter(|b| !b.is_null());
    let group = match (strategy, size) {
        (Some("group" | "tensor_group") | None, Some(n)) if n > 0 => {
            let n = usize::try_from(n).map_err(|_| wrong("weights.group_size"))?;
            Group::Run(n)
        }
        (Some("channel"), None | Some(-1)) | (None, Some(-1)) => Group::Row,
        (Some("block"), _) => read_block(block)?,
        (Some("tensor") | None, None) => Group::Tensor,
        (Some(strategy @ ("group" | "tensor_group" | "channel" | "tensor")), size) => {
            let size = size.map_or_else(|| "null".into(), |n| n.to_string());
            return Err(wrong(format!(
                "weights.strategy {strategy:?} with group_size {size}"
            )));
        }
        (strategy, _) => {
            let strategy = strategy.unwrap_or("tensor");
            return Err(unsupported(format!("weights.strategy {strategy:?}")));
        }
    };
    if block.is_some() && !matches!(group, Group::Block { .. }) {
        return Err(unsupported(
            "weights.block_structure without strategy \"block\"",
        ));
    }
    Ok((group, strategy == Some("tensor_group") && size == Some(16)))
}

fn read_block(block: Option<&Value>) -> Result<Group> {
    let sizes = block.and_then(Value::as_array);
    let sizes: Option<Vec<_>> = sizes.map(|b| b.iter().filter_map(Value::as_u64).collect());
    match sizes.as_deref() {
        Some([rows @ 1..=0xffff, cols @ 1..=0xffff]) => Ok(Group::Block {
            rows: *rows as usize,
            cols: *cols as usize,
        }),
        _ => Err(wrong("weights.block_structure is not two sizes")),
    }
}
