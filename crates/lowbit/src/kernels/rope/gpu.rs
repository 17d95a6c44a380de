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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Cpu, Isa};
    use crate::gpu::bytes_from_f32;
    use crate::gpu::testing::{Bench, assert_within};
    use crate::kernels::testing::random;

    /// Rotates both sides and compares the one asked for: 0 queries, 1 keys.
    fn check(bench: &Bench, tokens: usize, shape: Shape, side: usize) {
        let half = shape.head_dim / 2;
        let angles = random(1, tokens * half, 3.0);
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
        let turns: Vec<f32> = cos.iter().zip(&sin).flat_map(|(c, s)| [*c, *s]).collect();
        let table = bench.gpu.upload("turns", &bytes_from_f32(&turns)).unwrap();
        let widths = [shape.heads, shape.kv_heads].map(|heads| heads * shape.head_dim);
        let values = widths.map(|w| random(w as u64, tokens * w, 2.0));
        let buffers = [0, 1].map(|i| bench.guarded(&values[i], widths[i], align(widths[i])));
        let now = bench.now(tokens, 5, 0);
        let qk = [&buffers[0], &buffers[1]];
        let rope = rope(&bench.gpu, shape, &now, &table, qk).unwrap();
        let (width, x) = (widths[side], &values[side]);
        let found = bench.run(qk[side], width, align(width), |pass| {
            rope.record(pass, tokens as u32);
        });
        let mut wanted = x.clone();
        let cpu = Cpu::with_isa(Isa::Scalar);
        crate::kernels::rope::rope(
            &cpu,
            &mut wanted,
            &cos,
            &sin,
            crate::kernels::rope::Turn::whole(half),
        );
        // Element i is paired with the one half a head away.
        let pair = |i: usize| i / (2 * half) * (2 * half) + (i + half) % (2 * half);
        let bound: Vec<f32> = (0..x.len())
            .map(|i| 2.0 * f32::EPSILON * (x[i].abs() + x[pair(i)].abs()))
            .collect();
        assert_within(&format!("rope {shape:?}"), &found, &wanted, &bound);
    }

    #[test]
    fn queries_and_keys_are_within_the_bound() {
        let Some(bench) = Bench::new("rope") else {
            return;
        };
        for (tokens, heads, kv_heads, head_dim) in [(1, 1, 1, 2), (3, 4, 2, 20), (5, 7, 1, 64)] {
            let shape = Shape {
                heads,
                kv_heads,
                head_dim,
            };
            check(&bench, tokens, shape, 0);
            check(&bench, tokens, shape, 1);
        }
    }
}
