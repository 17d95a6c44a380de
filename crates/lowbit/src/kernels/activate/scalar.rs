//! The specification of activations: f64, rounded once.

use crate::maths;

fn each(x: &mut [f32], f: fn(f64) -> f64) {
    for v in x {
        *v = f(f64::from(*v)) as f32;
    }
}

/// `x · Φ(x)`.
pub(super) fn gelu(x: &mut [f32]) {
    // Φ(x) = erfc(−x/√2)/2, which does not cancel.
    each(x, |x| {
        x * 0.5 * maths::erfc_f64(-x * std::f64::consts::FRAC_1_SQRT_2)
    });
}

/// GELU in its tanh form.
pub(super) fn gelu_tanh(x: &mut [f32]) {
    each(x, |x| {
        let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
        x / (1.0 + maths::exp_f64(-2.0 * u))
    });
}

/// `max(x, 0)`; NaN stays NaN.
pub(super) fn relu(x: &mut [f32]) {
    each(x, |x| if x < 0.0 { 0.0 } else { x });
}

/// `tanh x`.
pub(super) fn tanh(x: &mut [f32]) {
    each(x, maths::tanh_f64);
}
