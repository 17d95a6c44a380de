//! `DeepSeek` V2 and V3: attention through a narrow vector, a mixture of experts beside an MLP that
//! sees every token.

use super::decoder::{self, EXPERTS_BESIDE, PLAIN, Project, Style};
use super::llama::LLAMA;
use super::moe::{expert_down, expert_gate, expert_up};
use super::{DOWN, GATE, INPUT_NORM, NO_BIAS, POST_NORM, UP, linear, matrix, vector};
use crate::model::arch::{
    Arch, Bias, BiasOf, Biases, Dense, Dim, ExpertKeys, Groups, Policy, Rope, Row, Shared,
};
use crate::model::config::{Config, Scoring, factors};
use crate::model::ops::{Op, Part};

const QUERY_DOWN: Row = matrix(
    Part::QueryDown,
    "self_attn.q_a_proj",
    (Dim::QueryRank, Dim::Hidden),
    BiasOf::Qkv,
);
const QUERY_NORM: Row = vector(
    Part::QueryLatentNorm,
    "self_attn.q_a_layernorm",
    Dim::QueryRank,
);
const QUERY_UP: Row = matrix(
    Part::Q,
    "self_attn.q_b_proj",
    (Dim::Queries, Dim::QuerySource),
    BiasOf::None,
);
const QUERY: Row = matrix(
    Part::Q,
    "self_attn.q_proj",
    (Dim::Queries, Dim::QuerySource),
    BiasOf::None,
);
const KV_DOWN: Row = matrix(
    Part::KvDown,
    "self_attn.kv_a_proj_with_mqa",
    (Dim::KvRankAndRope, Dim::Hidden),
    BiasOf::Qkv,
);
const KV_NORM: Row = vector(Part::KvLatentNorm, "self_attn.kv_a_layernorm", Dim::KvRank);
const KV_UP: Row = matrix(
    Part::KvUp,
    "self_attn.kv_b_proj",
    (Dim::KeysAndValues, Dim::KvRank),
    BiasOf::None,
);
const O: Row = matrix(
    Part::O,
    "self_attn.o_proj",
    (Dim::Hidden, Dim::LatentValues),
    BiasOf::O,
);
const ROUTER: Row = linear(
    Part::Router,
    "mlp.gate",
    (Dim::Experts, Dim::Hidden),
    (BiasOf::Correction, Policy::Keep),
);
const SHARED_GATE: Row = matrix(
    Part::SharedGate,
    "mlp.shared_experts.gate_proj",
    (Dim::SharedWidth, Dim::Hidden),
    BiasOf::None,
);
const SHARED_UP: Row = matrix(
    Part::SharedUp,
    "mlp.shared_experts.up_proj",
    (Dim::SharedWidth, Dim::Hidden),
    BiasOf::None,
);
const SHARED_DOWN: Row = matrix(
    Part::SharedDown,
    "mlp.shared_experts.down_proj",
    (Dim::Hidden, Dim::SharedWidth),
    BiasOf::None,
);
const EXPERT_GATE: Row = expert_gate("mlp.experts.{}.gate_proj");
const EXPERT_UP: Row = expert_up("mlp.experts.{}.up_proj");
const EXPERT_DOWN: Row = expert_down("mlp.experts.{}.down_proj");

const DENSE: &[Row] = &[
    INPUT_NORM, QUERY, KV_DOWN, KV_NORM, KV_UP, O, POST_NORM, GATE, UP, DOWN,
];
const DENSE_QUERY_RANK: &[Row] = &[
    INPUT_NORM, QUERY_DOWN, QUERY_NORM, QUERY_UP, KV_DOWN, KV_NORM, KV_UP, O, POST_NORM, GATE, UP,
    DOWN,
];
const SPARSE: &[Row] = &[
    INPUT_NORM,
    QUERY,
    KV_DOWN,
    KV_NORM,
    KV_UP,
    O,
    POST_NORM,
    SHARED_GATE,
    SHARED_UP,
    SHARED_DOWN,
    ROUTER,
    EXPERT_GATE,
    EXPERT_UP,
    EXPERT_DOWN,
];
const SPARSE_QUERY_RANK: &[Row] = &[
    INPUT_NORM,
    QUERY_DOWN,
    QUERY_NORM,
    QUERY_UP,
    KV_DOWN,
    KV_NORM,
    KV_UP,
    O,
    POST_NORM,
    SHARED_GATE,
    SHARED_UP,
    SHARED_DOWN,
    ROUTER,
    EXPERT_GATE,
    EXPERT_UP,
    EXPERT_DOWN,
];

fn rows(config: &Config, layer: usize) -> &'static [Row] {
    let query_rank = config.latent.is_some_and(|l| l.query_rank.is_some());
    match (config.blocks[layer].sparse, query_rank) {
        (false, false) => DENSE,
        (false, true) => DENSE_QUERY_RANK,
        (true, false) => SPARSE,
        (true, true) => SPARSE_QUERY_RANK,
    }
}

const DENSE_STYLE: Style = Style {
    project: Project::Latent,
    ..PLAIN
};
const SPARSE_STYLE: Style = Style {
    mlp: EXPERTS_BESIDE,
    ..DENSE_STYLE
};

fn ops(config: &Config, layer: usize) -> Vec<Op> {
    let sparse = config.blocks[layer].sparse;
    let style = if sparse { &SPARSE_STYLE } else { &DENSE_STYLE };
    decoder::ops(config, layer, style)
}

const EXPERTS: ExpertKeys = ExpertKeys {
    count: (
        &["n_routed_experts", "num_local_experts", "num_experts"],
        64,
    ),
    per_token: 6,
    width: ("moe_intermediate_size", 1407),
    shared: Shared::Times("n_shared_experts", 2),
    scoring: Scoring::Softmax,
    groups: Groups::Method,
    renormalise: Bias::Never,
    scale: Some(1.0),
    dense: Dense::First(0),
};

pub(super) const DEEPSEEK_V2: Arch = Arch {
    name: "DeepSeek-V2",
    model_types: &["deepseek_v2"],
    rows,
    ops,
    biases: Biases {
        qkv: Bias::Key("attention_bias"),
        o: Bias::Key("attention_bias"),
        ..NO_BIAS
    },
    rope: Rope {
        interleaved: true,
        ..LLAMA.rope
    },
    factors: factors::deepseek,
    latent: true,
    experts: Some(EXPERTS),
    ..LLAMA
};

pub(super) const DEEPSEEK_V3: Arch = Arch {
    name: "DeepSeek-V3",
    model_types: &["deepseek_v3"],
    experts: Some(ExpertKeys {
        count: (EXPERTS.count.0, 256),
        per_token: 8,
        width: ("moe_intermediate_size", 2048),
        shared: Shared::Times("n_shared_experts", 1),
        scoring: Scoring::Sigmoid,
        groups: Groups::Always,
        renormalise: Bias::Unless("norm_topk_prob"),
        scale: Some(2.5),
        dense: Dense::First(3),
    }),
    ..DEEPSEEK_V2
};
