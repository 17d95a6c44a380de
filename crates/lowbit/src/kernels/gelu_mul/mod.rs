//! The gate of an MLP with GELU in its tanh form: `gate ← gelu(gate) · up`, elementwise, in place.
//!
//! `gelu(x) = x/2 · (1 + tanh u)`, `u = √(2/π)(x + .044715 x³)`.
//! Bound: `|y − ref| ≤ (8 + 4|u|) · ε · |ref|` with f32's ε, because an absolute error of u is a
//! relative one of the result; results below 1e-36 may be 0.

mod scalar;
mod simd;

use crate::cpu::Cpu;

/// Values above which work is spread over threads.
const PARALLEL_FROM: usize = 1 << 15;

/// `gate ← gelu(gate) · up`, both of one length.
pub fn gelu_mul(cpu: &Cpu, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "one gate per value");
    let chunk = PARALLEL_FROM / 4;
    cpu.run_chunks(gate, chunk, up.len() >= PARALLEL_FROM, |i, gate| {
        let up = &up[i * chunk..][..gate.len()];
        simd::gelu_mul(cpu.isa, gate, up);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{each_isa, random};

    #[test]
    fn every_isa_is_within_the_bound() {
        for cpu in each_isa() {
            for n in [1, 3, 8, 31, 129, 40_009] {
                let gate = random(n as u64, n, 12.0);
                let up = random(3, n, 2.0);
                let (mut got, mut want) = (gate.clone(), gate.clone());
                gelu_mul(&cpu, &mut got, &up);
                scalar::gelu_mul(&mut want, &up);
                for ((g, w), x) in got.iter().zip(&want).zip(&gate) {
                    let u = (0.8 * (x + 0.044_715 * x * x * x)).abs();
                    let bound = (8.0 + 4.0 * u) * f32::EPSILON * w.abs() + 1e-36;
                    assert!((g - w).abs() <= bound, "{cpu:?} n={n}: {g} for {w}");
                }
            }
        }
    }

    #[test]
    fn ends_are_defined() {
        for cpu in each_isa() {
            let mut gate = [-1e4, 1e4, 0.0, f32::NAN];
            gelu_mul(&cpu, &mut gate, &[1.0; 4]);
            assert_eq!(gate[..3], [0.0, 1e4, 0.0], "{cpu:?}");
            assert!(gate[3].is_nan());
        }
    }
}
