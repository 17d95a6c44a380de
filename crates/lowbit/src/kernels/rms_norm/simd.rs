//! RMS norm in vectors.

use super::scalar;
use crate::kernels::norm::sum;
use crate::kernels::simd::per_isa;

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
        // The distance from 0 is the value itself.
        let squares = sum::<FUSED, true>(row, 0.0);
        let scale = (1.0 / (squares / n as f64 + f64::from(eps)).sqrt()) as f32;
        for (v, w) in row.iter_mut().zip(weight) {
            *v = *v * scale * w;
        }
    }
}
