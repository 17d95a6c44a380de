//! The most likely tokens of a row of logits and the logarithm of their whole sum, on the GPU.
//!
//! `ids` in descending order of logit, ties by lower id; `log_sum = ln Σ exp(logit)` over the
//! whole row. What the sampler needs, so that a GPU sends a few hundred bytes per token and not a
//! row of 150,000 floats. The specification is [`crate::session::top::select`]: ids and logits are
//! equal, `log_sum` is within 1e-5.

#[cfg(feature = "gpu")]
pub(crate) mod gpu;
