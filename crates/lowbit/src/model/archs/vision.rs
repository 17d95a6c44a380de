//! The language models of families that also see images. Their other tensors are copied as they
//! are; what runs here is text.

use super::gemma::GEMMA3;
use super::llama::{QWEN2, QWEN3};
use crate::model::arch::{Absent, Arch, Rope};

pub(super) const QWEN2_VL: Arch = Arch {
    name: "Qwen2-VL",
    model_types: &["qwen2_vl", "qwen2_5_vl"],
    text: Some("text_config"),
    rope: Rope {
        theta: 1_000_000.0,
        sections: true,
        ..QWEN2.rope
    },
    absent: Absent {
        kv_heads: Some(8),
        ..QWEN2.absent
    },
    ..QWEN2
};

pub(super) const QWEN3_VL: Arch = Arch {
    name: "Qwen3-VL",
    model_types: &["qwen3_vl"],
    text: Some("text_config"),
    embed: "model.language_model.embed_tokens",
    blocks: "model.language_model.layers",
    norm: "model.language_model.norm",
    rope: Rope {
        sections: true,
        ..QWEN3.rope
    },
    ..QWEN3
};

pub(super) const GEMMA3_VISION: Arch = Arch {
    name: "Gemma 3 with vision",
    model_types: &["gemma3"],
    text: Some("text_config"),
    embed: "language_model.model.embed_tokens",
    blocks: "language_model.model.layers",
    norm: "language_model.model.norm",
    head: "language_model.lm_head",
    ..GEMMA3
};
