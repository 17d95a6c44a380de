//! The constants that some families multiply with or cap by.

use super::{Config, RopeScaling};
use crate::error::Result;
use crate::model::fields::Fields;
use std::ops::RangeInclusive;

/// Constants of a model, in the order in which a pass meets them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factors {
    /// Embedding rows are multiplied with it.
    pub embedding: f32,
    /// Attention scores are multiplied with it.
    pub attention: f32,
    /// Attention scores are squeezed into ± this.
    pub attention_cap: Option<f32>,
    /// What blocks add to the residual stream is multiplied with it.
    pub residual: f32,
    /// Logits are divided by it.
    pub logits: f32,
    /// Logits are squeezed into ± this.
    pub logit_cap: Option<f32>,
}

/// What constants may be.
const RANGE: RangeInclusive<f64> = 1e-6..=1e6;

impl Factors {
    /// Those of a family that has none of its own: attention scores over √`head_dim`.
    pub fn plain(head_dim: usize) -> Self {
        Self {
            embedding: 1.0,
            attention: 1.0 / (head_dim as f32).sqrt(),
            attention_cap: None,
            residual: 1.0,
            logits: 1.0,
            logit_cap: None,
        }
    }
}

/// A family without constants of its own.
#[expect(
    clippy::unnecessary_wraps,
    reason = "the same shape as those that can fail"
)]
pub(in crate::model) fn plain(_: &Fields<'_>, config: &Config) -> Result<Factors> {
    Ok(Factors::plain(config.head_dim))
}

/// Gemma 2: caps on scores and logits, scores over the root of a constant.
pub(in crate::model) fn gemma2(fields: &Fields<'_>, config: &Config) -> Result<Factors> {
    Ok(Factors {
        attention_cap: cap(fields, "attn_logit_softcapping", Some(50.0))?,
        logit_cap: cap(fields, "final_logit_softcapping", Some(30.0))?,
        ..gemma3(fields, config)?
    })
}

/// Gemma 3: transformers has a key for a cap on scores and does not use it.
pub(in crate::model) fn gemma3(fields: &Fields<'_>, config: &Config) -> Result<Factors> {
    let scalar = fields.number("query_pre_attn_scalar", RANGE, Some(256.0))?;
    Ok(Factors {
        embedding: (config.hidden as f64).sqrt() as f32,
        attention: (1.0 / scalar.sqrt()) as f32,
        logit_cap: cap(fields, "final_logit_softcapping", None)?,
        ..Factors::plain(config.head_dim)
    })
}

/// Granite: one multiplier each.
pub(in crate::model) fn granite(fields: &Fields<'_>, config: &Config) -> Result<Factors> {
    let factor = |key| fields.number(key, RANGE, Some(1.0)).map(|x| x as f32);
    Ok(Factors {
        embedding: factor("embedding_multiplier")?,
        attention: factor("attention_multiplier")?,
        residual: factor("residual_multiplier")?,
        logits: factor("logits_scaling")?,
        ..Factors::plain(config.head_dim)
    })
}

/// `DeepSeek`: the stretching of the context also widens scores.
#[expect(
    clippy::unnecessary_wraps,
    reason = "the same shape as those that can fail"
)]
pub(in crate::model) fn deepseek(_: &Fields<'_>, config: &Config) -> Result<Factors> {
    let widened = match config.rope_scaling {
        RopeScaling::Yarn { score, .. } => score * score,
        _ => 1.0,
    };
    Ok(Factors {
        attention: (widened / (config.head_dim as f64).sqrt()) as f32,
        ..Factors::plain(config.head_dim)
    })
}

/// null is no cap, a missing key the family's own.
fn cap(fields: &Fields<'_>, key: &str, absent: Option<f64>) -> Result<Option<f32>> {
    let known = fields.get(key).is_some() || absent.is_some();
    if fields.is_null(key) || !known {
        return Ok(None);
    }
    Ok(Some(fields.number(key, RANGE, absent)? as f32))
}
