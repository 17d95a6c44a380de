//! Rounders: weight and statistics → QuantizedMatrix.

pub mod factor;
pub mod gptq;
#[cfg(test)]
mod gptq_tests;
mod gptq_tile;
pub mod hessian;
pub mod observer;
pub mod order;
pub mod rtn;
mod simd;

use crate::error::{Code, Error, Result, nearest};
use crate::tensor::Dtype;
pub use gptq::GptqOptions;
use observer::Observer;
pub use order::Order;

/// What a rounder must know beside the weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// The weight is enough: no calibration text, the same bytes on every host.
    Nothing,
    /// XᵀX of the matrix's inputs on calibration text.
    Hessian,
}

/// A method as tables and help texts show it.
#[derive(Debug, Clone, Copy)]
pub struct Rounder {
    /// The name in options.
    pub name: &'static str,
    /// One sentence on what it does.
    pub about: &'static str,
    /// What it must know beside the weight.
    pub needs: Needs,
}

/// Every method, one line each, in the order of help texts.
pub static ROUNDERS: &[Rounder] = &[rtn::ROUNDER, gptq::ROUNDER];

impl Rounder {
    /// Looks one up by name; `option` with the nearest name otherwise.
    pub fn parse(name: &str) -> Result<&'static Rounder> {
        ROUNDERS.iter().find(|r| r.name == name).ok_or_else(|| {
            let near = nearest(name, ROUNDERS.iter().map(|r| r.name)).unwrap_or_default();
            let error = Error::new(Code::Option, format!("unknown method {name:?}"));
            error.remedy(format!("did you mean {near:?}?"))
        })
    }
}

/// How to round, whatever the method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoundOptions {
    /// How the range of a group is chosen.
    pub observer: Observer,
    /// The type that scales are stored in; codes are decided against the stored scale.
    pub scale_dtype: Dtype,
    /// Settings that only GPTQ reads.
    pub gptq: GptqOptions,
}

impl Default for RoundOptions {
    fn default() -> Self {
        Self {
            observer: Observer::MinMax,
            scale_dtype: Dtype::BF16,
            gptq: GptqOptions::default(),
        }
    }
}
