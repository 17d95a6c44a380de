//! RMS norm: `y_j = x_j · w_j / √(mean(x²) + ε)`.
//!
//! Rows of `weight.len()` values lie one after the other, in place; a row is a token's hidden
//! state or one head of it. Squares are summed in f32 over runs of 512 and in f64 between runs.
//! Bound: `|y − ref| ≤ (log₂ n + 4) · ε · |ref|`, with n the length of a row and f32's ε.

#[cfg(feature = "gpu")]
pub(crate) mod gpu;
mod scalar;
mod simd;

use super::norm::each_rows;
use crate::cpu::Cpu;

/// Norms every row of `x [rows, weight.len()]`, in place.
pub fn rms_norm(cpu: &Cpu, x: &mut [f32], weight: &[f32], eps: f32) {
    each_rows(cpu, x, weight.len(), |rows| {
        simd::rms_norm(cpu.isa, rows, weight, eps);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{each_isa, random};

    #[test]
    fn every_isa_is_within_the_bound() {
        for cpu in each_isa() {
            for n in [1, 2, 3, 7, 31, 64, 127, 257, 1031] {
                let x = random(n as u64, 3 * n, 2.0);
                let weight = random(7, n, 1.0);
                let (mut got, mut want) = (x.clone(), x);
                rms_norm(&cpu, &mut got, &weight, 1e-6);
                scalar::rms_norm(&mut want, &weight, 1e-6);
                let c = (n as f32).log2() + 4.0;
                for (g, w) in got.iter().zip(&want) {
                    let bound = c * f32::EPSILON * w.abs();
                    assert!((g - w).abs() <= bound, "{cpu:?} n={n}: {g} for {w}");
                }
            }
        }
    }

    #[test]
    fn zeros_stay_zero_and_nan_is_kept() {
        let mut x = [0.0, 0.0, f32::NAN, 1.0];
        rms_norm(&Cpu::single(), &mut x, &[1.0, 1.0], 1e-6);
        assert_eq!(x[..2], [0.0, 0.0]);
        assert!(x[2].is_nan());
    }
}
