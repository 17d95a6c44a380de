//! What a model's weights take, and in which scheme they are, seen while they are placed.

use crate::matrix::{QuantizedMatrix, Scales, Values, Zero};
use crate::model::Stored;
use crate::scheme::{Group, Scheme};
use std::collections::BTreeSet;

/// Sums over the matrices of decoder blocks.
#[derive(Debug, Default)]
pub(super) struct Tally {
    weights: u64,
    bits: u64,
    schemes: BTreeSet<String>,
    /// Whether any matrix is quantized.
    pub(super) quantized: bool,
}

impl Tally {
    /// Counts one matrix.
    pub(super) fn add(&mut self, stored: &Stored) {
        match stored {
            Stored::Dense(tensor) => {
                self.weights += tensor.shape.iter().product::<usize>() as u64;
                self.bits += 8 * tensor.bytes.len() as u64;
                self.schemes.insert(tensor.dtype.name().to_lowercase());
            }
            Stored::Quantized(matrix) => {
                self.quantized = true;
                self.weights += (matrix.rows * matrix.cols) as u64;
                self.bits += 8 * stored_bytes(matrix);
                self.schemes.insert(scheme(matrix));
            }
        }
    }

    /// Bits that one weight takes on average, scales and zero points included.
    pub(super) fn bits_per_weight(&self) -> f64 {
        self.bits as f64 / self.weights.max(1) as f64
    }

    /// The scheme of all matrices, or all schemes joined by `+`.
    pub(super) fn scheme(&self) -> String {
        let all: Vec<&str> = self.schemes.iter().map(String::as_str).collect();
        all.join("+")
    }
}

fn stored_bytes(matrix: &QuantizedMatrix) -> u64 {
    let float = |floats: &crate::matrix::Floats| (floats.len() * floats.dtype().bits() / 8) as u64;
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
