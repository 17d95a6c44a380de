//! Llama and the families that differ from it in biases, windows or norms over heads.

use super::{NO_BIAS, OPS, OPS_HEAD_NORMS, ROWS, ROWS_HEAD_NORMS};
use crate::model::arch::{Absent, Arch, Bias, Biases, Window};

pub(super) const LLAMA: Arch = Arch {
    name: "Llama",
    model_types: &["llama"],
    embed: "model.embed_tokens",
    blocks: "model.layers",
    norm: "model.norm",
    head: "lm_head",
    rows: |_, _| ROWS,
    ops: |_, _| OPS.to_vec(),
    biases: Biases {
        qkv: Bias::Key("attention_bias"),
        o: Bias::Key("attention_bias"),
        mlp: Bias::Key("mlp_bias"),
    },
    window: Window::Never,
    experts: None,
    norm_offset: 0.0,
    absent: Absent {
        kv_heads: None,
        head_dim: None,
    },
};

pub(super) const MISTRAL: Arch = Arch {
    name: "Mistral",
    model_types: &["mistral"],
    biases: NO_BIAS,
    window: Window::Size(4096),
    absent: Absent {
        kv_heads: Some(8),
        head_dim: None,
    },
    ..LLAMA
};

pub(super) const QWEN2: Arch = Arch {
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

pub(super) const QWEN3: Arch = Arch {
    name: "Qwen3",
    model_types: &["qwen3"],
    rows: |_, _| ROWS_HEAD_NORMS,
    ops: |_, _| OPS_HEAD_NORMS.to_vec(),
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
