//! Layer norm in vectors: sixteen running sums per run of 512 values, runs summed in f64.

use super::scalar;
use crate::kernels::simd::{multiply_add, per_isa};

const RUN: usize = 512;
const SUMS: usize = 16;

per_isa! {
    /// Norms every row of `x [rows, weight.len()]`, in place.
    fn layer_norm(x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
        scalar: scalar::layer_norm, body: body
    }
}

#[inline(always)]
fn body<const FUSED: bool, const LANES: usize>(
    x: &mut [f32],
    weight: &[f32],
    bias: &[f32],
    eps: f32,
) {
    let n = weight.len();
    for row in x.chunks_mut(n) {
        let mut sum = 0.0f64;
        for run in row.chunks(RUN) {
            sum += f64::from(total::<FUSED, false>(run, 0.0));
        }
        let mean = (sum / n as f64) as f32;
        let mut squares = 0.0f64;
        for run in row.chunks(RUN) {
            squares += f64::from(total::<FUSED, true>(run, mean));
        }
        let scale = (1.0 / (squares / n as f64 + f64::from(eps)).sqrt()) as f32;
        for ((v, w), b) in row.iter_mut().zip(weight).zip(bias) {
            *v = multiply_add::<FUSED>((*v - mean) * scale, *w, *b);
        }
    }
}

/// The sum of a run, or of the squares of its distances from `mean`.
#[inline(always)]
fn total<const FUSED: bool, const SQUARES: bool>(run: &[f32], mean: f32) -> f32 {
    let mut sums = [0.0f32; SUMS];
    let (whole, rest) = run.as_chunks::<SUMS>();
    for chunk in whole {
        for (s, v) in sums.iter_mut().zip(chunk) {
            *s = if SQUARES {
                multiply_add::<FUSED>(*v - mean, *v - mean, *s)
            } else {
                *s + *v
            };
        }
    }
    for (s, v) in sums.iter_mut().zip(rest) {
        *s = if SQUARES {
            multiply_add::<FUSED>(*v - mean, *v - mean, *s)
        } else {
            *s + *v
        };
    }
    let mut width = SUMS / 2;
    while width > 0 {
        for i in 0..width {
            sums[i] += sums[i + width];
        }
        width /= 2;
    }
    sums[0]
}
