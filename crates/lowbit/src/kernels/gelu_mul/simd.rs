//! The gate in vectors; `maths::exp` is a polynomial, so that it becomes one of them.

use super::scalar;
use crate::kernels::simd::per_isa;
use crate::maths;

per_isa! {
    /// `gate ← gelu(gate) · up`.
    fn gelu_mul(gate: &mut [f32], up: &[f32]) {
        scalar: scalar::gelu_mul, body: body
    }
}

#[inline(always)]
fn body<const FUSED: bool, const LANES: usize>(gate: &mut [f32], up: &[f32]) {
    for (g, u) in gate.iter_mut().zip(up) {
        *g = maths::gelu_tanh(*g) * u;
    }
}
