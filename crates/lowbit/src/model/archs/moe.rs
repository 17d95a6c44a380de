//! Families whose MLP is a mixture of experts.
//!
//! | family | router | experts | probabilities |
//! |---|---|---|---|
//! | Mixtral | `block_sparse_moe.gate` | `block_sparse_moe.experts.N.{w1 gate, w3 up, w2 down}` | divided by their sum |
//! | Qwen3-MoE | `mlp.gate` | `mlp.experts.N.{gate,up,down}_proj` | by `norm_topk_prob` |

use super::llama::{MISTRAL, QWEN3};
use super::{
    ADD, INPUT_NORM, K, K_NORM, NORM_INPUT, NORM_K, NORM_POST, NORM_Q, O, OPS_HEAD_NORMS,
    POST_NORM, PROJECT_O, PROJECT_QKV, Q, Q_NORM, ROWS_HEAD_NORMS, V, kept, matrix,
};
use crate::model::arch::{Absent, Arch, Bias, BiasOf, Dim, ExpertKeys, Row, Window};
use crate::model::ops::{Op, Part, Slot};

/// Routes tokens: what its errors move is not a value but a choice, so it stays as stored.
const fn router(module: &'static str) -> Row {
    kept(Part::Router, module, (Dim::Experts, Dim::Hidden))
}

const fn expert_gate(module: &'static str) -> Row {
    let shape = (Dim::ExpertWidth, Dim::Hidden);
    matrix(Part::ExpertGate(0), module, shape, BiasOf::None)
}

const fn expert_up(module: &'static str) -> Row {
    let shape = (Dim::ExpertWidth, Dim::Hidden);
    matrix(Part::ExpertUp(0), module, shape, BiasOf::None)
}

const fn expert_down(module: &'static str) -> Row {
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

const EXPERTS: Op = Op::Experts {
    from: Slot::Normed,
    to: Slot::Delta,
};

const MIXTRAL_OPS: &[Op] = &[
    NORM_INPUT,
    PROJECT_QKV,
    Op::Rope,
    Op::Attention,
    PROJECT_O,
    ADD,
    NORM_POST,
    EXPERTS,
    ADD,
];

const QWEN3_OPS: &[Op] = &[
    NORM_INPUT,
    PROJECT_QKV,
    NORM_Q,
    NORM_K,
    Op::Rope,
    Op::Attention,
    PROJECT_O,
    ADD,
    NORM_POST,
    EXPERTS,
    ADD,
];

pub(super) const MIXTRAL: Arch = Arch {
    name: "Mixtral",
    model_types: &["mixtral"],
    rows: |_, _| MIXTRAL_ROWS,
    ops: |_, _| MIXTRAL_OPS.to_vec(),
    // transformers: an absent window is none, unlike Mistral's.
    window: Window::Size(usize::MAX),
    experts: Some(ExpertKeys {
        count: (&["num_local_experts", "num_experts"], 8),
        per_token: 2,
        width: ("intermediate_size", 14336),
        shared: None,
        renormalise: Bias::Always,
        some_dense: false,
    }),
    ..MISTRAL
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
        if sparse { QWEN3_OPS } else { OPS_HEAD_NORMS }.to_vec()
    },
    experts: Some(ExpertKeys {
        count: (&["num_experts", "num_local_experts"], 128),
        per_token: 8,
        width: ("moe_intermediate_size", 768),
        shared: None,
        renormalise: Bias::Key("norm_topk_prob"),
        some_dense: true,
    }),
    absent: Absent {
        kv_heads: Some(4),
        head_dim: None,
    },
    ..QWEN3
};
