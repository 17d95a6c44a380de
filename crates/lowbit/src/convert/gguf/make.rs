//! Rows and matrices on their way into blocks.

use super::Part;
use crate::convert::report::ModuleReport;
use crate::convert::target::{Given, How, Making, Piece};
use crate::convert::work;
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::matrix::QuantizedMatrix;
use crate::tensor::{Dtype, Tensor, bytes_from_f32};

/// Weights that are widened and encoded at a time.
const SLICE_WEIGHTS: usize = 1 << 20;

/// One source of one tensor of the file.
#[derive(Debug)]
pub(super) struct Encode {
    part: Part,
    exact: bool,
    /// Why a matrix went through floats.
    why: Option<String>,
    /// Σ (w − q)² and Σ w².
    error: (f64, f64),
}

impl Encode {
    pub(super) fn new(part: Part, exact: bool) -> Self {
        Self {
            part,
            exact,
            why: None,
            error: (0.0, 0.0),
        }
    }

    /// Blocks of some rows; what they stand for is compared with the rows.
    fn rows(&mut self, rows: &Tensor, cpu: &Cpu) -> Result<Vec<u8>> {
        let output = &self.part.output;
        let view = rows.view()?;
        let values = output.values_of(self.part.source, &view)?;
        let blocks = output.encode_values_of(self.part.source, &values, cpu)?;
        if self.part.planned.is_some() {
            let back = output.decode_values(&blocks)?;
            for (v, b) in values.iter().zip(&back) {
                let (v, d) = (f64::from(*v), f64::from(v - b));
                self.error.0 += d * d;
                self.error.1 += v * v;
            }
        }
        Ok(blocks)
    }

    /// Blocks of a matrix that the type holds, else of its floats.
    fn matrix(&mut self, matrix: &QuantizedMatrix, cpu: &Cpu) -> Result<Vec<u8>> {
        match self.part.output.blocks_of(matrix) {
            Ok(blocks) => return Ok(blocks),
            Err(e) if e.code == Code::Unsupported => self.why = Some(e.what),
            Err(e) => return Err(e),
        }
        let (cols, granule) = (matrix.cols, self.part.output.granule());
        let some = (SLICE_WEIGHTS / cols.max(1) / granule).max(1) * granule;
        let mut blocks = Vec::new();
        for first in (0..matrix.rows).step_by(some) {
            let count = some.min(matrix.rows - first);
            let mut values = vec![0.0; count * cols];
            for (i, row) in values.chunks_exact_mut(cols).enumerate() {
                matrix.dequantize_row(first + i, row)?;
            }
            let rows = Tensor {
                name: self.part.output.planned.name.clone(),
                dtype: Dtype::F32,
                shape: vec![count, cols],
                bytes: bytes_from_f32(Dtype::F32, &values)?,
            };
            blocks.extend(self.rows(&rows, cpu)?);
        }
        Ok(blocks)
    }
}

impl Making for Encode {
    fn take(&mut self, given: Given, cpu: &Cpu) -> Result<Vec<Piece>> {
        let bytes = match given {
            Given::Rows { rows, .. } => self.rows(&rows, cpu)?,
            Given::Matrix(matrix) => self.matrix(&matrix, cpu)?,
            Given::Nothing => self.part.output.encode_values(cpu)?,
            Given::Stored(_) => return Err(Error::new(Code::Internal, "floats were wanted")),
        };
        Ok(vec![Piece {
            tensor: self.part.output.planned.name.clone(),
            bytes,
        }])
    }

    fn finish(self: Box<Self>, _cpu: &Cpu) -> Result<(Vec<Piece>, Option<ModuleReport>)> {
        let pad = Piece {
            tensor: self.part.output.planned.name.clone(),
            bytes: vec![0; self.part.pad],
        };
        let pieces = Vec::from_iter((self.part.pad > 0).then_some(pad));
        let Some(planned) = &self.part.planned else {
            return Ok((pieces, None));
        };
        let (error, weight) = self.error;
        let relative = (error / weight.max(f64::MIN_POSITIVE)).sqrt();
        let (how, why) = match (planned.how, error > 0.0) {
            (How::Merged, _) => (How::Merged, planned.why.clone()),
            (_, false) => (How::Exact, String::new()),
            (_, true) => {
                let why = self.why.clone().unwrap_or_else(|| planned.why.clone());
                (How::Rounded, why)
            }
        };
        work::check_exact(self.exact, &planned.name, how, &why)?;
        let report = ModuleReport::of(planned, how, &why, relative);
        Ok((pieces, Some(report)))
    }
}
