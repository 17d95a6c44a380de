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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Cpu, Isa};
    use crate::gpu::testing::{Bench, assert_within};
    use crate::kernels::testing::random;

    #[test]
    fn gates_are_within_the_bound() {
        let Some(bench) = Bench::new("silu_mul") else {
            return;
        };
        for (tokens, stride, size) in [(1, 32, 1.0), (3, 64, 20.0), (5, 768, 95.0)] {
            let gate = random(1, tokens * stride, size);
            let up = random(2, tokens * stride, 2.0);
            let now = bench.now(tokens, 0, 0);
            let input = bench.input(&up, stride, stride);
            let output = bench.guarded(&gate, stride, stride);
            let dispatch = silu_mul(&bench.gpu, stride, &now, &input, &output).unwrap();
            let found = bench.run(&output, stride, stride, |p| {
                dispatch.record(p, tokens as u32);
            });
            let mut wanted = gate.clone();
            crate::kernels::silu_mul::silu_mul(&Cpu::with_isa(Isa::Scalar), &mut wanted, &up);
            // 16 ε relative, and an absolute floor where 1 + exp(−x) overflows on the way.
            let bound: Vec<f32> = wanted
                .iter()
                .map(|y| 16.0 * f32::EPSILON * y.abs() + 1e-35)
                .collect();
            assert_within(&format!("silu_mul ±{size}"), &found, &wanted, &bound);
        }
    }
}
