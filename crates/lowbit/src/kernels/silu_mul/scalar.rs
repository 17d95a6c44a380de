//! The specification of the gate: f64, rounded once.

use crate::maths;

/// `gate ← silu(gate) · up`.
pub(super) fn silu_mul(gate: &mut [f32], up: &[f32]) {
    for i in 0..gate.len() {
        let g = f64::from(gate[i]);
        gate[i] = (g / (1.0 + maths::exp_f64(-g)) * f64::from(up[i])) as f32;
    }
}
