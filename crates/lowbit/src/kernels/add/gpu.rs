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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing::Bench;
    use crate::kernels::testing::random;

    #[test]
    fn sums_are_exact() {
        let Some(bench) = Bench::new("add") else {
            return;
        };
        let (tokens, stride) = (3, 96);
        let x = random(1, tokens * stride, 1.0);
        let y = random(2, tokens * stride, 1.0);
        let now = bench.now(tokens, 0, 0);
        let (from, to) = (
            bench.input(&x, stride, stride),
            bench.guarded(&y, stride, stride),
        );
        let dispatch = add(&bench.gpu, stride, &now, &from, &to).unwrap();
        let found = bench.run(&to, stride, stride, |p| dispatch.record(p, tokens as u32));
        let wanted: Vec<f32> = x.iter().zip(&y).map(|(a, b)| b + a).collect();
        assert_eq!(found, wanted);
    }
}
