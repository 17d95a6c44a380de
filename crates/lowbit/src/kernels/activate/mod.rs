//! Activations of MLPs without a gate and of poolers: `x ← f(x)`, elementwise, in place.
//!
//! | activation | f |
//! |---|---|
//! | GELU | `x · Φ(x)` with the normal distribution's Φ (Hendrycks and Gimpel, 2016) |
//! | GELU by tanh | `x · σ(2u)`, `u = √(2/π)(x + .044715 x³)` |
//! | ReLU | `max(x, 0)` |
//! | tanh | `tanh x` |
//!
//! Bound: `|y − ref| ≤ (16 + 4x²) · ε · |ref|` with f32's ε, because an exponential's argument is
//! about x², and GELU by tanh has `(8 + 4|u|)` as in `gelu_mul`; results below 1e-36 may be 0.

mod scalar;
mod simd;

use crate::cpu::Cpu;

/// What an MLP without a gate, or a pooler, does to each value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x · Φ(x)`.
    Gelu,
    /// GELU in its tanh form.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `tanh x`.
    Tanh,
}

/// Values above which work is spread over threads.
const PARALLEL_FROM: usize = 1 << 15;

/// Applies `by` to every value.
pub fn activate(cpu: &Cpu, by: Activation, x: &mut [f32]) {
    let parallel = x.len() >= PARALLEL_FROM;
    cpu.run_chunks(x, PARALLEL_FROM / 4, parallel, |_, x| match by {
        Activation::Gelu => simd::gelu(cpu.isa, x),
        Activation::GeluTanh => simd::gelu_tanh(cpu.isa, x),
        Activation::Relu => simd::relu(cpu.isa, x),
        Activation::Tanh => simd::tanh(cpu.isa, x),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{each_isa, random};

    const ALL: [Activation; 4] = [
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Relu,
        Activation::Tanh,
    ];

    fn specification(by: Activation, x: &mut [f32]) {
        match by {
            Activation::Gelu => scalar::gelu(x),
            Activation::GeluTanh => scalar::gelu_tanh(x),
            Activation::Relu => scalar::relu(x),
            Activation::Tanh => scalar::tanh(x),
        }
    }

    #[test]
    fn every_isa_is_within_the_bound() {
        for cpu in each_isa() {
            for (by, n) in ALL
                .iter()
                .flat_map(|by| [1, 3, 31, 129, 40_009].map(|n| (*by, n)))
            {
                let x = random(n as u64, n, 12.0);
                let (mut got, mut want) = (x.clone(), x.clone());
                activate(&cpu, by, &mut got);
                specification(by, &mut want);
                for ((g, w), x) in got.iter().zip(&want).zip(&x) {
                    let u = (0.8 * (x + 0.044_715 * x * x * x)).abs();
                    let wide = match by {
                        Activation::GeluTanh => 8.0 + 4.0 * u,
                        _ => 16.0 + 4.0 * x * x,
                    };
                    let bound = wide * f32::EPSILON * w.abs() + 1e-36;
                    assert!((g - w).abs() <= bound, "{cpu:?} {by:?} of {x}: {g} for {w}");
                }
            }
        }
    }

    #[test]
    fn ends_are_defined() {
        for cpu in each_isa() {
            for (by, wanted) in ALL
                .iter()
                .zip([[0.0, 1e4], [0.0, 1e4], [0.0, 1e4], [-1.0, 1.0]])
            {
                let mut x = [-1e4, 1e4, 0.0, f32::NAN];
                activate(&cpu, *by, &mut x);
                assert_eq!(x[..2], wanted, "{cpu:?} {by:?}");
                assert!(x[2] == 0.0 && x[3].is_nan(), "{cpu:?} {by:?}");
            }
        }
    }
}
