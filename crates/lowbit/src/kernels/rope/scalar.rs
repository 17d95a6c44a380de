//! The specification of the rotation: products and sum in f64, rounded once.

/// Rotates the heads of one token, `[heads, 2 · cos.len()]`, in place.
pub(super) fn rotate(heads: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    for head in heads.chunks_mut(2 * half) {
        for i in 0..half {
            let (a, b) = (f64::from(head[i]), f64::from(head[i + half]));
            let (c, s) = (f64::from(cos[i]), f64::from(sin[i]));
            head[i] = (a * c - b * s) as f32;
            head[i + half] = (b * c + a * s) as f32;
        }
    }
}
