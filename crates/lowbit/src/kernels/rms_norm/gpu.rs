//! Host side of `rms_norm.wgsl` and `head_norm.wgsl`.

use crate::error::Result;
use crate::gpu::{Binding, Dispatch, Gpu, Grid, Shader};

pub(crate) const RMS_NORM: Shader = Shader {
    file: "kernels/rms_norm/rms_norm.wgsl",
    text: include_str!("rms_norm.wgsl"),
    bindings: &[
        Binding::Uniform,
        Binding::Uniform,
        Binding::Read,
        Binding::Read,
        Binding::Write,
    ],
    constants: &[],
};

pub(crate) const HEAD_NORM: Shader = Shader {
    file: "kernels/rms_norm/head_norm.wgsl",
    text: include_str!("head_norm.wgsl"),
    bindings: &[
        Binding::Uniform,
        Binding::Uniform,
        Binding::Read,
        Binding::Write,
    ],
    constants: &[],
};

/// What a norm runs over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Columns that share a mean.
    pub(crate) width: usize,
    /// Columns from one token to the next.
    pub(crate) stride: usize,
    /// Runs of `width` columns in a token: 1, or the heads.
    pub(crate) heads: usize,
    /// Added to the mean square.
    pub(crate) epsilon: f32,
}

impl Shape {
    fn words(self) -> [u32; 4] {
        let epsilon = self.epsilon.to_bits();
        [
            self.width as u32,
            self.stride as u32,
            epsilon,
            self.heads as u32,
        ]
    }
}

/// Norm of whole rows: `io` are the input and the output.
pub(crate) fn rms_norm(
    gpu: &Gpu,
    shape: Shape,
    now: &wgpu::Buffer,
    weight: &wgpu::Buffer,
    io: [&wgpu::Buffer; 2],
) -> Result<Dispatch> {
    let params = gpu.uniform("rms_norm", &shape.words())?;
    let buffers = [&params, now, weight, io[0], io[1]];
    let grid = Grid::Spread {
        per_token: 1,
        per_group: 1,
    };
    Ok(Dispatch::new(
        gpu,
        gpu.pipeline(&RMS_NORM, &[]),
        &buffers,
        grid,
    ))
}

/// Norm of each head, in place.
pub(crate) fn head_norm(
    gpu: &Gpu,
    shape: Shape,
    now: &wgpu::Buffer,
    weight: &wgpu::Buffer,
    values: &wgpu::Buffer,
) -> Result<Dispatch> {
    let params = gpu.uniform("head_norm", &shape.words())?;
    let grid = Grid::Spread {
        per_token: shape.heads as u32,
        per_group: 1,
    };
    let buffers = [&params, now, weight, values];
    Ok(Dispatch::new(
        gpu,
        gpu.pipeline(&HEAD_NORM, &[]),
        &buffers,
        grid,
    ))
}
