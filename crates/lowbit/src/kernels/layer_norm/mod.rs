//! Layer norm with a bias: `y_j = (x_j − μ) · w_j / √(σ² + ε) + b_j` (Ba et al., 2016).
//!
//! Rows of `weight.len()` values lie one after the other, in place. The mean is taken first and the
//! variance of what is left, so that a mean far from zero costs no digits of the variance.
//! Bound: `|y − ref| ≤ (log₂ n + 8) · ε · (max|x| · |w_j| / √(σ² + ε) + |b_j|)` with f32's ε.

mod scalar;
mod simd;

use super::norm::each_rows;
use crate::cpu::Cpu;

/// Norms every row of `x [rows, weight.len()]`, in place.
pub fn layer_norm(cpu: &Cpu, x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    assert_eq!(weight.len(), bias.len(), "one bias per weight");
    each_rows(cpu, x, weight.len(), |rows| {
        simd::layer_norm(cpu.isa, rows, weight, bias, eps);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{each_isa, random};

    /// What the bound is, value by value.
    fn bounds(x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        let n = weight.len();
        let mut bounds = Vec::new();
        for x in x.chunks(n) {
            let mean = x.iter().map(|v| f64::from(*v)).sum::<f64>() / n as f64;
            let squares = x.iter().map(|v| (f64::from(*v) - mean).powi(2));
            let spread = (squares.sum::<f64>() / n as f64 + 1e-12).sqrt() as f32;
            let widest = x.iter().fold(0.0f32, |a, v| a.max(v.abs()));
            let size = |(w, b): (&f32, &f32)| widest * w.abs() / spread + b.abs();
            let own = weight.iter().zip(bias).map(size);
            bounds.extend(own.map(|size| ((n as f32).log2() + 8.0) * f32::EPSILON * size));
        }
        bounds
    }

    #[test]
    fn every_isa_is_within_the_bound() {
        for cpu in each_isa() {
            for (n, shift) in [
                (1, 0.0),
                (2, 1.0),
                (7, 0.0),
                (64, 9.0),
                (257, -3.0),
                (1031, 0.5),
            ] {
                let mut x = random(n as u64, 3 * n, 2.0);
                for v in &mut x {
                    *v += shift;
                }
                let (weight, bias) = (random(7, n, 1.0), random(8, n, 1.0));
                let bounds = bounds(&x, &weight, &bias);
                let (mut got, mut want) = (x.clone(), x);
                layer_norm(&cpu, &mut got, &weight, &bias, 1e-12);
                scalar::layer_norm(&mut want, &weight, &bias, 1e-12);
                for ((g, w), bound) in got.iter().zip(&want).zip(bounds) {
                    assert!((g - w).abs() <= bound, "{cpu:?} n={n}: {g} for {w}");
                }
            }
        }
    }

    #[test]
    fn equal_values_become_the_bias_and_nan_is_kept() {
        for cpu in each_isa() {
            let mut x = [3.0, 3.0, f32::NAN, 1.0];
            layer_norm(&cpu, &mut x, &[1.0, 2.0], &[0.5, -0.5], 1e-12);
            assert_eq!(x[..2], [0.5, -0.5], "{cpu:?}");
            assert!(x[2].is_nan() && x[3].is_nan(), "{cpu:?}");
        }
    }
}
