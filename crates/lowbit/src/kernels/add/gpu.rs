//! Host side of `add.wgsl`.

use crate::error::Result;
use crate::gpu::{Binding, Dispatch, Gpu, Grid, Shader};

pub(crate) const ADD: Shader = Shader {
    file: "kernels/add/add.wgsl",
    text: include_str!("add.wgsl"),
    bindings: &[
        Binding::Uniform,
        Binding::Uniform,
        Binding::Read,
        Binding::Write,
    ],
    constants: &[],
};

/// Adds `from` to `to`; rows are `stride` floats, a multiple of 4.
pub(crate) fn add(
    gpu: &Gpu,
    stride: usize,
    now: &wgpu::Buffer,
    from: &wgpu::Buffer,
    to: &wgpu::Buffer,
) -> Result<Dispatch> {
    let vectors = (stride / 4) as u32;
    let params = gpu.uniform("add", &[vectors, 0, 0, 0])?;
    let grid = Grid::Spread {
        per_token: vectors,
        per_group: 64,
    };
    let buffers = [&params, now, from, to];
    Ok(Dispatch::new(gpu, gpu.pipeline(&ADD, &[]), &buffers, grid))
}
