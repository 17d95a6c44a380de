//! The families that GGUF has names for: one row each.
//!
//! Source: the names and keys that llama.cpp loads, and what its converter does to the weights of
//! each family. A family that differs from Llama in a name lists that name; `tensors.rs` has the
//! rest.

use super::families_encoder::{BERT, ROBERTA};
use super::families_latent::{DEEPSEEK_2, DEEPSEEK_3};
use super::family::{Family, Key, KeyKind, key};
use super::granted::{
    self, EVERY_LAYER, Granted, NO_DENSE_LAYER, NO_WINDOW, Taken, WINDOW_OFF, fits,
};

const LLAMA_KEYS: &[Key] = &[
    key("vocab_size", "vocab_size", KeyKind::Count),
    key("rope.dimension_count", "head_dim", KeyKind::HeadDim),
];

const LLAMA: Family = Family {
    model_types: &["llama", "mistral", "mixtral"],
    arch: "llama",
    permute: true,
    norm_offset: 0.0,
    base: "model.",
    blocks: "model.layers",
    outside: &[],
    left: &[],
    encoder: false,
    names: &[
        ("block_sparse_moe.gate", "ffn_gate_inp"),
        ("block_sparse_moe.experts.{}.w1", "ffn_gate_exps"),
        ("block_sparse_moe.experts.{}.w2", "ffn_down_exps"),
        ("block_sparse_moe.experts.{}.w3", "ffn_up_exps"),
    ],
    keys: LLAMA_KEYS,
    headless: false,
    multimodal: false,
    granted: &[NO_WINDOW],
    misfit: fits,
};

/// A family whose weights are stored as in its checkpoints.
pub(super) const PLAIN: Family = Family {
    permute: false,
    names: &[],
    keys: &[],
    granted: &[],
    ..LLAMA
};

/// Names of families with norms on both sides of attention and MLP.
const SANDWICH: &[(&str, &str)] = &[
    ("post_attention_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
];

const SOFTCAP: Key = key(
    "final_logit_softcapping",
    "final_logit_softcapping",
    KeyKind::MaybeFloat,
);
pub(super) const EXPERT_WIDTH: Key = key(
    "expert_feed_forward_length",
    "moe_intermediate_size",
    KeyKind::Count,
);
const SECTIONS: Key = key(
    "rope.dimension_sections",
    "mrope_section",
    KeyKind::Sections,
);

/// Whether the weights of the chosen experts are made to sum to one.
const fn normalised(value: Taken, does: &'static str) -> Granted {
    Granted {
        from: "norm_topk_prob",
        value,
        does,
        breaks: true,
    }
}

/// Every family.
pub(super) static FAMILIES: &[Family] = &[
    LLAMA,
    Family {
        model_types: &["qwen2"],
        arch: "qwen2",
        granted: &[WINDOW_OFF],
        ..PLAIN
    },
    Family {
        model_types: &["qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text"],
        arch: "qwen2vl",
        keys: &[SECTIONS],
        multimodal: true,
        granted: &[WINDOW_OFF],
        ..PLAIN
    },
    Family {
        model_types: &["qwen2_moe"],
        arch: "qwen2moe",
        keys: &[
            EXPERT_WIDTH,
            key(
                "expert_shared_feed_forward_length",
                "shared_expert_intermediate_size",
                KeyKind::Count,
            ),
        ],
        granted: &[
            WINDOW_OFF,
            EVERY_LAYER,
            NO_DENSE_LAYER,
            normalised(
                Taken::NotTrue,
                "llama.cpp leaves the weights of this family's chosen experts as they are",
            ),
        ],
        ..PLAIN
    },
    Family {
        model_types: &["qwen3"],
        arch: "qwen3",
        granted: &[WINDOW_OFF],
        ..PLAIN
    },
    Family {
        model_types: &["qwen3_vl", "qwen3_vl_text"],
        arch: "qwen3vl",
        keys: &[SECTIONS],
        multimodal: true,
        ..PLAIN
    },
    Family {
        model_types: &["qwen3_moe"],
        arch: "qwen3moe",
        keys: &[EXPERT_WIDTH],
        granted: &[
            WINDOW_OFF,
            EVERY_LAYER,
            NO_DENSE_LAYER,
            normalised(
                Taken::True,
                "llama.cpp makes the weights of this family's chosen experts sum to one",
            ),
        ],
        ..PLAIN
    },
    Family {
        model_types: &["gemma2"],
        arch: "gemma2",
        norm_offset: 1.0,
        names: SANDWICH,
        keys: &[
            key(
                "attn_logit_softcapping",
                "attn_logit_softcapping",
                KeyKind::MaybeFloat,
            ),
            SOFTCAP,
            key("attention.sliding_window", "sliding_window", KeyKind::Count),
        ],
        headless: true,
        misfit: granted::gemma2,
        ..PLAIN
    },
    Family {
        model_types: &["gemma3_text", "gemma3"],
        arch: "gemma3",
        norm_offset: 1.0,
        names: SANDWICH,
        keys: &[
            SOFTCAP,
            key(
                "attention.sliding_window",
                "sliding_window",
                KeyKind::MaybeCount,
            ),
            key(
                "attention.sliding_window_pattern",
                "layer_types",
                KeyKind::Windows,
            ),
        ],
        headless: true,
        multimodal: true,
        misfit: granted::gemma3,
        ..PLAIN
    },
    Family {
        model_types: &["phi3"],
        arch: "phi3",
        names: &[
            ("self_attn.qkv_proj", "attn_qkv"),
            ("mlp.gate_up_proj", "ffn_up"),
        ],
        keys: &[
            key("rope.dimension_count", "head_dim", KeyKind::RotaryDim),
            // Nothing tells the fourth generation from the third but a window of 0.
            key(
                "attention.sliding_window",
                "sliding_window",
                KeyKind::CountOr(0),
            ),
        ],
        granted: &[NO_WINDOW],
        ..PLAIN
    },
    Family {
        model_types: &["glm4"],
        arch: "glm4",
        names: &[
            ("mlp.gate_up_proj", "ffn_up"),
            ("post_self_attn_layernorm", "post_attention_norm"),
            ("post_attention_layernorm", "ffn_norm"),
            ("post_mlp_layernorm", "post_ffw_norm"),
        ],
        keys: &[key("rope.dimension_count", "head_dim", KeyKind::RotaryDim)],
        ..PLAIN
    },
    Family {
        model_types: &["olmo2"],
        arch: "olmo2",
        names: SANDWICH,
        ..PLAIN
    },
    Family {
        model_types: &["granite"],
        arch: "granite",
        keys: &[
            key("vocab_size", "vocab_size", KeyKind::Count),
            key("rope.dimension_count", "head_dim", KeyKind::HeadDim),
            key(
                "attention.scale",
                "attention_multiplier",
                KeyKind::MaybeFloat,
            ),
            key(
                "embedding_scale",
                "embedding_multiplier",
                KeyKind::MaybeFloat,
            ),
            key("residual_scale", "residual_multiplier", KeyKind::MaybeFloat),
            key("logit_scale", "logits_scaling", KeyKind::MaybeFloat),
        ],
        names: &[],
        ..LLAMA
    },
    Family {
        model_types: &["smollm3"],
        arch: "smollm3",
        names: &[],
        granted: &[WINDOW_OFF],
        misfit: granted::smollm3,
        ..LLAMA
    },
    DEEPSEEK_2,
    DEEPSEEK_3,
    BERT,
    ROBERTA,
];
