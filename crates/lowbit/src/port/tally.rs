//! What a model's weights take, and in which scheme they are, seen while they are placed.

use crate::matrix::{Floats, QuantizedMatrix, Scales, Values, Zero};
use crate::model::Stored;
use crate::scheme::{Group, Scheme};
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
    let float = |floats: &Floats| (floats.len() * floats.dtype().bits() / 8) as u64;
    let scale = |scales: &Scales| match scales {
        Scales::Flat(f) => float(f),
        Scales::Super { outer, inner, .. } => float(outer) + inner.len() as u64,
    };
    match &matrix.values {
        Values::Integer(m) => {
            let zero = match &m.zero {
                Zero::Centre => 0,
                Zero::Int(z) => (z.len() * usize::from(m.codes.bits)).div_ceil(8) as u64,
                Zero::Float(f) | Zero::Min(f) => float(f),
            };
            4 * m.codes.words.len() as u64 + scale(&m.scales) + zero
        }
        Values::Table(m) => 4 * m.codes.words.len() as u64 + scale(&m.scales),
        Values::Minifloat(m) => m.bytes.len() as u64 + float(&m.scales),
    }
}

fn scheme(matrix: &QuantizedMatrix) -> String {
    let Values::Integer(m) = &matrix.values else {
        return "other".into();
    };
    let group = if m.group == matrix.cols {
        Group::Row
    } else {
        Group::Run(m.group)
    };
    let symmetric = matches!(m.zero, Zero::Centre);
    Scheme::weights(m.codes.bits, group, symmetric).to_string()
}
