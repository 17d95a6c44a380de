//! Llama and the families that differ from it in biases, windows or norms over heads.

use super::decoder::{self, PLAIN, Style};
use super::{NO_BIAS, ROWS, ROWS_HEAD_NORMS, behind};
use crate::model::arch::{Absent, Arch, Bias, BiasOf, Biases, Dim, Place, Rope, Tail, Window};
use crate::model::config::factors;
use crate::model::ops::{Op, Part, Slot};

/// Norms over query and key heads.
pub(super) const HEAD_NORMS: Style = Style {
    head_norms: true,
    ..PLAIN
};

/// A decoder that classifies: scores on the last token.
const SCORE: Tail = Tail {
    rows: &[behind(
        Part::Classifier,
        (Place::Whole, "score"),
        (Dim::Labels, Dim::Hidden),
        BiasOf::None,
    )],
    ops: &[Op::Linear {
        from: Slot::Hidden,
        outputs: &[(Part::Classifier, Slot::Labels)],
    }],
};

pub(super) const LLAMA: Arch = Arch {
    name: "Llama",
    model_types: &["llama"],
    text: None,
    base: "model.",
    renamed: &[],
    eps: ("rms_norm_eps", 1e-6),
    encoder: None,
    tail: SCORE,
    embed: "model.embed_tokens",
    blocks: "model.layers",
    norm: "model.norm",
    head: "lm_head",
    rows: |_, _| ROWS,
    ops: |config, layer| decoder::ops(config, layer, &PLAIN),
    biases: Biases {
        qkv: Bias::Key("attention_bias"),
        o: Bias::Key("attention_bias"),
        mlp: Bias::Key("mlp_bias"),
    },
    activation: (&["hidden_act", "hidden_activation"], &["silu", "swish"]),
    window: Window::Never,
    rope: Rope {
        theta: 10_000.0,
        local_theta: None,
        part: None,
        interleaved: false,
        sections: false,
        some_without: false,
    },
    factors: factors::plain,
    latent: false,
    experts: None,
    norm_offset: 0.0,
    absent: Absent {
        kv_heads: None,
        head_dim: None,
        tied: false,
    },
};

pub(super) const MISTRAL: Arch = Arch {
    name: "Mistral",
    model_types: &["mistral"],
    biases: NO_BIAS,
    window: Window::Size(Some(4096)),
    absent: Absent {
        kv_heads: Some(8),
        head_dim: None,
        tied: false,
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
        tied: false,
    },
    ..LLAMA
};

pub(super) const QWEN3: Arch = Arch {
    name: "Qwen3",
    model_types: &["qwen3"],
    rows: |_, _| ROWS_HEAD_NORMS,
    ops: |config, layer| decoder::ops(config, layer, &HEAD_NORMS),
    biases: Biases {
        qkv: Bias::Key("attention_bias"),
        o: Bias::Key("attention_bias"),
        mlp: Bias::Never,
    },
    window: Window::Flag,
    absent: Absent {
        kv_heads: Some(32),
        head_dim: Some(128),
        tied: false,
    },
    ..LLAMA
};
