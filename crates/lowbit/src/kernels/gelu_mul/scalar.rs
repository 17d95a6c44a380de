//! The specification of the gate: f64, rounded once.

use crate::maths;

/// `gate ← gelu(gate) · up`.
pub(super) fn gelu_mul(gate: &mut [f32], up: &[f32]) {
    let factor = (2.0 / std::f64::consts::PI).sqrt();
    for i in 0..gate.len() {
        let g = f64::from(gate[i]);
        // 1 + tanh u = 2 / (1 + e^−2u), which does not cancel.
        let u = factor * (g + 0.044_715 * g * g * g);
        gate[i] = (g / (1.0 + maths::exp_f64(-2.0 * u)) * f64::from(up[i])) as f32;
    }
}
