//! Families that combine what others have in ways of their own.
//!
//! | family | what differs from Llama |
//! |---|---|
//! | Phi-3, Phi-4 | q, k, v in one matrix, gate and up in one matrix, a part of each head rotated, `LongRoPE` |
//! | GLM-4 | norms on both sides, gate and up in one matrix, half of each head rotated, in neighbours |
//! | Granite | multipliers of embeddings, scores, what blocks add, and logits |
//! | OLMo 2 | norms behind attention and MLP only, and over all queries and all keys at once |
//! | SmolLM3 | every fourth block does not rotate |

use super::decoder::{self, GATED_BARE, GATED_FUSED, PLAIN, Project, Style};
use super::llama::LLAMA;
use super::{DOWN, GATE, GATE_UP, INPUT_NORM, K, NO_BIAS, O, POST_NORM, Q, UP, V, matrix, vector};
use crate::model::arch::{Absent, Arch, Bias, BiasOf, Biases, Dim, Rope, Row, Window};
use crate::model::config::factors;
use crate::model::ops::Part;

const PHI3_ROWS: &[Row] = &[
    INPUT_NORM,
    matrix(
        Part::Qkv,
        "self_attn.qkv_proj",
        (Dim::Qkv, Dim::Hidden),
        BiasOf::None,
    ),
    O,
    POST_NORM,
    GATE_UP,
    DOWN,
];

const PHI3_STYLE: Style = Style {
    project: Project::Fused,
    mlp: GATED_FUSED,
    ..PLAIN
};

pub(super) const PHI3: Arch = Arch {
    name: "Phi-3",
    model_types: &["phi3"],
    rows: |_, _| PHI3_ROWS,
    ops: |config, layer| decoder::ops(config, layer, &PHI3_STYLE),
    biases: NO_BIAS,
    window: Window::Size(None),
    rope: Rope {
        part: Some(1.0),
        ..LLAMA.rope
    },
    ..LLAMA
};

const GLM4_ROWS: &[Row] = &[
    INPUT_NORM,
    Q,
    K,
    V,
    O,
    vector(Part::AttentionNorm, "post_self_attn_layernorm", Dim::Hidden),
    POST_NORM,
    GATE_UP,
    DOWN,
    vector(Part::MlpNorm, "post_mlp_layernorm", Dim::Hidden),
];

const GLM4_STYLE: Style = Style {
    post_norms: true,
    mlp: GATED_FUSED,
    ..PLAIN
};

pub(super) const GLM4: Arch = Arch {
    name: "GLM-4",
    model_types: &["glm4"],
    rows: |_, _| GLM4_ROWS,
    ops: |config, layer| decoder::ops(config, layer, &GLM4_STYLE),
    biases: Biases {
        qkv: Bias::Unless("attention_bias"),
        ..NO_BIAS
    },
    rope: Rope {
        part: Some(0.5),
        interleaved: true,
        ..LLAMA.rope
    },
    absent: Absent {
        kv_heads: Some(2),
        head_dim: Some(128),
        tied: false,
    },
    ..LLAMA
};

pub(super) const GRANITE: Arch = Arch {
    name: "Granite",
    model_types: &["granite"],
    factors: factors::granite,
    ..LLAMA
};

const OLMO2_ROWS: &[Row] = &[
    Q,
    K,
    V,
    vector(Part::QNorm, "self_attn.q_norm", Dim::Queries),
    vector(Part::KNorm, "self_attn.k_norm", Dim::Keys),
    O,
    vector(Part::AttentionNorm, "post_attention_layernorm", Dim::Hidden),
    GATE,
    UP,
    DOWN,
    vector(Part::MlpNorm, "post_feedforward_layernorm", Dim::Hidden),
];

const OLMO2_STYLE: Style = Style {
    pre_norms: false,
    post_norms: true,
    head_norms: true,
    mlp: GATED_BARE,
    ..PLAIN
};

pub(super) const OLMO2: Arch = Arch {
    name: "OLMo 2",
    model_types: &["olmo2"],
    rows: |_, _| OLMO2_ROWS,
    ops: |config, layer| decoder::ops(config, layer, &OLMO2_STYLE),
    biases: Biases {
        mlp: Bias::Never,
        ..LLAMA.biases
    },
    ..LLAMA
};

pub(super) const SMOLLM3: Arch = Arch {
    name: "SmolLM3",
    model_types: &["smollm3"],
    window: Window::Listed,
    rope: Rope {
        theta: 2_000_000.0,
        some_without: true,
        ..LLAMA.rope
    },
    absent: Absent {
        kv_heads: Some(4),
        head_dim: None,
        tied: true,
    },
    ..LLAMA
};
