//! Host side of `append.wgsl` and `attention.wgsl`.

use crate::error::{Code, Error, Result};
use crate::gpu::{Binding, Dispatch, Gpu, Grid, Shader, align};

pub(crate) const APPEND: Shader = Shader {
    file: "kernels/attention/append.wgsl",
    text: include_str!("append.wgsl"),
    bindings: &[
        Binding::Uniform,
        Binding::Uniform,
        Binding::Read,
        Binding::Read,
        Binding::Write,
        Binding::Write,
    ],
    constants: &[],
};

pub(crate) const ATTENTION: Shader = Shader {
    file: "kernels/attention/attention.wgsl",
    text: include_str!("attention.wgsl"),
    bindings: &[
        Binding::Uniform,
        Binding::Uniform,
        Binding::Read,
        Binding::Read,
        Binding::Read,
        Binding::Write,
    ],
    constants: &[],
};

/// Widest head: one vector of 4 per thread of a workgroup.
const HEAD_DIM_MAX: usize = 256;

/// Heads and width of queries, keys and values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
}

impl Shape {
    /// `unsupported` for heads that are not whole vectors of 4 or wider than 256.
    pub(crate) fn check(self) -> Result<()> {
        if self.head_dim.is_multiple_of(4) && (4..=HEAD_DIM_MAX).contains(&self.head_dim) {
            return Ok(());
        }
        let what = format!("attention heads of {} columns on the GPU", self.head_dim);
        Err(Error::new(Code::Unsupported, what)
            .remedy("multiples of 4 up to 256 work; use device \"cpu\""))
    }

    /// Floats of one position in a cache.
    pub(crate) fn kv_width(self) -> usize {
        self.kv_heads * self.head_dim
    }
}

/// Copies `new` keys and values behind those in `cache`.
pub(crate) fn append(
    gpu: &Gpu,
    shape: Shape,
    now: &wgpu::Buffer,
    new: [&wgpu::Buffer; 2],
    cache: [&wgpu::Buffer; 2],
) -> Result<Dispatch> {
    let width = (shape.kv_width() / 4) as u32;
    let stride = (align(shape.kv_width()) / 4) as u32;
    let params = gpu.uniform("append", &[stride, width, 0, 0])?;
    let grid = Grid::Spread {
        per_token: width,
        per_group: 64,
    };
    let buffers = [&params, now, new[0], new[1], cache[0], cache[1]];
    Ok(Dispatch::new(
        gpu,
        gpu.pipeline(&APPEND, &[]),
        &buffers,
        grid,
    ))
}

/// Attention over `cache`, which holds the new keys and values already; `io` are queries and output.
pub(crate) fn attention(
    gpu: &Gpu,
    shape: Shape,
    now: &wgpu::Buffer,
    cache: [&wgpu::Buffer; 2],
    io: [&wgpu::Buffer; 2],
) -> Result<Dispatch> {
    shape.check()?;
    let words = [
        (shape.heads / shape.kv_heads) as u32,
        (shape.head_dim / 4) as u32,
        (align(shape.heads * shape.head_dim) / 4) as u32,
        (shape.kv_width() / 4) as u32,
        (1.0 / (shape.head_dim as f32).sqrt()).to_bits(),
        0,
        0,
        0,
    ];
    let params = gpu.uniform("attention", &words)?;
    let grid = Grid::Tiles {
        count: shape.heads as u32,
        tokens: 1,
    };
    let buffers = [&params, now, cache[0], cache[1], io[0], io[1]];
    Ok(Dispatch::new(
        gpu,
        gpu.pipeline(&ATTENTION, &[]),
        &buffers,
        grid,
    ))
}
