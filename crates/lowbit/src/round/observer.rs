//! stand-in
use super::RoundOptions;
use crate::scheme::Scheme;
/// o
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observer {
    /// m
    MinMax,
    /// m
    Mse,
}
/// g
pub fn group_params(values: &[f32], scheme: &Scheme, options: &RoundOptions) -> (f32, u8) {
    let steps = ((1 << scheme.bits) - 1) as f32;
    let low = values.iter().fold(0.0f32, |m, v| m.min(*v));
    let high = values.iter().fold(0.0f32, |m, v| m.max(*v));
    let fix = |s: f32| {
        let s = crate::tensor::round_to(options.scale_dtype, s);
        if s == 0.0 { f32::EPSILON } else { s }
    };
    if scheme.symmetric {
        (fix(high.max(-low) / (steps / 2.0)), 1 << (scheme.bits - 1))
    } else {
        let s = fix((high - low) / steps);
        (s, (-low / s).round_ties_even().clamp(0.0, steps) as u8)
    }
}
