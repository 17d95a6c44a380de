//! RMS norm in vectors: sixteen running sums per run of 512 values.

use super::scalar;
use crate::kernels::simd::{multiply_add, per_isa};

const RUN: usize = 512;
const SUMS: usize = 16;

per_isa! {
    /// Norms every row of `x [rows, weight.len()]`, in place.
    fn rms_norm(x: &mut [f32], weight: &[f32], eps: f32) {
        scalar: scalar::rms_norm, body: body
    }
}

#[inline(always)]
fn body<const FUSED: bool, const LANES: usize>(x: &mut [f32], weight: &[f32], eps: f32) {
    let n = weight.len();
    for row in x.chunks_mut(n) {
        let mut sum = 0.0f64;
        for run in row.chunks(RUN) {
            sum += f64::from(squares::<FUSED>(run));
        }
        let scale = (1.0 / (sum / n as f64 + f64::from(eps)).sqrt()) as f32;
        for (v, w) in row.iter_mut().zip(weight) {
            *v = *v * scale * w;
        }
    }
}

#[inline(always)]
fn squares<const FUSED: bool>(run: &[f32]) -> f32 {
    let mut sums = [0.0f32; SUMS];
    let (whole, rest) = run.as_chunks::<SUMS>();
    for chunk in whole {
        for (s, v) in sums.iter_mut().zip(chunk) {
            *s = multiply_add::<FUSED>(*v, *v, *s);
        }
    }
    for (s, v) in sums.iter_mut().zip(rest) {
        *s = multiply_add::<FUSED>(*v, *v, *s);
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
