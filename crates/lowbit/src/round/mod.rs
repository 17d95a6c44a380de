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
use gptq::GptqOptions;
use observer::Observer;

/// A method as tables and help texts show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// The name in options.
    pub name: &'static str,
    /// One sentence on what it does.
    pub about: &'static str,
    /// Whether it needs the inputs of each matrix on calibration text.
    pub needs_calibration: bool,
}

/// Every method, in the order of help texts.
pub static ROUNDERS: &[Method] = &[
    Method {
        name: "rtn",
        about: "Rounds every weight to the nearest code; needs no text and gives the same bytes on every host",
        needs_calibration: false,
    },
    Method {
        name: "gptq",
        about: "Rounds column by column, later columns making up for earlier errors",
        needs_calibration: true,
    },
];

/// Looks a method up by name; `option` with the nearest name otherwise.
pub fn find(name: &str) -> Result<&'static Method> {
    ROUNDERS.iter().find(|m| m.name == name).ok_or_else(|| {
        let near = nearest(name, ROUNDERS.iter().map(|m| m.name)).unwrap_or_default();
        let error = Error::new(Code::Option, format!("unknown method {name:?}"));
        error.remedy(format!("did you mean {near:?}?"))
    })
}

/// How to round, whatever the method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoundOptions {
    /// How the range of a group is chosen.
    pub observer: Observer,
    /// The type that scales are stored in; codes are decided against the stored scale.
    pub scale_dtype: Dtype,
    /// What only GPTQ reads.
    pub gptq: GptqOptions,
}
