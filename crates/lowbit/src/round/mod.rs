//! Rounders: weight and statistics → QuantizedMatrix.
//!
//! ```text
//! Weights ─► rtn, hqq ───────────────────────────────────────► QuantizedMatrix
//! inputs ─► Hessian ─► Factoring ─► Factor ─► gptq::Rounding ─┘
//!              │                      └─► prune::SparseGpt ─► weights and Mask ─► any of the above
//!              └─ diagonal: importance
//! ```

#[cfg(test)]
mod edge_tests;
pub mod factor;
mod fp8;
pub mod gptq;
#[cfg(test)]
mod gptq_tests;
mod gptq_tile;
pub mod hessian;
pub mod hqq;
mod lazy;
pub mod mask;
mod nested;
pub mod observer;
pub mod order;
pub mod prune;
#[cfg(test)]
mod prune_tests;
mod refine;
#[cfg(test)]
mod refine_tests;
mod rows;
pub mod rtn;
mod sparse_gpt;
mod table;
#[cfg(test)]
mod testing;

use crate::error::{Code, Error, Result, nearest};
use crate::tensor::Dtype;
use gptq::GptqOptions;
use observer::Observer;

/// Weights to round.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    /// `[rows, cols]`, row-major.
    pub values: &'a [f32],
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// E[x²] of each input channel, if known; `[cols]`, not negative.
    pub importance: Option<&'a [f32]>,
}

impl Weights<'_> {
    /// `shape` when there are none; their number must be rows · cols.
    fn check(&self) -> Result<()> {
        let (rows, cols) = (self.rows, self.cols);
        assert_eq!(
            self.values.len(),
            rows * cols,
            "values must be [rows, cols]"
        );
        let known = self.importance.map_or(cols, <[f32]>::len);
        assert_eq!(known, cols, "importance must be [cols]");
        if rows == 0 || cols == 0 {
            let what = format!("a matrix of {rows} × {cols} is empty");
            return Err(Error::new(Code::Shape, what));
        }
        Ok(())
    }
}

/// Which rounder a method is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `rtn`.
    Rtn,
    /// `hqq`.
    Hqq,
    /// `gptq`.
    Gptq,
}

/// A method as tables and help texts show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// Which rounder it is.
    pub kind: Kind,
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
        kind: Kind::Rtn,
        name: "rtn",
        about: "Rounds every weight to the nearest code; needs no text and gives the same bytes on every host",
        needs_calibration: false,
    },
    Method {
        kind: Kind::Hqq,
        name: "hqq",
        about: "Moves zero points until the few large errors weigh less than the many small ones; needs no text",
        needs_calibration: false,
    },
    Method {
        kind: Kind::Gptq,
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
