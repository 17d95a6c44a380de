//! Gemma 2 and 3: norms on both sides of attention and MLP, stored as what is added to 1; GELU;
//! embeddings times √hidden; some blocks look back over a window.

use super::decoder::{self, GATED_GELU, PLAIN, Style};
use super::llama::LLAMA;
use super::{DOWN, GATE, INPUT_NORM, K, K_NORM, NO_BIAS, O, Q, Q_NORM, UP, V, vector};
use crate::model::arch::{Absent, Arch, Bias, Biases, Dim, Rope, Row, Window};
use crate::model::config::factors;
use crate::model::ops::Part;

const ATTENTION_NORM: Row = vector(Part::AttentionNorm, "post_attention_layernorm", Dim::Hidden);
const PRE_MLP_NORM: Row = vector(Part::PostNorm, "pre_feedforward_layernorm", Dim::Hidden);
const MLP_NORM: Row = vector(Part::MlpNorm, "post_feedforward_layernorm", Dim::Hidden);

const GEMMA2_ROWS: &[Row] = &[
    INPUT_NORM,
    Q,
    K,
    V,
    O,
    ATTENTION_NORM,
    PRE_MLP_NORM,
    GATE,
    UP,
    DOWN,
    MLP_NORM,
];

const GEMMA3_ROWS: &[Row] = &[
    INPUT_NORM,
    Q,
    K,
    V,
    Q_NORM,
    K_NORM,
    O,
    ATTENTION_NORM,
    PRE_MLP_NORM,
    GATE,
    UP,
    DOWN,
    MLP_NORM,
];

const GEMMA2_STYLE: Style = Style {
    post_norms: true,
    mlp: GATED_GELU,
    ..PLAIN
};

const GEMMA3_STYLE: Style = Style {
    head_norms: true,
    ..GEMMA2_STYLE
};

pub(super) const GEMMA2: Arch = Arch {
    name: "Gemma 2",
    model_types: &["gemma2"],
    rows: |_, _| GEMMA2_ROWS,
    ops: |config, layer| decoder::ops(config, layer, &GEMMA2_STYLE),
    biases: Biases {
        qkv: Bias::Key("attention_bias"),
        o: Bias::Key("attention_bias"),
        ..NO_BIAS
    },
    activation: (&["hidden_activation"], &["gelu_pytorch_tanh"]),
    window: Window::Pattern {
        key: None,
        every: 2,
    },
    factors: factors::gemma2,
    norm_offset: 1.0,
    absent: Absent {
        kv_heads: Some(4),
        head_dim: Some(256),
        tied: true,
    },
    ..LLAMA
};

pub(super) const GEMMA3: Arch = Arch {
    name: "Gemma 3",
    model_types: &["gemma3_text"],
    rows: |_, _| GEMMA3_ROWS,
    ops: |config, layer| decoder::ops(config, layer, &GEMMA3_STYLE),
    window: Window::Pattern {
        key: Some("sliding_window_pattern"),
        every: 6,
    },
    rope: Rope {
        theta: 1_000_000.0,
        local_theta: Some(10_000.0),
        ..LLAMA.rope
    },
    factors: factors::gemma3,
    ..GEMMA2
};
