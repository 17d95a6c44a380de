//! Host side of the products: what one matrix is bound to, and which kernel runs it.

use crate::error::Result;
use crate::gpu::{Binding, Dispatch, Gpu, Grid, Matrix, Shader};
use crate::kernels::gather::gpu::gather;

const BINDINGS: &[Binding] = &[
    Binding::Uniform,
    Binding::Uniform,
    Binding::Read,
    Binding::Read,
    Binding::Read,
    Binding::Read,
    Binding::Read,
    Binding::Write,
];

pub(crate) const GEMV_INT: Shader = Shader {
    file: "kernels/matmul/gemv_int.wgsl",
    text: include_str!("gemv_int.wgsl"),
    bindings: BINDINGS,
    constants: &["BITS", "SCALE_KIND"],
};

pub(crate) const GEMV_DENSE: Shader = Shader {
    file: "kernels/matmul/gemv_dense.wgsl",
    text: include_str!("gemv_dense.wgsl"),
    bindings: BINDINGS,
    constants: &["KIND"],
};

pub(crate) const GEMM: Shader = Shader {
    file: "kernels/matmul/gemm.wgsl",
    text: include_str!("gemm.wgsl"),
    bindings: BINDINGS,
    constants: &["KIND", "SCALE_KIND"],
};

/// Rows of one workgroup of the vector kernels.
const GEMV_ROWS: usize = 4;
/// Tokens and rows of one workgroup of the matrix kernel.
const GEMM_TOKENS: usize = 32;
const GEMM_ROWS: usize = 64;
/// Most tokens for which the vector kernels run, once for each.
const GEMV_TOKENS_MAX: u32 = 4;

/// Where a product reads and writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Io<'a> {
    /// `[tokens, from_stride]`.
    pub(crate) from: &'a wgpu::Buffer,
    /// Floats from one input row to the next.
    pub(crate) from_stride: usize,
    /// `[tokens, to_stride]`.
    pub(crate) to: &'a wgpu::Buffer,
    /// Floats from one output row to the next.
    pub(crate) to_stride: usize,
    /// The output is added to what is there.
    pub(crate) accumulate: bool,
}

/// One matrix between two activations: a dispatch per part that it was cut into.
#[derive(Debug)]
pub(crate) struct Product {
    /// Brings the inputs into the matrix's order.
    gather: Option<Dispatch>,
    /// Vector and matrix form of each part.
    parts: Vec<[Dispatch; 2]>,
}

impl Product {
    /// Binds a matrix; `gathered` makes the buffer for permuted inputs of a given width.
    pub(crate) fn new(
        gpu: &Gpu,
        matrix: &Matrix,
        now: &wgpu::Buffer,
        io: Io<'_>,
        gathered: impl FnOnce(usize) -> Result<wgpu::Buffer>,
    ) -> Result<Self> {
        let stride = matrix.cols_padded;
        let Some(order) = &matrix.order else {
            assert_eq!(stride, io.from_stride, "inputs are as wide as the matrix");
            let parts = bind(gpu, matrix, now, io)?;
            return Ok(Self {
                gather: None,
                parts,
            });
        };
        let buffer = gathered(stride)?;
        let strides = [io.from_stride, stride];
        let first = gather(gpu, strides, now, order, [io.from, &buffer])?;
        let inner = Io {
            from: &buffer,
            from_stride: stride,
            ..io
        };
        let parts = bind(gpu, matrix, now, inner)?;
        Ok(Self {
            gather: Some(first),
            parts,
        })
    }

    /// Records the product for `tokens` tokens.
    pub(crate) fn record(&self, pass: &mut wgpu::ComputePass<'_>, tokens: u32) {
        if let Some(gather) = &self.gather {
            gather.record(pass, tokens);
        }
        for [vector, matrix] in &self.parts {
            if tokens <= GEMV_TOKENS_MAX {
                vector.record(pass, tokens);
            } else {
                matrix.record(pass, tokens);
            }
        }
    }

    /// The dispatches of one form alone, for conformance tests.
    #[cfg(test)]
    pub(crate) fn forced(&self, pass: &mut wgpu::ComputePass<'_>, tokens: u32, form: usize) {
        if let Some(gather) = &self.gather {
            gather.record(pass, tokens);
        }
        for part in &self.parts {
            part[form].record(pass, tokens);
        }
    }
}

fn bind(gpu: &Gpu, matrix: &Matrix, now: &wgpu::Buffer, io: Io<'_>) -> Result<Vec<[Dispatch; 2]>> {
    let mut parts = Vec::new();
    for part in &matrix.parts {
        let words = [
            part.rows as u32,
            part.first_row as u32,
            io.from_stride as u32,
            io.to_stride as u32,
            matrix.blocks() as u32,
            matrix.group_blocks as u32,
            matrix.groups as u32,
            matrix.centre.to_bits(),
            u32::from(matrix.has_zeros),
            u32::from(matrix.has_bias),
            u32::from(io.accumulate),
            0,
        ];
        let params = gpu.uniform("matmul", &words)?;
        let buffers = [
            &params,
            now,
            &part.weights,
            &part.scales,
            &part.zeros,
            &matrix.bias,
            io.from,
            io.to,
        ];
        let kind = matrix.kind.code();
        let vector = match matrix.kind.bits() {
            Some(bits) => gpu.pipeline(&GEMV_INT, &[bits, matrix.scale_kind]),
            None => gpu.pipeline(&GEMV_DENSE, &[kind]),
        };
        let grid = Grid::Tiles {
            count: part.rows.div_ceil(GEMV_ROWS) as u32,
            tokens: 1,
        };
        let vector = Dispatch::new(gpu, vector, &buffers, grid);
        let grid = Grid::Tiles {
            count: part.rows.div_ceil(GEMM_ROWS) as u32,
            tokens: GEMM_TOKENS as u32,
        };
        let tiled = vector.with(gpu.pipeline(&GEMM, &[kind, matrix.scale_kind]), grid);
        parts.push([vector, tiled]);
    }
    Ok(parts)
}

#[cfg(test)]
#[path = "gpu_tests.rs"]
mod tests;
