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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Cpu, Isa};
    use crate::gpu::testing::{Bench, assert_within};
    use crate::gpu::{align, bytes_from_f32};
    use crate::kernels::testing::random;

    /// (log₂ width + 8) · ε relative: the square root halves what the sum of squares loses.
    fn bound(width: usize, wanted: &[f32]) -> Vec<f32> {
        let c = (width as f32).log2() + 8.0;
        wanted.iter().map(|y| c * f32::EPSILON * y.abs()).collect()
    }

    #[test]
    fn rows_are_within_the_bound() {
        let Some(bench) = Bench::new("rms_norm") else {
            return;
        };
        for (tokens, width) in [(1, 1), (2, 31), (3, 64), (5, 257), (1, 4096)] {
            let stride = align(width);
            let x = random(width as u64, (tokens + 1) * width, 3.0);
            let w = random(7, width, 1.0);
            let shape = Shape {
                width,
                stride,
                heads: 1,
                epsilon: 1e-6,
            };
            let weight = bench.gpu.upload("weight", &bytes_from_f32(&w)).unwrap();
            let input = bench.input(&x, width, stride);
            let output = bench.guarded(&vec![0.0; tokens * width], width, stride);
            // The first row is left out, as the final norm leaves out all but the last.
            let now = bench.now(tokens, 0, 1);
            let norm = rms_norm(&bench.gpu, shape, &now, &weight, [&input, &output]).unwrap();
            let found = bench.run(&output, width, stride, |p| norm.record(p, tokens as u32));
            let mut wanted = x[width..].to_vec();
            let cpu = Cpu::with_isa(Isa::Scalar);
            crate::kernels::rms_norm::rms_norm(&cpu, &mut wanted, &w, 1e-6);
            assert_within(
                &format!("rms_norm {tokens}×{width}"),
                &found,
                &wanted,
                &bound(width, &wanted),
            );
        }
    }

    #[test]
    fn heads_are_within_the_bound() {
        let Some(bench) = Bench::new("head_norm") else {
            return;
        };
        for (tokens, heads, width) in [(1, 1, 4), (3, 5, 20), (2, 4, 128)] {
            let stride = align(heads * width);
            let x = random(3, tokens * heads * width, 2.0);
            let w = random(8, width, 1.0);
            let shape = Shape {
                width,
                stride,
                heads,
                epsilon: 1e-5,
            };
            let weight = bench.gpu.upload("weight", &bytes_from_f32(&w)).unwrap();
            let values = bench.guarded(&x, heads * width, stride);
            let now = bench.now(tokens, 9, 0);
            let norm = head_norm(&bench.gpu, shape, &now, &weight, &values).unwrap();
            let found = bench.run(&values, heads * width, stride, |p| {
                norm.record(p, tokens as u32);
            });
            let mut wanted = x.clone();
            let cpu = Cpu::with_isa(Isa::Scalar);
            crate::kernels::rms_norm::rms_norm(&cpu, &mut wanted, &w, 1e-5);
            assert_within(
                &format!("head_norm {heads}×{width}"),
                &found,
                &wanted,
                &bound(width, &wanted),
            );
        }
    }
}
