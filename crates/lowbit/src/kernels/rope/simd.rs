//! The rotation in vectors.

use super::scalar;
use crate::kernels::simd::per_isa;

per_isa! {
    /// Rotates the heads of one token, `[heads, 2 · cos.len()]`, in place.
    fn rotate(heads: &mut [f32], cos: &[f32], sin: &[f32]) {
        scalar: scalar::rotate, body: body
    }
}

#[inline(always)]
fn body<const FUSED: bool, const LANES: usize>(heads: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    for head in heads.chunks_mut(2 * half) {
        let (low, high) = head.split_at_mut(half);
        let angles = cos.iter().zip(sin);
        for ((a, b), (c, s)) in low.iter_mut().zip(high).zip(angles) {
            (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
        }
    }
}
