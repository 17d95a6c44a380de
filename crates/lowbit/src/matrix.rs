//! The in-memory form that every format decodes to and every kernel is packed from.
//!
//! A `QuantizedMatrix` is never widened into a dense matrix on the way to a kernel. Scales stay in
//! the type they are stored in, so that writing a matrix back gives the bytes it was read from.

mod check;
mod codebooks;
mod floats;
mod row;
mod scales;

pub use codebooks::Codebooks;
pub use floats::Floats;
pub use scales::{Nested, Scales};

use crate::error::{Code, Error, Result};
use crate::scheme::{Element, Group, Scheme};
use crate::tensor::Dtype;

/// Unsigned codes of a matrix: per row a dense bit stream, element 0 in the lowest bits.
///
/// ```text
/// word 0 of a row, 4 bits:  [31..28 | … | 7..4 | 3..0] = code 7 … code 1, code 0
/// ```
/// Rows start on a word; 32 codes take exactly `bits` words and may straddle two of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Codes {
    /// Bits per code.
    pub bits: u8,
    /// Words per row: `ceil(cols · bits / 32)`.
    pub row_words: usize,
    /// Row after row.
    pub words: Vec<u32>,
}

/// Where the codes' zero is; `q` is the unsigned code, `s` the scale.
#[derive(Debug, Clone, PartialEq)]
pub enum Zero {
    /// `s · (q − 2^(bits−1))`.
    Centre,
    /// `s · (q − z)` with an integer z per group, unsigned like the codes.
    Int(Vec<u8>),
    /// `s · (q − z)` with a float z per group (HQQ).
    Float(Floats),
    /// `s · q − m` with a minimum per group (GGUF legacy and k-quants).
    Min(Floats),
}

/// Integer codes with scales: GPTQ, AWQ, compressed-tensors, HQQ, INT8, k-quants.
#[derive(Debug, Clone, PartialEq)]
pub struct Integer {
    /// The codes, `[rows, cols]`.
    pub codes: Codes,
    /// Columns that share a scale; divides `cols`.
    pub group: usize,
    /// Scale per row and group.
    pub scales: Scales,
    /// Zero per row and group.
    pub zero: Zero,
    /// `order[j]` is the group of input column j when groups are not runs (`g_idx`).
    pub group_of_col: Option<Vec<u32>>,
}

/// Codes into a table of 16 values: NF4, FP4, MXFP4, NVFP4, IQ4.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// 4-bit codes, `[rows, cols]`.
    pub codes: Codes,
    /// The values that codes stand for.
    pub values: Vec<f32>,
    /// Columns that share a scale.
    pub group: usize,
    /// Scale per row and group.
    pub scales: Scales,
}

/// One byte per weight in a small float type: FP8.
#[derive(Debug, Clone, PartialEq)]
pub struct Minifloat {
    /// The element type.
    pub dtype: Dtype,
    /// Raw bytes, `[rows, cols]`.
    pub bytes: Vec<u8>,
    /// Rows and columns that share a scale.
    pub block: (usize, usize),
    /// Scale per block, row-major over blocks; blocks at the edges may be smaller.
    pub scales: Floats,
}

/// The values of a quantized matrix, by kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Integer codes.
    Integer(Integer),
    /// Table codes.
    Table(Table),
    /// Small floats.
    Minifloat(Minifloat),
    /// Sums of vectors out of codebooks.
    Codebooks(Codebooks),
}

/// A matrix of `rows` outputs × `cols` inputs in quantized form.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedMatrix {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// The values, by kind.
    pub values: Values,
    /// How inputs are rounded before the product; none when they are left alone.
    pub inputs: Option<Inputs>,
}

/// Rounding of the inputs of a matrix at run time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Inputs {
    /// `Element::Int` for integers of `bits`, `Element::Fp8` for E4M3, `Element::Nvfp4` for E2M1.
    pub element: Element,
    /// Bits per value.
    pub bits: u8,
    /// One scale for every input, from calibration; a scale per token otherwise. For E2M1 it is what
    /// the E4M3 scales of groups are divided by.
    pub scale: Option<f32>,
    /// Inputs of a token that share a scale; all of them otherwise.
    pub group: Option<usize>,
}

impl Inputs {
    /// The rounding that a scheme asks for; a static one has its scale still to come from
    /// calibration.
    pub fn of(scheme: &Scheme) -> Option<Self> {
        let activations = scheme.activations?;
        let element = match scheme.element {
            Element::Int => Element::Int,
            Element::Nvfp4 => Element::Nvfp4,
            _ => Element::Fp8,
        };
        let group = match (scheme.group, scheme.element) {
            (Group::Block { cols, .. }, _) | (Group::Run(cols), Element::Nvfp4) => Some(cols),
            _ => None,
        };
        Some(Self {
            element,
            bits: activations.bits,
            scale: None,
            group,
        })
    }
}

impl QuantizedMatrix {
    /// The integer kind; `unsupported` for the others, naming who asked.
    pub fn integer(&self, asked_by: &str) -> Result<&Integer> {
        match &self.values {
            Values::Integer(m) => Ok(m),
            Values::Table(_) | Values::Minifloat(_) | Values::Codebooks(_) => Err(Error::new(
                Code::Unsupported,
                format!("{asked_by} needs integer codes"),
            )),
        }
    }
}
