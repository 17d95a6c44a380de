//! Host side of `rope.wgsl`.

use crate::error::Result;
use crate::gpu::{Binding, Dispatch, Gpu, Grid, Shader, align};
use crate::kernels::attention::gpu::Shape;

pub(crate) const ROPE: Shader = Shader {
    file: "kernels/rope/rope.wgsl",
    text: include_str!("rope.wgsl"),
    bindings: &[
        Binding::Uniform,
        Binding::Uniform,
        Binding::Read,
        Binding::Write,
        Binding::Write,
    ],
    constants: &[],
};

/// Rotation of `qk` in place by the pass's table of cosines and sines.
pub(crate) fn rope(
    gpu: &Gpu,
    shape: Shape,
    now: &wgpu::Buffer,
    table: &wgpu::Buffer,
    qk: [&wgpu::Buffer; 2],
) -> Result<Dispatch> {
    let half = shape.head_dim / 2;
    let words = [
        shape.heads,
        shape.kv_heads,
        half,
        align(shape.heads * shape.head_dim),
        align(shape.kv_heads * shape.head_dim),
        0,
        0,
        0,
    ];
    let params = gpu.uniform("rope", &words.map(|w| w as u32))?;
    let grid = Grid::Spread {
        per_token: ((shape.heads + shape.kv_heads) * half) as u32,
        per_group: 64,
    };
    let buffers = [&params, now, table, qk[0], qk[1]];
    Ok(Dispatch::new(gpu, gpu.pipeline(&ROPE, &[]), &buffers, grid))
}
