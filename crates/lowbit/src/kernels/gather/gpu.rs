//! Host side of `gather.wgsl`.

use crate::error::Result;
use crate::gpu::{Binding, Dispatch, Gpu, Grid, Shader};

pub(crate) const GATHER: Shader = Shader {
    file: "kernels/gather/gather.wgsl",
    text: include_str!("gather.wgsl"),
    bindings: &[
        Binding::Uniform,
        Binding::Uniform,
        Binding::Read,
        Binding::Read,
        Binding::Write,
    ],
    constants: &[],
};

/// Columns of `io[0]` in `order` into `io[1]`; `strides` are theirs.
pub(crate) fn gather(
    gpu: &Gpu,
    strides: [usize; 2],
    now: &wgpu::Buffer,
    order: &wgpu::Buffer,
    io: [&wgpu::Buffer; 2],
) -> Result<Dispatch> {
    let params = gpu.uniform("gather", &[strides[0] as u32, strides[1] as u32, 0, 0])?;
    let grid = Grid::Spread {
        per_token: strides[1] as u32,
        per_group: 64,
    };
    let buffers = [&params, now, order, io[0], io[1]];
    Ok(Dispatch::new(
        gpu,
        gpu.pipeline(&GATHER, &[]),
        &buffers,
        grid,
    ))
}
