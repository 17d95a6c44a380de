//! The table of architectures. A family is one `Arch` constant here and one entry of `ARCHS`;
//! config checks, loading, the plan of a quantization, every backend's pass and the list shown to
//! people are derived from it. Each row has a checkpoint in `models/tiny-*` that proves it.

use super::arch::{Absent, Arch, Bias, BiasOf, Biases, Dim, Kind, Policy, Row, Window};
use super::ops::{Op, Part, Slot};

/// Every family that this crate runs and quantizes.
pub static ARCHS: &[&Arch] = &[&LLAMA, &MISTRAL, &QWEN2, &QWEN3];

const LINEAR: Policy = Policy::Codes { fewest_bits: 2 };

const fn matrix(part: Part, module: &'static str, shape: (Dim, Dim), bias: BiasOf) -> Row {
    let (rows, cols) = shape;
    let kind = Kind::Matrix { rows, cols, bias };
    Row {
        part,
        module,
        kind,
        policy: LINEAR,
    }
}

const fn vector(part: Part, module: &'static str, len: Dim) -> Row {
    Row {
        part,
        module,
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

const NORM_INPUT: Op = Op::RmsNorm {
    from: Slot::Hidden,
    to: Slot::Normed,
    weight: Part::InputNorm,
};
const PROJECT_QKV: Op = Op::Linear {
    from: Slot::Normed,
    outputs: &[(Part::Q, Slot::Q), (Part::K, Slot::K), (Part::V, Slot::V)],
};
const NORM_Q: Op = Op::HeadNorm {
    slot: Slot::Q,
    weight: Part::QNorm,
};
const NORM_K: Op = Op::HeadNorm {
    slot: Slot::K,
    weight: Part::KNorm,
};
const PROJECT_O: Op = Op::Linear {
    from: Slot::Attended,
    outputs: &[(Part::O, Slot::Delta)],
};
const ADD: Op = Op::Add { from: Slot::Delta };
const NORM_POST: Op = Op::RmsNorm {
    from: Slot::Hidden,
    to: Slot::Normed,
    weight: Part::PostNorm,
};
const PROJECT_GATE_UP: Op = Op::Linear {
    from: Slot::Normed,
    outputs: &[(Part::Gate, Slot::Gate), (Part::Up, Slot::Up)],
};
const PROJECT_DOWN: Op = Op::Linear {
    from: Slot::Gate,
    outputs: &[(Part::Down, Slot::Delta)],
};

/// Pre-norm attention and gated MLP.
const OPS: &[Op] = &[
    NORM_INPUT,
    PROJECT_QKV,
    Op::Rope,
    Op::Attention,
    PROJECT_O,
    ADD,
    NORM_POST,
    PROJECT_GATE_UP,
    Op::SiluMul,
    PROJECT_DOWN,
    ADD,
];

/// The same with a norm over each query and key head before they are rotated.
const OPS_HEAD_NORMS: &[Op] = &[
    NORM_INPUT,
    PROJECT_QKV,
    NORM_Q,
    NORM_K,
    Op::Rope,
    Op::Attention,
    PROJECT_O,
    ADD,
    NORM_POST,
    PROJECT_GATE_UP,
    Op::SiluMul,
    PROJECT_DOWN,
    ADD,
];

const LLAMA: Arch = Arch {
    name: "Llama",
    model_types: &["llama"],
    embed: "model.embed_tokens",
    blocks: "model.layers",
    norm: "model.norm",
    head: "lm_head",
    rows: ROWS,
    ops: |_| OPS,
    biases: Biases {
        qkv: Bias::Key("attention_bias"),
        o: Bias::Key("attention_bias"),
        mlp: Bias::Key("mlp_bias"),
    },
    window: Window::Never,
    absent: Absent {
        kv_heads: None,
        head_dim: None,
    },
};

const MISTRAL: Arch = Arch {
    name: "Mistral",
    model_types: &["mistral"],
    biases: Biases {
        qkv: Bias::Never,
        o: Bias::Never,
        mlp: Bias::Never,
    },
    window: Window::Size(4096),
    absent: Absent {
        kv_heads: Some(8),
        head_dim: None,
    },
    ..LLAMA
};

const QWEN2: Arch = Arch {
    name: "Qwen2",
    model_types: &["qwen2"],
    biases: Biases {
        qkv: Bias::Always,
        o: Bias::Never,
        mlp: Bias::Never,
    },
    window: Window::Flag,
    absent: Absent {
        kv_heads: Some(32),
        head_dim: None,
    },
    ..LLAMA
};

const QWEN3: Arch = Arch {
    name: "Qwen3",
    model_types: &["qwen3"],
    rows: ROWS_HEAD_NORMS,
    ops: |_| OPS_HEAD_NORMS,
    biases: Biases {
        qkv: Bias::Key("attention_bias"),
        o: Bias::Key("attention_bias"),
        mlp: Bias::Never,
    },
    window: Window::Flag,
    absent: Absent {
        kv_heads: Some(32),
        head_dim: Some(128),
    },
    ..LLAMA
};
