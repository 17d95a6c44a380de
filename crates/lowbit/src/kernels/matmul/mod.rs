//! `y[m, rows] = x[m, cols] · Wᵀ` for dense and quantized W.

use crate::cpu::{Compute, Cpu, Isa};
use crate::error::Result;
use crate::matrix::{Floats, QuantizedMatrix};
use crate::tensor::TensorRef;

/// A matrix in the form that the kernels of this host read.
#[derive(Debug, Clone)]
pub enum Weight {
    /// Floats as stored in the checkpoint, widened tile by tile in registers or cache.
    Dense(Dense),
    /// Integer codes rearranged once for an instruction set and a compute mode.
    Packed(Packed),
}

/// A dense matrix, row-major, in its stored type.
#[derive(Debug, Clone)]
pub struct Dense {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// `rows · cols` values.
    pub values: Floats,
}

/// A quantized matrix rearranged for this host.
#[derive(Debug, Clone)]
pub struct Packed {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// The compute mode it was packed for.
    pub compute: Compute,
}

impl Weight {
    /// Takes a dense matrix; `dtype` unless it is F32, F16 or BF16.
    pub fn dense(tensor: TensorRef<'_>) -> Result<Self> {
        let (rows, cols) = tensor.matrix()?;
        let values = Floats::from_bytes(tensor.dtype, tensor.bytes)?;
        Ok(Self::Dense(Dense { rows, cols, values }))
    }

    /// Rearranges a quantized matrix for `isa` and `compute`.
    pub fn packed(matrix: &QuantizedMatrix, compute: Compute, isa: Isa) -> Result<Self> {
        let _ = isa;
        Ok(Self::Packed(Packed {
            rows: matrix.rows,
            cols: matrix.cols,
            compute,
        }))
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        match self {
            Self::Dense(d) => d.rows,
            Self::Packed(p) => p.rows,
        }
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        match self {
            Self::Dense(d) => d.cols,
            Self::Packed(p) => p.cols,
        }
    }

    /// Bytes that one product with a vector reads.
    pub fn bytes(&self) -> usize {
        0
    }

    /// Row `row` as floats: the embedding lookup.
    pub fn row(&self, row: usize, out: &mut [f32]) -> Result<()> {
        let _ = (row, out);
        Ok(())
    }
}

/// `y[m, rows] = x[m, cols] · Wᵀ`; m is `x.len() / cols`.
pub fn matmul(cpu: &Cpu, x: &[f32], w: &Weight, y: &mut [f32]) {
    let _ = (cpu, x, w, y);
}

/// Adds `x[m, n]ᵀ · x` into the lower triangle of `h[n, n]`, in fixed tiles of rows so that the
/// result does not depend on the number of threads.
pub fn gram(cpu: &Cpu, x: &[f32], n: usize, h: &mut [f32]) {
    let _ = (cpu, x, n, h);
}
