//! Layer norm in vectors.

use super::scalar;
use crate::kernels::norm::sum;
use crate::kernels::simd::{multiply_add, per_isa};

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
        let mean = (sum::<FUSED, false>(row, 0.0) / n as f64) as f32;
        let squares = sum::<FUSED, true>(row, mean);
        let scale = (1.0 / (squares / n as f64 + f64::from(eps)).sqrt()) as f32;
        for ((v, w), b) in row.iter_mut().zip(weight).zip(bias) {
            *v = multiply_add::<FUSED>((*v - mean) * scale, *w, *b);
        }
    }
}
