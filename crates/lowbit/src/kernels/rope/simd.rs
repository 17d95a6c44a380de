//! The rotation in vectors.

use super::{Turn, scalar};
use crate::kernels::simd::per_isa;

per_isa! {
    /// Rotates the heads of one token, `[heads, turn.dim]`, in place.
    fn rotate(heads: &mut [f32], cos: &[f32], sin: &[f32], turn: Turn) {
        scalar: scalar::rotate, body: body
    }
}

#[inline(always)]
fn body<const FUSED: bool, const LANES: usize>(
    heads: &mut [f32],
    cos: &[f32],
    sin: &[f32],
    turn: Turn,
) {
    for head in heads.chunks_mut(turn.dim) {
        let angles = cos.iter().zip(sin);
        let turned = &mut head[..2 * turn.half];
        if turn.interleaved {
            for ([a, b], (c, s)) in turned.as_chunks_mut::<2>().0.iter_mut().zip(angles) {
                (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
            }
            continue;
        }
        let (low, high) = turned.split_at_mut(turn.half);
        for ((a, b), (c, s)) in low.iter_mut().zip(high).zip(angles) {
            (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
        }
    }
}
