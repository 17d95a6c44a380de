//! Families whose MLP is a mixture of experts.
//!
//! | family | router | experts | probabilities |
//! |---|---|---|---|
//! | Mixtral | `block_sparse_moe.gate` | `block_sparse_moe.experts.N.{w1 gate, w3 up, w2 down}` | divided by their sum |
//! | Qwen2-MoE | `mlp.gate` | `mlp.experts.N.{gate,up,down}_proj`, and `mlp.shared_expert` beside them | by `norm_topk_prob` |
//! | Qwen3-MoE | `mlp.gate` | `mlp.experts.N.{gate,up,down}_proj` | by `norm_topk_prob` |

use super::decoder::{self, PLAIN, Style};
use super::llama::{HEAD_NORMS, MISTRAL, QWEN2, QWEN3};
use super::{
    INPUT_NORM, K, K_NORM, O, POST_NORM, Q, Q_NORM, ROWS, ROWS_HEAD_NORMS, V, kept, matrix,
};
use crate::model::arch::{
    Absent, Arch, Bias, BiasOf, Biases, Dense, Dim, ExpertKeys, Groups, Rope, Row, Shared, Window,
};
use crate::model::config::Scoring;
use crate::model::ops::Part;

/// Routes tokens: what its errors move is not a value but a choice, so it stays as stored.
pub(super) const fn router(module: &'static str) -> Row {
    kept(Part::Router, module, (Dim::Experts, Dim::Hidden))
}

pub(super) const fn expert_gate(module: &'static str) -> Row {
    let shape = (Dim::ExpertWidth, Dim::Hidden);
    matrix(Part::ExpertGate(0), module, shape, BiasOf::None)
}

pub(super) const fn expert_up(module: &'static str) -> Row {
    let shape = (Dim::ExpertWidth, Dim::Hidden);
    matrix(Part::ExpertUp(0), module, shape, BiasOf::None)
}

pub(super) const fn expert_down(module: &'static str) -> Row {
    let shape = (Dim::Hidden, Dim::ExpertWidth);
    matrix(Part::ExpertDown(0), module, shape, BiasOf::None)
}

const MIXTRAL_ROWS: &[Row] = &[
    INPUT_NORM,
    Q,
    K,
    V,
    O,
    POST_NORM,
    router("block_sparse_moe.gate"),
    expert_gate("block_sparse_moe.experts.{}.w1"),
    expert_up("block_sparse_moe.experts.{}.w3"),
    expert_down("block_sparse_moe.experts.{}.w2"),
];

const QWEN3_ROWS: &[Row] = &[
    INPUT_NORM,
    Q,
    K,
    V,
    Q_NORM,
    K_NORM,
    O,
    POST_NORM,
    router("mlp.gate"),
    expert_gate("mlp.experts.{}.gate_proj"),
    expert_up("mlp.experts.{}.up_proj"),
    expert_down("mlp.experts.{}.down_proj"),
];

const QWEN2_ROWS: &[Row] = &[
    INPUT_NORM,
    Q,
    K,
    V,
    O,
    POST_NORM,
    kept(
        Part::SharedRouter,
        "mlp.shared_expert_gate",
        (Dim::One, Dim::Hidden),
    ),
    matrix(
        Part::SharedGate,
        "mlp.shared_expert.gate_proj",
        (Dim::SharedWidth, Dim::Hidden),
        BiasOf::None,
    ),
    matrix(
        Part::SharedUp,
        "mlp.shared_expert.up_proj",
        (Dim::SharedWidth, Dim::Hidden),
        BiasOf::None,
    ),
    matrix(
        Part::SharedDown,
        "mlp.shared_expert.down_proj",
        (Dim::Hidden, Dim::SharedWidth),
        BiasOf::None,
    ),
    router("mlp.gate"),
    expert_gate("mlp.experts.{}.gate_proj"),
    expert_up("mlp.experts.{}.up_proj"),
    expert_down("mlp.experts.{}.down_proj"),
];

const MIXTURE: Style = Style {
    mlp: decoder::EXPERTS,
    ..PLAIN
};
const MIXTURE_SHARED: Style = Style {
    mlp: decoder::EXPERTS_SHARED,
    ..PLAIN
};
const MIXTURE_HEAD_NORMS: Style = Style {
    mlp: decoder::EXPERTS,
    ..HEAD_NORMS
};

pub(super) const MIXTRAL: Arch = Arch {
    name: "Mixtral",
    model_types: &["mixtral"],
    rows: |_, _| MIXTRAL_ROWS,
    ops: |config, layer| decoder::ops(config, layer, &MIXTURE),
    window: Window::Size(None),
    rope: Rope {
        theta: 1_000_000.0,
        ..MISTRAL.rope
    },
    experts: Some(ExpertKeys {
        count: (&["num_local_experts", "num_experts"], 8),
        per_token: 2,
        width: ("intermediate_size", 14336),
        shared: Shared::Never,
        scoring: Scoring::Softmax,
        groups: Groups::Never,
        renormalise: Bias::Always,
        scale: None,
        dense: Dense::Never,
    }),
    ..MISTRAL
};

pub(super) const QWEN2_MOE: Arch = Arch {
    name: "Qwen2-MoE",
    model_types: &["qwen2_moe"],
    rows: |config, layer| {
        if config.blocks[layer].sparse {
            QWEN2_ROWS
        } else {
            ROWS
        }
    },
    ops: |config, layer| {
        let sparse = config.blocks[layer].sparse;
        decoder::ops(config, layer, if sparse { &MIXTURE_SHARED } else { &PLAIN })
    },
    biases: Biases {
        qkv: Bias::Unless("qkv_bias"),
        ..QWEN2.biases
    },
    window: Window::Listed,
    experts: Some(ExpertKeys {
        count: (&["num_experts", "num_local_experts"], 60),
        per_token: 4,
        width: ("moe_intermediate_size", 1408),
        shared: Shared::Width("shared_expert_intermediate_size", 5632),
        scoring: Scoring::Softmax,
        groups: Groups::Never,
        renormalise: Bias::Key("norm_topk_prob"),
        scale: None,
        dense: Dense::Steps,
    }),
    absent: Absent {
        kv_heads: Some(16),
        head_dim: None,
        tied: false,
    },
    ..QWEN2
};

pub(super) const QWEN3_MOE: Arch = Arch {
    name: "Qwen3-MoE",
    model_types: &["qwen3_moe"],
    rows: |config, layer| {
        if config.blocks[layer].sparse {
            QWEN3_ROWS
        } else {
            ROWS_HEAD_NORMS
        }
    },
    ops: |config, layer| {
        let sparse = config.blocks[layer].sparse;
        let style = if sparse {
            &MIXTURE_HEAD_NORMS
        } else {
            &HEAD_NORMS
        };
        decoder::ops(config, layer, style)
    },
    window: Window::FlagAll,
    experts: Some(ExpertKeys {
        count: (&["num_experts", "num_local_experts"], 128),
        per_token: 8,
        width: ("moe_intermediate_size", 768),
        shared: Shared::Never,
        scoring: Scoring::Softmax,
        groups: Groups::Never,
        renormalise: Bias::Key("norm_topk_prob"),
        scale: None,
        dense: Dense::Steps,
    }),
    absent: Absent {
        kv_heads: Some(4),
        head_dim: None,
        tied: false,
    },
    ..QWEN3
};
