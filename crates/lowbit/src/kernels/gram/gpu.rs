//! Host side of second moments: which rows lie in which binding.

use crate::error::Result;
use crate::gpu::{Binding, Dispatch, Gpu, Grid, Shader, align};

pub(crate) const GRAM: Shader = Shader {
    file: "kernels/gram/gram.wgsl",
    text: include_str!("gram.wgsl"),
    bindings: &[
        Binding::Uniform,
        Binding::Uniform,
        Binding::Read,
        Binding::Write,
    ],
    constants: &[],
};

/// Rows and columns of one workgroup.
pub(crate) const SIDE: usize = 64;
/// Tokens that are summed before they are added: calls of whole multiples give the sums of one.
pub(crate) const TOKENS: usize = 256;

/// Some rows of second moments on the device, as far as the diagonal.
#[derive(Debug)]
pub(crate) struct GramRows {
    params: wgpu::Buffer,
    /// `[rows, stride]`.
    pub(crate) sums: wgpu::Buffer,
    pub(crate) first_row: usize,
    pub(crate) rows: usize,
    pub(crate) stride: usize,
}

impl GramRows {
    /// Zeros for `rows` rows from `first_row`, a multiple of [`SIDE`], for inputs of width `n`.
    pub(crate) fn new(gpu: &Gpu, first_row: usize, rows: usize, n: usize) -> Result<Self> {
        let stride = Self::stride(first_row, rows);
        let words = [align(n), first_row, rows, stride].map(|w| w as u32);
        Ok(Self {
            params: gpu.uniform("gram", &words)?,
            sums: gpu.storage("second moments", (4 * rows * stride) as u64)?,
            first_row,
            rows,
            stride,
        })
    }

    /// Floats from one row to the next: whole tiles.
    pub(crate) fn stride(first_row: usize, rows: usize) -> usize {
        (first_row + rows).next_multiple_of(SIDE)
    }

    /// Adds `Σ x·xᵀ` over `x [tokens, n padded]`; recorded for one token, as workgroups do them all.
    pub(crate) fn add(&self, gpu: &Gpu, now: &wgpu::Buffer, x: &wgpu::Buffer) -> Dispatch {
        let tiles = self.rows.div_ceil(SIDE) * (self.stride / SIDE);
        let grid = Grid::Tiles {
            count: tiles as u32,
            tokens: 1,
        };
        let pipeline = gpu.pipeline(&GRAM, &[]);
        Dispatch::new(gpu, pipeline, &[&self.params, now, x, &self.sums], grid)
    }
}

#[cfg(test)]
#[path = "gpu_tests.rs"]
mod tests;
