//! Host side of `silu_mul.wgsl`.

use crate::error::Result;
use crate::gpu::{Binding, Dispatch, Gpu, Grid, Shader};

pub(crate) const SILU_MUL: Shader = Shader {
    file: "kernels/silu_mul/silu_mul.wgsl",
    text: include_str!("silu_mul.wgsl"),
    bindings: &[
        Binding::Uniform,
        Binding::Uniform,
        Binding::Read,
        Binding::Write,
    ],
    constants: &[],
};

/// Gate of the MLP in place; rows are `stride` floats, a multiple of 4.
pub(crate) fn silu_mul(
    gpu: &Gpu,
    stride: usize,
    now: &wgpu::Buffer,
    up: &wgpu::Buffer,
    gate: &wgpu::Buffer,
) -> Result<Dispatch> {
    let vectors = (stride / 4) as u32;
    let params = gpu.uniform("silu_mul", &[vectors, 0, 0, 0])?;
    let grid = Grid::Spread {
        per_token: vectors,
        per_group: 64,
    };
    let buffers = [&params, now, up, gate];
    Ok(Dispatch::new(
        gpu,
        gpu.pipeline(&SILU_MUL, &[]),
        &buffers,
        grid,
    ))
}
