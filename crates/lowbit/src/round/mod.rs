//! Rounders: weight and statistics → QuantizedMatrix.

pub mod factor;
pub mod gptq;
#[cfg(test)]
mod gptq_tests;
mod gptq_tile;
pub mod hessian;
pub mod observer;
pub mod order;

use crate::tensor::Dtype;
use gptq::GptqOptions;
use observer::Observer;

/// Options.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoundOptions {
    /// o
    pub observer: Observer,
    /// s
    pub scale_dtype: Dtype,
    /// g
    pub gptq: GptqOptions,
}
