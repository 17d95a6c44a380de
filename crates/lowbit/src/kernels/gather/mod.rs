//! `y[t, j] = x[t, order[j]]`, zero where `order[j]` names no column.
//!
//! Puts activations into the order in which a matrix with an input permutation, or with groups
//! that do not fill whole blocks, was uploaded. Copies only: exact.

#[cfg(feature = "gpu")]
pub(crate) mod gpu;
