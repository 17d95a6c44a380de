//! AWQ's scales (arXiv 2306.00978): channels with large inputs get finer steps.
//!
//! ```text
//! s = max(x̄^r / (w̄^(1−r) + 1e-4), 1e-4)      x̄ = E|x|,  w̄ = mean over rows of |w| / max|its group|
//! s = s / √(max s · min s)                   without duo: s = max(x̄^r, 1e-4)
//! ```
//! for the ratios r = 0, 1/grid … 1 − 1/grid. Channels without inputs or without weights would take
//! any scale: they keep 1 and have no part in the last line.

use super::Matrix;
use crate::maths::pow_f64;

/// Scales never get smaller than this before they are centred.
const LEAST: f64 = 1e-4;

/// Mean over all rows of |w| relative to the largest weight of its group; `[cols]`.
///
/// `groups` holds the columns per group of each matrix, which all have the same number of columns.
pub fn relative_weights(matrices: &[(&Matrix, usize)]) -> Vec<f64> {
    let cols = matrices.first().map_or(0, |(m, _)| m.cols);
    let (mut sums, mut rows) = (vec![0.0; cols], 0);
    for (matrix, group) in matrices {
        rows += matrix.rows;
        for row in matrix.values.chunks_exact(cols) {
            for (sums, run) in sums.chunks_mut(*group).zip(row.chunks(*group)) {
                let largest = run.iter().fold(0.0f32, |m, w| m.max(w.abs()));
                // As in the original, so that groups of zeros divide by something.
                let scale = 1.0 / (largest + 1e-6);
                for (sum, w) in sums.iter_mut().zip(run) {
                    *sum += f64::from(w.abs() * scale);
                }
            }
        }
    }
    sums.iter().map(|sum| sum / rows.max(1) as f64).collect()
}

/// The scales of one ratio; `inputs` and `weights` are x̄ and w̄.
pub fn scales(inputs: &[f64], weights: &[f64], ratio: f64, duo: bool) -> Vec<f32> {
    let alive = |j: usize| inputs[j] > 0.0 && weights[j] > 0.0;
    let scale = |j: usize| {
        let x = pow_f64(inputs[j], ratio);
        let s = if duo {
            x / (pow_f64(weights[j], 1.0 - ratio) + LEAST)
        } else {
            x
        };
        s.max(LEAST)
    };
    let raw: Vec<Option<f64>> = (0..inputs.len())
        .map(|j| alive(j).then(|| scale(j)))
        .collect();
    let known = || raw.iter().flatten();
    let most = known().fold(0.0f64, |m, s| m.max(*s));
    let least = known().fold(f64::INFINITY, |m, s| m.min(*s));
    let centre = (most * least).sqrt();
    raw.iter()
        .map(|s| s.map_or(1.0, |s| (s / centre) as f32))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_follow_the_formula_and_leave_dead_channels_alone() {
        let (x, w) = ([4.0, 1.0, 0.0, 1.0], [0.5, 0.5, 0.5, 0.0]);
        let s = scales(&x, &w, 0.5, true);
        let d = f64::sqrt(0.5) + 1e-4;
        let (a, b) = (2.0 / d, 1.0 / d);
        let centre = (a * b).sqrt();
        let wanted = [(a / centre) as f32, (b / centre) as f32, 1.0, 1.0];
        assert_eq!(s, wanted);
        assert_eq!(scales(&x, &w, 0.0, false), [1.0; 4]);
        assert_eq!(scales(&[0.0; 2], &[1.0; 2], 0.5, true), [1.0; 2]);
    }

    #[test]
    fn weights_are_relative_to_their_group() {
        let matrix = Matrix {
            rows: 2,
            cols: 4,
            values: vec![1.0, -2.0, 10.0, 5.0, 0.0, 0.0, 1.0, 1.0],
        };
        let found = relative_weights(&[(&matrix, 2)]);
        for (found, wanted) in found.iter().zip([0.25, 0.5, 1.0, 0.75]) {
            assert!((found - wanted).abs() < 1e-5, "{found} {wanted}");
        }
    }
}
