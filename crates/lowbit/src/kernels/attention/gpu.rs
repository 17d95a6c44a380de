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
    /// `unsupported` for heads wider than 256.
    pub(crate) fn check(self) -> Result<()> {
        if self.head_dim <= HEAD_DIM_MAX {
            return Ok(());
        }
        let what = format!("attention heads of {} columns on the GPU", self.head_dim);
        Err(Error::new(Code::Unsupported, what)
            .remedy(format!("up to {HEAD_DIM_MAX} work; use device \"cpu\"")))
    }

    /// Vectors of 4 in a head of the caches.
    fn quads(self) -> usize {
        self.head_dim.div_ceil(4)
    }

    /// Floats of one position in a cache: heads are padded to whole vectors of 4.
    pub(crate) fn cache_width(self) -> usize {
        self.kv_heads * self.quads() * 4
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
    let words = [
        align(shape.kv_heads * shape.head_dim),
        shape.kv_heads,
        shape.head_dim,
        shape.quads(),
    ];
    let params = gpu.uniform("append", &words.map(|w| w as u32))?;
    let grid = Grid::Spread {
        per_token: (shape.kv_heads * shape.quads()) as u32,
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
        shape.quads() as u32,
        align(shape.heads * shape.head_dim) as u32,
        (shape.cache_width() / 4) as u32,
        (1.0 / (shape.head_dim as f32).sqrt()).to_bits(),
        shape.head_dim as u32,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Cpu, Isa};
    use crate::gpu::testing::{Bench, assert_within};
    use crate::kernels::attention::Rule;
    use crate::kernels::attention::{Heads, Input};
    use crate::kernels::testing::random;

    /// `(log₂ d + log₂ n + 8) · ε · (1 + max Σ|q·k| / √d) · Σ p·|v|`, the last factor as max |v|.
    fn bound(input: &Input<'_>, positions: usize, size: f32) -> f32 {
        let dim = input.heads.dim as f32;
        let c = dim.log2() + (positions as f32).log2() + 8.0;
        c * f32::EPSILON * (1.0 + dim.sqrt() * size * size)
    }

    /// Heads padded with zeros to whole vectors of 4.
    fn padded(x: &[f32], dim: usize) -> Vec<f32> {
        let pad = vec![0.0; dim.next_multiple_of(4) - dim];
        x.chunks(dim)
            .flat_map(|head| [head, &pad].concat())
            .collect()
    }

    fn check(bench: &Bench, heads: Heads, position: usize, tokens: usize, size: f32) {
        let shape = Shape {
            heads: heads.queries,
            kv_heads: heads.keys,
            head_dim: heads.dim,
        };
        let (width, kv_width) = (heads.queries * heads.dim, heads.keys * heads.dim);
        let positions = position + tokens;
        let q = random(positions as u64, tokens * width, size);
        let keys = random(2, positions * kv_width, size);
        let values = random(3, positions * kv_width, 1.0);
        let now = bench.now(tokens, position, 0);
        let old = position * kv_width;
        let news = [&keys, &values].map(|x| bench.input(&x[old..], kv_width, align(kv_width)));
        let padded = [&keys, &values].map(|x| padded(x, heads.dim));
        let stride = shape.cache_width();
        let cache = [0, 1].map(|i| {
            let mut start = padded[i][..position * stride].to_vec();
            start.resize(positions * stride, 1.0);
            bench.guarded(&start, stride, stride)
        });
        let queries = bench.input(&q, width, align(width));
        let output = bench.guarded(&vec![0.0; q.len()], width, align(width));
        let (gpu, cache) = (&bench.gpu, [&cache[0], &cache[1]]);
        let append = append(gpu, shape, &now, [&news[0], &news[1]], cache).unwrap();
        let attend = attention(gpu, shape, &now, cache, [&queries, &output]).unwrap();
        let found = bench.run(&output, width, align(width), |pass| {
            append.record(pass, tokens as u32);
            attend.record(pass, tokens as u32);
        });
        assert_eq!(bench.run(cache[0], stride, stride, |_| {}), padded[0]);
        assert_eq!(bench.run(cache[1], stride, stride, |_| {}), padded[1]);
        let (keys, values) = (&keys, &values);
        let input = Input {
            q: &q,
            keys,
            values,
            heads,
            rule: Rule::plain(heads.dim),
        };
        let mut wanted = vec![0.0; q.len()];
        crate::kernels::attention::attention(&Cpu::with_isa(Isa::Scalar), input, &mut wanted);
        let bounds = vec![bound(&input, positions, size); wanted.len()];
        let name = format!("attention {heads:?} {position}+{tokens}");
        assert_within(&name, &found, &wanted, &bounds);
    }

    #[test]
    fn outputs_are_within_the_bound() {
        let Some(bench) = Bench::new("attention") else {
            return;
        };
        let heads = |queries, keys, dim| Heads { queries, keys, dim };
        check(&bench, heads(1, 1, 2), 0, 1, 1.0);
        check(&bench, heads(6, 3, 10), 5, 4, 1.0);
        check(&bench, heads(4, 2, 64), 0, 9, 1.0);
        check(&bench, heads(4, 1, 20), 62, 3, 2.0);
        check(&bench, heads(2, 2, 80), 63, 1, 1.0);
        check(&bench, heads(8, 2, 128), 129, 2, 1.0);
        check(&bench, heads(1, 1, 256), 200, 1, 4.0);
    }

    #[test]
    fn heads_that_no_kernel_handles_are_refused() {
        let shape = Shape {
            heads: 1,
            kv_heads: 1,
            head_dim: 258,
        };
        assert_eq!(shape.check().unwrap_err().code, Code::Unsupported);
    }
}
