//! How a matrix is quantized, as people write it: `w4g128`, `w4g128-asym`, `w8a8`, `fp8a8`, `nf4`.
//!
//! ```text
//! scheme  = element [inputs] [group] ["-" ending]…
//! element = "w" bits | "fp8" | "nf4" | "fp4" | "mxfp4" | "nvfp4" | "aqlm" (only read)
//! inputs  = "a8" (8 bits of the element's kind, scaled per token) | "a8s" (scale from calibration)
//!         | "a4" (nvfp4 only: scaled per group, under a scale from calibration)
//! group   = "g" columns | "flat" weights | "b" rows "x" columns | "t"     else the element's own
//! ending  = "asym" (integer zero points) | "float" (float zero points) | "dq" (quantized scales)
//! ```
//! The names that llm-compressor gives to its presets (`W4A16_ASYM`, `FP8_DYNAMIC`) are read too, in
//! any case but where the same letters are an element of ours: `FP8` and `NVFP4` round inputs too,
//! `fp8` and `nvfp4` do not.

mod parse;

pub use parse::PRESETS;

use crate::error::{Code, Error, Result};
use std::fmt;

/// Which weights share one scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// The whole row (output channel).
    Row,
    /// A run of this many weights along the row.
    Run(usize),
    /// A run of this many weights over the flattened tensor.
    Flat(usize),
    /// A block of rows × columns.
    Block {
        /// Rows of the block.
        rows: usize,
        /// Columns of the block.
        cols: usize,
    },
    /// The whole tensor.
    Tensor,
}

/// What a code stands for, and in which type its scale is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    /// Integers of `Scheme::bits`, scales in a float type of the model's choice.
    Int,
    /// E4M3 floats, scales as for integers.
    Fp8,
    /// bitsandbytes' 4-bit normal floats (arXiv 2305.14314), absolute maxima in f32.
    Nf4,
    /// bitsandbytes' 4-bit floats, absolute maxima in f32.
    Fp4,
    /// E2M1 floats, scales E8M0 (OCP Microscaling 1.0).
    Mxfp4,
    /// E2M1 floats, scales E4M3 under one f32 scale for the matrix.
    Nvfp4,
    /// Sums of vectors out of codebooks (AQLM); only read.
    Aqlm,
}

/// A row of the table of elements.
struct ElementRow {
    element: Element,
    name: &'static str,
    bits: u8,
    /// The group when none is written.
    group: Group,
}

/// Every element that is not an integer.
const ELEMENTS: &[ElementRow] = &[
    ElementRow {
        element: Element::Fp8,
        name: "fp8",
        bits: 8,
        group: Group::Row,
    },
    ElementRow {
        element: Element::Nf4,
        name: "nf4",
        bits: 4,
        group: Group::Flat(64),
    },
    ElementRow {
        element: Element::Fp4,
        name: "fp4",
        bits: 4,
        group: Group::Flat(64),
    },
    ElementRow {
        element: Element::Mxfp4,
        name: "mxfp4",
        bits: 4,
        group: Group::Run(32),
    },
    ElementRow {
        element: Element::Nvfp4,
        name: "nvfp4",
        bits: 4,
        group: Group::Run(16),
    },
    ElementRow {
        element: Element::Aqlm,
        name: "aqlm",
        bits: 16,
        group: Group::Run(8),
    },
];

/// Where the code of the value 0 is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ZeroPoint {
    /// In the middle of the codes: symmetric.
    None,
    /// At an integer that each group stores.
    Int,
    /// At a float that each group stores (HQQ).
    Float,
}

/// How the inputs of a matrix are quantized at run time: 8 bits of the weight's kind, or 4 of E2M1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Activations {
    /// Bits per value.
    pub bits: u8,
    /// Scales computed per token at run time, with nothing from calibration.
    pub dynamic: bool,
}

/// How a matrix is quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scheme {
    /// What a code stands for.
    pub element: Element,
    /// Bits per code: 2, 3, 4 or 8 for integers.
    pub bits: u8,
    /// Which weights share a scale.
    pub group: Group,
    /// Where zero is; `None` for elements that are no integers.
    pub zero: ZeroPoint,
    /// Scales are quantized themselves (bitsandbytes' double quantization).
    pub nested: bool,
    /// Quantization of the inputs, if any.
    pub activations: Option<Activations>,
}

/// Bit widths that integer schemes may have.
pub const BITS: &[u8] = &[2, 3, 4, 8];

impl Scheme {
    /// Integer weights only.
    pub const fn weights(bits: u8, group: Group, symmetric: bool) -> Self {
        Self {
            element: Element::Int,
            bits,
            group,
            zero: if symmetric {
                ZeroPoint::None
            } else {
                ZeroPoint::Int
            },
            nested: false,
            activations: None,
        }
    }

    /// Whether codes are centred on zero.
    pub const fn is_symmetric(&self) -> bool {
        matches!(self.zero, ZeroPoint::None)
    }

    /// Columns that share a scale in a row of `cols`; `scheme` when the row does not divide.
    pub fn group_cols(&self, cols: usize) -> Result<usize> {
        match self.group {
            Group::Row | Group::Tensor => Ok(cols),
            // A flat run ends with the row when it divides the row.
            Group::Run(n) | Group::Flat(n) if n > 0 && cols.is_multiple_of(n) => Ok(n),
            Group::Run(n) | Group::Flat(n) => {
                let what = format!("{cols} columns are not a multiple of group {n}");
                let near = [256, 128, 64, 32, 16]
                    .iter()
                    .find(|g| **g <= n && cols.is_multiple_of(**g));
                let fit = near.map_or_else(
                    || format!("use w{}", self.bits),
                    |g| format!("use w{}g{g}", self.bits),
                );
                Err(Error::new(Code::Scheme, what).remedy(fit))
            }
            Group::Block { .. } => Err(Error::new(
                Code::Scheme,
                format!("{self} has no groups along a row"),
            )),
        }
    }

    /// Lowest and highest signed code of an integer scheme.
    pub const fn range(&self) -> (i32, i32) {
        (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = ELEMENTS.iter().find(|row| row.element == self.element);
        match row {
            None => write!(f, "w{}", self.bits)?,
            Some(row) => f.write_str(row.name)?,
        }
        if let Some(a) = self.activations {
            let fixed = !a.dynamic && self.element != Element::Nvfp4;
            write!(f, "a{}{}", a.bits, if fixed { "s" } else { "" })?;
        }
        let own = row.map_or(Group::Row, |row| row.group);
        match self.group {
            same if same == own => {}
            Group::Row => write!(f, "g-1")?,
            Group::Run(n) => write!(f, "g{n}")?,
            Group::Flat(n) => write!(f, "flat{n}")?,
            Group::Block { rows, cols } => write!(f, "b{rows}x{cols}")?,
            Group::Tensor => write!(f, "t")?,
        }
        match self.zero {
            ZeroPoint::None => {}
            ZeroPoint::Int => f.write_str("-asym")?,
            ZeroPoint::Float => f.write_str("-float")?,
        }
        if self.nested {
            f.write_str("-dq")?;
        }
        Ok(())
    }
}
