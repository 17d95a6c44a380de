//! The specification of the rotation: products and sum in f64, rounded once.

use super::Turn;

/// Rotates the heads of one token, `[heads, turn.dim]`, in place.
pub(super) fn rotate(heads: &mut [f32], cos: &[f32], sin: &[f32], turn: Turn) {
    for head in heads.chunks_mut(turn.dim) {
        for i in 0..turn.half {
            let (first, second) = if turn.interleaved {
                (2 * i, 2 * i + 1)
            } else {
                (i, i + turn.half)
            };
            let (a, b) = (f64::from(head[first]), f64::from(head[second]));
            let (c, s) = (f64::from(cos[i]), f64::from(sin[i]));
            head[first] = (a * c - b * s) as f32;
            head[second] = (b * c + a * s) as f32;
        }
    }
}
