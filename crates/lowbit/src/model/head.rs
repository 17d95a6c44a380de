//! What the output head (`lm_head`) gets. Every decision about it is made here.
//!
//! | the checkpoint holds | the head is |
//! |---|---|
//! | its own head tensor | that tensor, also when the config says tied: a file that stores both means both |
//! | no head tensor, `tie_word_embeddings: true` | the embedding itself, one copy in memory |
//! | scores of labels, or an encoder's blocks | none: the model writes no text |
//! | no head tensor, and names without the base model's prefix | none: an embedding model |
//! | no head tensor otherwise | nothing: `missing-tensor` |
//!
//! Neither the head nor the embedding is quantized by default: the head's errors reach the logits
//! without a norm between, and a tied head is read by row as well. A checkpoint whose head was
//! quantized elsewhere is read like any other quantized matrix.

use super::arch::Policy;
use super::config::Config;
use crate::error::{Code, Error, Result};

/// How far a quantization compresses the head, and the embedding with it, unless told otherwise.
pub const POLICY: Policy = Policy::Keep;

/// Where the head's matrix comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// It is the embedding.
    Tied,
    /// It is the module of this name, with its own tensors.
    Own(&'static str),
    /// There is none: the model embeds or classifies.
    None,
}

/// Decides from the config and from whether the checkpoint stores tensors of the head's module.
pub fn source(config: &Config, stored: bool) -> Result<Head> {
    let module = config.arch().head;
    if config.encoder.is_some() || config.labels > 0 {
        return Ok(Head::None);
    }
    match (stored, config.tied) {
        (true, _) => Ok(Head::Own(module)),
        (false, true) => Ok(Head::Tied),
        (false, false) if config.bare => Ok(Head::None),
        (false, false) => {
            let what = format!("tensor \"{module}.weight\" is missing");
            Err(Error::new(Code::MissingTensor, what)
                .remedy("or set tie_word_embeddings in config.json if the head is the embedding"))
        }
    }
}
