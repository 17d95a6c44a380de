//! One folder per operation: `mod.rs` states the formula, layout and bound and dispatches;
//! `scalar.rs` is the specification; `simd.rs`, `gpu.rs` and `*.wgsl` are tested against it.

pub mod activate;
pub mod add;
pub mod attention;
pub mod gather;
pub mod gelu_mul;
#[cfg(all(feature = "gpu", not(target_arch = "wasm32")))]
pub mod gram;
pub mod layer_norm;
pub mod matmul;
mod norm;
pub mod rms_norm;
pub mod rope;
pub mod silu_mul;
mod simd;

#[cfg(test)]
pub(crate) mod conformance;
#[cfg(test)]
pub(crate) mod shapes;
#[cfg(test)]
pub(crate) mod testing;
pub mod top_k;
