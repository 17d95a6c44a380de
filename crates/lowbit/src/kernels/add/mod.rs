//! `to[i] += from[i]`: the residual stream. On the CPU it is a loop inside the interpreter; on the
//! GPU the product in front of it usually adds in place and this kernel is the general case.
//!
//! One f32 addition per element: the same bits everywhere.

#[cfg(feature = "gpu")]
pub(crate) mod gpu;
