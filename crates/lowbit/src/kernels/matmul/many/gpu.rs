//! Host side of calibration's products.

use crate::error::Result;
use crate::gpu::{Binding, Dispatch, Gpu, Grid, Shader, align};

/// Products of dense matrices with many tokens.
pub(crate) const GEMM_MANY: Shader = Shader {
    file: "kernels/matmul/many/gemm_many.wgsl",
    text: include_str!("gemm_many.wgsl"),
    bindings: &[
        Binding::Uniform,
        Binding::Uniform,
        Binding::Read,
        Binding::Read,
        Binding::Write,
    ],
    constants: &["KIND"],
};

/// Tokens and rows of one workgroup of [`GEMM_MANY`].
const MANY: usize = 64;

/// Rows of a dense matrix on the device.
#[derive(Debug)]
pub(crate) struct DenseRows {
    /// `GEMM_MANY`'s parameters.
    pub(crate) params: wgpu::Buffer,
    /// `[rows, cols padded]` in the type that `kind` names.
    pub(crate) weights: wgpu::Buffer,
    /// `KIND_F32`, `KIND_F16` or `KIND_BF16` of the prelude.
    pub(crate) kind: u32,
    pub(crate) rows: usize,
}

impl DenseRows {
    /// Rows from `first_row` on of a matrix `[all_rows, cols]`; `weights` may be filled later.
    pub(crate) fn new(
        gpu: &Gpu,
        weights: wgpu::Buffer,
        kind: u32,
        [first_row, rows, all_rows, cols]: [usize; 4],
    ) -> Result<Self> {
        let blocks = align(cols) / 16;
        let words = [rows, first_row, align(cols), all_rows, blocks, 0, 0, 0].map(|w| w as u32);
        Ok(Self {
            params: gpu.uniform("many", &words)?,
            weights,
            kind,
            rows,
        })
    }

    /// `y[tokens, all rows] = x[tokens, cols padded] · Wᵀ` for these rows.
    pub(crate) fn product(
        &self,
        gpu: &Gpu,
        now: &wgpu::Buffer,
        [x, y]: [&wgpu::Buffer; 2],
    ) -> Dispatch {
        let grid = Grid::Tiles {
            count: self.rows.div_ceil(MANY) as u32,
            tokens: MANY as u32,
        };
        let pipeline = gpu.pipeline(&GEMM_MANY, &[self.kind]);
        let buffers = [&self.params, now, &self.weights, x, y];
        Dispatch::new(gpu, pipeline, &buffers, grid)
    }
}

#[cfg(test)]
#[path = "gpu_tests.rs"]
mod tests;
