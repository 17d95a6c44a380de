//! The table of architectures. A family is one `Arch` constant in this folder and one entry of `ARCHS`;
//! config checks, loading, the plan of a quantization, every backend's pass and the list shown to
//! people are derived from it. Each row has a checkpoint in `models/tiny-*` that proves it.

mod decoder;
mod deepseek;
mod encoder;
mod gemma;
mod llama;
mod moe;
mod variants;
mod vision;

use super::arch::{Arch, Bias, BiasOf, Biases, Dim, Kind, Place, Policy, Row};
use super::ops::Part;
pub(super) use encoder::ACTIVATIONS;
use std::borrow::Cow;

/// Every family that this crate runs and quantizes.
pub static ARCHS: &[&Arch] = &[
    &llama::LLAMA,
    &llama::MISTRAL,
    &llama::QWEN2,
    &llama::QWEN3,
    &moe::MIXTRAL,
    &moe::QWEN2_MOE,
    &moe::QWEN3_MOE,
    &gemma::GEMMA2,
    &gemma::GEMMA3,
    &variants::PHI3,
    &variants::GLM4,
    &variants::GRANITE,
    &variants::OLMO2,
    &variants::SMOLLM3,
    &deepseek::DEEPSEEK_V2,
    &deepseek::DEEPSEEK_V3,
    &vision::QWEN2_VL,
    &vision::QWEN3_VL,
    &vision::GEMMA3_VISION,
    &encoder::BERT,
    &encoder::ROBERTA,
    &encoder::DISTILBERT,
];

/// A family that nobody here knows: it has no rows and does nothing; see `guess.rs`.
pub(super) const UNKNOWN: Arch = Arch {
    name: "unknown",
    model_types: &[],
    base: "",
    embed: "",
    blocks: "",
    norm: "",
    head: "",
    rows: |_, _| &[],
    ops: |_, _| Vec::new(),
    ..llama::LLAMA
};

const LINEAR: Policy = Policy::Codes { fewest_bits: 2 };

/// No linear of the family has a bias.
const NO_BIAS: Biases = Biases {
    qkv: Bias::Never,
    o: Bias::Never,
    mlp: Bias::Never,
};

const fn matrix(part: Part, module: &'static str, shape: (Dim, Dim), bias: BiasOf) -> Row {
    linear(part, module, shape, (bias, LINEAR))
}

/// A linear that stays as stored.
const fn kept(part: Part, module: &'static str, shape: (Dim, Dim)) -> Row {
    linear(part, module, shape, (BiasOf::None, Policy::Keep))
}

const fn linear(
    part: Part,
    module: &'static str,
    (rows, cols): (Dim, Dim),
    (bias, policy): (BiasOf, Policy),
) -> Row {
    Row {
        part,
        module: Cow::Borrowed(module),
        place: Place::Block,
        kind: Kind::Matrix { rows, cols, bias },
        policy,
    }
}

/// A linear behind the last block, which stays as stored.
const fn behind(
    part: Part,
    (place, module): (Place, &'static str),
    shape: (Dim, Dim),
    bias: BiasOf,
) -> Row {
    Row {
        part,
        module: Cow::Borrowed(module),
        place,
        kind: Kind::Matrix {
            rows: shape.0,
            cols: shape.1,
            bias,
        },
        policy: Policy::Keep,
    }
}

const fn vector(part: Part, module: &'static str, len: Dim) -> Row {
    Row {
        part,
        module: Cow::Borrowed(module),
        place: Place::Block,
        kind: Kind::Vector(len),
        policy: Policy::Keep,
    }
}

const INPUT_NORM: Row = vector(Part::InputNorm, "input_layernorm", Dim::Hidden);
const POST_NORM: Row = vector(Part::PostNorm, "post_attention_layernorm", Dim::Hidden);
const Q: Row = matrix(
    Part::Q,
    "self_attn.q_proj",
    (Dim::Queries, Dim::Hidden),
    BiasOf::Qkv,
);
const K: Row = matrix(
    Part::K,
    "self_attn.k_proj",
    (Dim::Keys, Dim::Hidden),
    BiasOf::Qkv,
);
const V: Row = matrix(
    Part::V,
    "self_attn.v_proj",
    (Dim::Keys, Dim::Hidden),
    BiasOf::Qkv,
);
const O: Row = matrix(
    Part::O,
    "self_attn.o_proj",
    (Dim::Hidden, Dim::Queries),
    BiasOf::O,
);
const Q_NORM: Row = vector(Part::QNorm, "self_attn.q_norm", Dim::Head);
const K_NORM: Row = vector(Part::KNorm, "self_attn.k_norm", Dim::Head);
const GATE: Row = matrix(
    Part::Gate,
    "mlp.gate_proj",
    (Dim::Intermediate, Dim::Hidden),
    BiasOf::Mlp,
);
const UP: Row = matrix(
    Part::Up,
    "mlp.up_proj",
    (Dim::Intermediate, Dim::Hidden),
    BiasOf::Mlp,
);
const GATE_UP: Row = matrix(
    Part::GateUp,
    "mlp.gate_up_proj",
    (Dim::GateUp, Dim::Hidden),
    BiasOf::Mlp,
);
const DOWN: Row = matrix(
    Part::Down,
    "mlp.down_proj",
    (Dim::Hidden, Dim::Intermediate),
    BiasOf::Mlp,
);

const ROWS: &[Row] = &[INPUT_NORM, Q, K, V, O, POST_NORM, GATE, UP, DOWN];
const ROWS_HEAD_NORMS: &[Row] = &[
    INPUT_NORM, Q, K, V, Q_NORM, K_NORM, O, POST_NORM, GATE, UP, DOWN,
];
