//! Changes of weights that leave the function of the unquantized model as it is and make it easier
//! to round: channels scaled (SmoothQuant, AWQ), weights rotated, ranges clipped.
//!
//! ```text
//! Arch's operations ─► flow ─► mappings: who may be scaled against whom
//! inputs ─► InputStats ─► Scaling: candidates scored by second moments ─► Outcome ─► fold
//!                └──────► Clipping: per group, after folding
//! config ─► Rotation ─► fuse_block, embedding_rows, head_rows
//! ```
//! Nothing here runs a block: the error of a linear's outputs is a quadratic form of its weights'
//! errors, whose matrix calibration has summed already.

pub mod awq;
pub mod clip;
pub(crate) mod curvature;
mod flow;
pub mod fold;
pub mod hadamard;
pub mod mapping;
pub mod rotate;
pub mod scaling;
#[cfg(test)]
mod scaling_tests;
mod score;
pub mod smooth;
pub mod stats;

use crate::error::{Code, Error, Result};
use crate::kernels::matmul::Weight;
use crate::model::ops::Part;
use crate::model::{Block, Slotted, Stored};
use crate::tensor::{Dtype, TensorRef};

pub use clip::Clipping;
pub use fold::fold;
pub use mapping::{Mapping, Producer, mappings};
pub use rotate::Rotation;
pub use scaling::{Outcome, Scaling, Target};
pub use stats::InputStats;

/// A matrix widened to f32.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// `[rows, cols]`, row-major.
    pub values: Vec<f32>,
}

/// A block whose matrices are widened to f32; norms are what inputs are multiplied with.
pub type FloatBlock = Block<Matrix>;

impl Matrix {
    /// Widens a matrix as stored; `unsupported` when it is quantized already.
    pub fn from_stored(stored: &Stored) -> Result<Self> {
        let Stored::Dense(tensor) = stored else {
            let what = "transforms need weights that are not quantized yet";
            return Err(Error::new(Code::Unsupported, what));
        };
        let view = tensor.view()?;
        let (rows, cols) = view.matrix()?;
        Ok(Self {
            rows,
            cols,
            values: view.to_f32()?,
        })
    }

    /// The form that products take.
    pub fn to_weight(&self) -> Result<Weight> {
        dense(self.rows, self.cols, &self.values)
    }
}

/// A weight of plain f32 `[rows, cols]`.
fn dense(rows: usize, cols: usize, values: &[f32]) -> Result<Weight> {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Weight::dense(TensorRef::new(Dtype::F32, &[rows, cols], &bytes)?)
}

/// The matrix of a part and its bias, to be changed.
fn matrix_mut(block: &mut FloatBlock, part: Part) -> (&mut Matrix, Option<&mut Vec<f32>>) {
    match slot(block, part) {
        Slotted::Matrix { weight, bias } => (weight, bias.as_mut()),
        Slotted::Vector(_) => unreachable!("{part:?} is a vector"),
    }
}

/// The vector of a part, to be changed.
fn vector_mut(block: &mut FloatBlock, part: Part) -> &mut Vec<f32> {
    match slot(block, part) {
        Slotted::Vector(v) => v,
        Slotted::Matrix { .. } => unreachable!("{part:?} is a matrix"),
    }
}

fn slot(block: &mut FloatBlock, part: Part) -> &mut Slotted<Matrix> {
    let found = block.weights.iter_mut().find(|(p, _)| *p == part);
    &mut found
        .unwrap_or_else(|| unreachable!("{part:?} was loaded"))
        .1
}
