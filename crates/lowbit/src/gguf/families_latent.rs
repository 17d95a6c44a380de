//! The rows of families with latent attention.

use super::families::{EXPERT_WIDTH, PLAIN};
use super::family::{Family, Key, KeyKind, key};
use super::granted;

/// `DeepSeek` with latent attention: to llama.cpp one head of the narrow vector's width, which is all
/// that its cache holds. See `latent.rs` for the matrix that makes keys and values of it.
pub(super) const DEEPSEEK_2: Family = Family {
    model_types: &["deepseek_v2"],
    arch: "deepseek2",
    names: &[
        ("self_attn.q_a_proj", "attn_q_a"),
        ("self_attn.q_a_layernorm", "attn_q_a_norm"),
        ("self_attn.q_b_proj", "attn_q_b"),
        ("self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"),
        ("self_attn.kv_a_layernorm", "attn_kv_a_norm"),
        ("self_attn.kv_b_proj", "attn_kv_b"),
        ("mlp.shared_experts.gate_proj", "ffn_gate_shexp"),
        ("mlp.shared_experts.up_proj", "ffn_up_shexp"),
        ("mlp.shared_experts.down_proj", "ffn_down_shexp"),
        ("mlp.gate.e_score_correction", "exp_probs_b"),
    ],
    keys: DEEPSEEK_KEYS,
    misfit: granted::deepseek,
    ..PLAIN
};

const DEEPSEEK_KEYS: &[Key] = &[
    key("vocab_size", "vocab_size", KeyKind::Count),
    key(
        "leading_dense_block_count",
        "first_k_dense_replace",
        KeyKind::CountOr(0),
    ),
    key("attention.q_lora_rank", "q_lora_rank", KeyKind::CountOr(0)),
    key("attention.kv_lora_rank", "kv_lora_rank", KeyKind::Count),
    key(
        "attention.head_count_kv",
        "num_key_value_heads",
        KeyKind::OneHead,
    ),
    key(
        "attention.key_length",
        "kv_lora_rank",
        KeyKind::CountPlus("qk_rope_head_dim"),
    ),
    key("attention.value_length", "kv_lora_rank", KeyKind::Count),
    key(
        "attention.key_length_mla",
        "qk_nope_head_dim",
        KeyKind::CountPlus("qk_rope_head_dim"),
    ),
    key("attention.value_length_mla", "v_head_dim", KeyKind::Count),
    EXPERT_WIDTH,
    key(
        "expert_shared_count",
        "n_shared_experts",
        KeyKind::CountOr(0),
    ),
    key(
        "expert_weights_scale",
        "routed_scaling_factor",
        KeyKind::MaybeFloat,
    ),
    key("expert_weights_norm", "norm_topk_prob", KeyKind::MaybeFlag),
    key("expert_gating_func", "", KeyKind::Always(1)),
    key("rope.dimension_count", "qk_rope_head_dim", KeyKind::Count),
];

const DEEPSEEK_3_KEYS: &[Key] = &{
    let mut keys = [const { key("", "", KeyKind::Always(0)) }; DEEPSEEK_KEYS.len() + 2];
    let mut i = 0;
    while i < DEEPSEEK_KEYS.len() {
        let Key { name, from, kind } = DEEPSEEK_KEYS[i];
        // Version 3 weighs experts by a sigmoid.
        let kind = match kind {
            KeyKind::Always(_) => KeyKind::Always(2),
            kind => kind,
        };
        keys[i] = key(name, from, kind);
        i += 1;
    }
    keys[i] = key("expert_group_count", "n_group", KeyKind::MaybeCount);
    keys[i + 1] = key("expert_group_used_count", "topk_group", KeyKind::MaybeCount);
    keys
};

/// Version 3: the same with another weighing of experts.
pub(super) const DEEPSEEK_3: Family = Family {
    model_types: &["deepseek_v3"],
    keys: DEEPSEEK_3_KEYS,
    ..DEEPSEEK_2
};
