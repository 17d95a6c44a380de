//! SmoothQuant's scales (arXiv 2211.10438, eq. 4): ranges move from inputs to weights.
//!
//! ```text
//! s_j = max(max|x_j|^α / max|w_j|^(1−α), 1e-5)      largest over tokens, and over rows of all consumers
//! ```
//! Rounding of inputs is symmetric here, so the largest absolute value is the range that counts.
//! Channels without inputs or without weights keep 1.

use super::Matrix;
use crate::maths::pow_f64;

/// Scales never get smaller than this.
const LEAST: f64 = 1e-5;

/// Strengths that a search tries.
pub const STRENGTHS: usize = 20;

/// max|w| of each column over all rows of the matrices.
pub fn largest_weights(matrices: &[&Matrix]) -> Vec<f32> {
    let cols = matrices.first().map_or(0, |m| m.cols);
    let mut largest = vec![0.0f32; cols];
    for row in matrices.iter().flat_map(|m| m.values.chunks_exact(m.cols)) {
        for (most, w) in largest.iter_mut().zip(row) {
            *most = if w.abs() > *most { w.abs() } else { *most };
        }
    }
    largest
}

/// The scales of one strength; `inputs` and `weights` are the largest absolute values.
pub fn scales(inputs: &[f32], weights: &[f32], strength: f64) -> Vec<f32> {
    let scale = |(x, w): (&f32, &f32)| {
        if *x == 0.0 || *w == 0.0 {
            return 1.0;
        }
        let x = pow_f64(f64::from(*x), strength);
        let w = pow_f64(f64::from(*w), 1.0 - strength);
        (x / w).max(LEAST) as f32
    };
    inputs.iter().zip(weights).map(scale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_follow_the_formula() {
        let weights = largest_weights(&[
            &Matrix {
                rows: 2,
                cols: 2,
                values: vec![1.0, 0.5, -4.0, 0.25],
            },
            &Matrix {
                rows: 1,
                cols: 2,
                values: vec![0.0, -2.0],
            },
        ]);
        assert_eq!(weights, [4.0, 2.0]);
        assert_eq!(scales(&[16.0, 8.0], &weights, 0.5), [2.0, 2.0]);
        assert_eq!(scales(&[16.0, 8.0], &weights, 1.0), [16.0, 8.0]);
        assert_eq!(scales(&[0.0, 1e-30], &weights, 0.5), [1.0, 1e-5]);
    }
}
