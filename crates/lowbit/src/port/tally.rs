//! What a model's weights take, and in which scheme they are, seen while they are placed.

use crate::matrix::{Floats, QuantizedMatrix, Scales, Table, Values, Zero};
use crate::minifloat::NF4;
use crate::model::Stored;
use crate::scheme::{Activations, Element, Group, Scheme, ZeroPoint};
use std::collections::BTreeSet;

/// Sums over the matrices of decoder blocks: the quantized ones, or all of an original.
#[derive(Debug, Default)]
pub(super) struct Tally {
    dense: Sums,
    quantized: Sums,
    schemes: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Sums {
    weights: u64,
    bytes: u64,
}

impl Tally {
    /// Counts one matrix.
    pub(super) fn add(&mut self, stored: &Stored) {
        let (sums, weights) = match stored {
            Stored::Dense(tensor) => (&mut self.dense, tensor.shape.iter().product()),
            Stored::Quantized(matrix) => {
                self.schemes.insert(scheme(matrix));
                (&mut self.quantized, matrix.rows * matrix.cols)
            }
        };
        sums.weights += weights as u64;
        sums.bytes += stored_bytes(stored);
    }

    /// Whether any matrix is quantized.
    pub(super) fn is_quantized(&self) -> bool {
        !self.schemes.is_empty()
    }

    /// Bits that one weight takes on average, scales and zero points included.
    pub(super) fn bits_per_weight(&self) -> f64 {
        let sums = if self.is_quantized() {
            &self.quantized
        } else {
            &self.dense
        };
        8.0 * sums.bytes as f64 / sums.weights.max(1) as f64
    }

    /// The scheme of all quantized matrices, or all schemes joined by `+`; none in an original.
    pub(super) fn scheme(&self) -> Option<String> {
        let all: Vec<&str> = self.schemes.iter().map(String::as_str).collect();
        self.is_quantized().then(|| all.join("+"))
    }
}

/// Bytes of a matrix as it is stored.
pub(super) fn stored_bytes(stored: &Stored) -> u64 {
    let matrix = match stored {
        Stored::Dense(tensor) => return tensor.bytes.len() as u64,
        Stored::Quantized(matrix) => matrix,
    };
    let bytes = match &matrix.values {
        Values::Integer(m) => {
            let zero = match &m.zero {
                Zero::Centre => 0,
                Zero::Int(z) => (z.len() * usize::from(m.codes.bits)).div_ceil(8),
                Zero::Float(f) | Zero::Min(f) => f.bytes(),
            };
            4 * m.codes.words.len() + m.scales.bytes() + zero
        }
        Values::Table(m) => 4 * m.codes.words.len() + m.scales.bytes(),
        Values::Minifloat(m) => m.bytes.len() + m.scales.bytes(),
        Values::Codebooks(m) => m.bytes(),
    };
    bytes as u64
}

/// The scheme that a matrix has, as far as the matrix itself tells.
fn scheme(matrix: &QuantizedMatrix) -> String {
    let run = |group: usize| {
        if group == matrix.cols {
            Group::Row
        } else {
            Group::Run(group)
        }
    };
    let mut scheme = match &matrix.values {
        Values::Integer(m) => Scheme {
            zero: match m.zero {
                Zero::Centre => ZeroPoint::None,
                Zero::Int(_) => ZeroPoint::Int,
                Zero::Float(_) | Zero::Min(_) => ZeroPoint::Float,
            },
            ..Scheme::weights(m.codes.bits, run(m.group), true)
        },
        Values::Table(m) => table_scheme(m),
        Values::Codebooks(m) => Scheme {
            element: Element::Aqlm,
            ..Scheme::weights(16, Group::Run(m.block.1), true)
        },
        Values::Minifloat(m) => Scheme {
            element: Element::Fp8,
            ..Scheme::weights(
                8,
                match m.block {
                    (1, width) => run(width),
                    block if block == (matrix.rows, matrix.cols) => Group::Tensor,
                    (rows, cols) => Group::Block { rows, cols },
                },
                true,
            )
        },
    };
    scheme.activations = matrix.inputs.map(|inputs| Activations {
        bits: inputs.bits,
        dynamic: inputs.scale.is_none(),
    });
    scheme.to_string()
}

/// A table's element by its values and scales.
fn table_scheme(m: &Table) -> Scheme {
    let (element, group) = match &m.scales {
        Scales::Flat(Floats::E8m0(_)) => (Element::Mxfp4, Group::Run(m.group)),
        Scales::Divided { .. } => (Element::Nvfp4, Group::Run(m.group)),
        _ if m.values == NF4 => (Element::Nf4, Group::Flat(m.group)),
        _ => (Element::Fp4, Group::Flat(m.group)),
    };
    Scheme {
        element,
        nested: matches!(m.scales, Scales::Nested(_)),
        ..Scheme::weights(4, group, true)
    }
}
