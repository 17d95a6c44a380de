//! The families that GGUF has names for: one row each.
//!
//! Source: the names that llama.cpp loads, and what its converter does to the weights of each
//! family. A family that differs from Llama in a name lists that name; `tensors.rs` has the rest.

use crate::error::{Code, Error, Result, nearest};

/// One family as GGUF knows it.
#[derive(Debug)]
pub struct Family {
    /// Values of `model_type` in config.json that this row serves.
    pub model_types: &'static [&'static str],
    /// The value of `general.architecture`, which prefixes the family's keys.
    pub arch: &'static str,
    /// Query and key rows are reordered: rotary pairs are neighbours in the file and half a head
    /// apart in the checkpoint.
    pub permute: bool,
    /// Norm weights are stored less one in the checkpoint.
    pub norm_offset: f32,
    /// Modules inside a block that have another name than in `tensors::BLOCK`.
    pub(super) names: &'static [(&'static str, &'static str)],
    /// Keys beside those that all families have.
    pub(super) keys: &'static [Key],
    /// The head is never stored, because loaders take the embedding.
    pub headless: bool,
}

/// A key of the family and where config.json has its value.
#[derive(Debug)]
pub struct Key {
    /// The key without the family's prefix.
    pub(super) name: &'static str,
    /// The key of config.json.
    pub(super) from: &'static str,
    pub(super) kind: KeyKind,
}

/// How a key is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyKind {
    Count,
    Float,
    /// A count that is not written when the config has none.
    MaybeCount,
    /// A float that is not written when the config has none.
    MaybeFloat,
    /// The width of a head, computed when the config has none.
    HeadDim,
}

const fn key(name: &'static str, from: &'static str, kind: KeyKind) -> Key {
    Key { name, from, kind }
}

const LLAMA_KEYS: &[Key] = &[
    key("vocab_size", "vocab_size", KeyKind::Count),
    key("rope.dimension_count", "head_dim", KeyKind::HeadDim),
];

const LLAMA: Family = Family {
    model_types: &["llama", "mistral", "mixtral"],
    arch: "llama",
    permute: true,
    norm_offset: 0.0,
    names: &[
        ("block_sparse_moe.gate", "ffn_gate_inp"),
        ("block_sparse_moe.experts.{}.w1", "ffn_gate_exps"),
        ("block_sparse_moe.experts.{}.w2", "ffn_down_exps"),
        ("block_sparse_moe.experts.{}.w3", "ffn_up_exps"),
    ],
    keys: LLAMA_KEYS,
    headless: false,
};

/// A family whose weights are stored as in its checkpoints.
const PLAIN: Family = Family {
    permute: false,
    names: &[],
    keys: &[],
    ..LLAMA
};

/// Names of families with norms on both sides of attention and MLP.
const SANDWICH: &[(&str, &str)] = &[
    ("post_attention_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
];

/// Every family.
pub static FAMILIES: &[Family] = &[
    LLAMA,
    Family {
        model_types: &["qwen2"],
        arch: "qwen2",
        ..PLAIN
    },
    Family {
        model_types: &["qwen3"],
        arch: "qwen3",
        ..PLAIN
    },
    Family {
        model_types: &["qwen3_moe"],
        arch: "qwen3moe",
        keys: &[key(
            "expert_feed_forward_length",
            "moe_intermediate_size",
            KeyKind::Count,
        )],
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
            key(
                "final_logit_softcapping",
                "final_logit_softcapping",
                KeyKind::MaybeFloat,
            ),
            key("attention.sliding_window", "sliding_window", KeyKind::Count),
        ],
        headless: true,
        ..PLAIN
    },
    Family {
        model_types: &["gemma3_text", "gemma3"],
        arch: "gemma3",
        norm_offset: 1.0,
        names: SANDWICH,
        keys: &[
            key(
                "final_logit_softcapping",
                "final_logit_softcapping",
                KeyKind::MaybeFloat,
            ),
            key(
                "attention.sliding_window",
                "sliding_window",
                KeyKind::MaybeCount,
            ),
        ],
        headless: true,
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
        ..LLAMA
    },
];

impl Family {
    /// The row that serves a `model_type`; `unknown-architecture` names the known ones otherwise.
    pub fn find(model_type: &str) -> Result<&'static Self> {
        let known = || FAMILIES.iter().flat_map(|f| f.model_types).copied();
        let serves = |f: &&Family| f.model_types.contains(&model_type);
        FAMILIES.iter().find(serves).ok_or_else(|| {
            let shown: String = model_type.chars().take(60).collect();
            let near = nearest(&shown, known()).unwrap_or_default();
            let list: Vec<_> = known().collect();
            let what = format!("model_type {shown:?} has no GGUF names here");
            Error::new(Code::UnknownArchitecture, what)
                .at("config.json")
                .remedy(format!("known: {}; nearest: {near}", list.join(", ")))
        })
    }
}
