//! What a tensor is to a mix, by its name and shape.

use super::types::{F16, IQ4_NL, Q4_0, Q5_0, Q5_1, Q8_0, Type};

/// What a tensor is to the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Value projections, and fused ones that hold the values.
    Value,
    Key,
    /// Output projection of attention.
    Output,
    Down,
    /// Experts in one tensor of three dimensions.
    Stacked,
    Head,
    Embedding,
    Other,
}

/// Parts of names and what they say, the first that is found.
const KINDS: &[(&str, Kind)] = &[
    ("attn_qkv.weight", Kind::Value),
    ("attn_kv_b.weight", Kind::Value),
    ("attn_v.weight", Kind::Value),
    ("attn_k.weight", Kind::Key),
    ("attn_output.weight", Kind::Output),
    ("ffn_down", Kind::Down),
];

/// Name endings and parts of tensors that stay floats.
const KEPT: &[&str] = &[
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_inp_shexp.weight",
    "position_embd.weight",
    "token_types.weight",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "attn_rel_b.weight",
];

/// Types for tensors of 256-value blocks whose rows are no multiple of that.
const FALLBACKS: &[(&str, &Type)] = &[
    ("IQ4_XS", &IQ4_NL),
    ("Q2_K", &Q4_0),
    ("Q3_K", &Q4_0),
    ("TQ1_0", &Q4_0),
    ("TQ2_0", &Q4_0),
    ("Q4_K", &Q5_0),
    ("Q5_K", &Q5_1),
    ("Q6_K", &Q8_0),
];

/// Whether a tensor is quantized at all: a matrix of weights that is neither norm, router nor
/// position.
pub fn quantizes(name: &str, shape: &[usize]) -> bool {
    let extents = shape.iter().skip_while(|d| **d == 1).count();
    extents >= 2 && name.ends_with("weight") && !KEPT.iter().any(|part| name.contains(part))
}

/// The kind by name; in a `tied` model the token embedding is the head.
pub(super) fn kind_of(name: &str, tied: bool) -> Kind {
    match name {
        "output.weight" => Kind::Head,
        "token_embd.weight" if tied => Kind::Head,
        "token_embd.weight" => Kind::Embedding,
        _ => KINDS
            .iter()
            .find(|(part, _)| name.contains(part))
            .map_or(Kind::Other, |(_, kind)| *kind),
    }
}

/// The layer in `blk.N.…`; a number that is no layer of the model is none.
pub(super) fn layer_of(name: &str, layers: usize) -> Option<usize> {
    let digits = name.strip_prefix("blk.")?.split('.').next()?;
    digits.parse().ok().filter(|layer| *layer < layers)
}

/// The type that rows of `cols` values can have instead.
pub(super) fn fallback(wanted: &'static Type, cols: usize) -> &'static Type {
    if cols.is_multiple_of(wanted.block) {
        return wanted;
    }
    let other = FALLBACKS.iter().find(|(name, _)| *name == wanted.name);
    match other {
        Some((_, ty)) if cols.is_multiple_of(ty.block) => ty,
        _ => &F16,
    }
}
