//! Activations in vectors; what `maths` has is made of polynomials, so that each becomes one.

use super::scalar;
use crate::kernels::simd::per_isa;
use crate::maths;

per_isa! {
    /// `x · Φ(x)`.
    fn gelu(x: &mut [f32]) {
        scalar: scalar::gelu, body: gelu_body
    }
}

per_isa! {
    /// GELU in its tanh form.
    fn gelu_tanh(x: &mut [f32]) {
        scalar: scalar::gelu_tanh, body: gelu_tanh_body
    }
}

per_isa! {
    /// `max(x, 0)`.
    fn relu(x: &mut [f32]) {
        scalar: scalar::relu, body: relu_body
    }
}

per_isa! {
    /// `tanh x`.
    fn tanh(x: &mut [f32]) {
        scalar: scalar::tanh, body: tanh_body
    }
}

#[inline(always)]
fn gelu_body<const FUSED: bool, const LANES: usize>(x: &mut [f32]) {
    for v in x {
        *v = maths::gelu(*v);
    }
}

#[inline(always)]
fn gelu_tanh_body<const FUSED: bool, const LANES: usize>(x: &mut [f32]) {
    for v in x {
        *v = maths::gelu_tanh(*v);
    }
}

#[inline(always)]
fn relu_body<const FUSED: bool, const LANES: usize>(x: &mut [f32]) {
    for v in x {
        *v = if *v < 0.0 { 0.0 } else { *v };
    }
}

#[inline(always)]
fn tanh_body<const FUSED: bool, const LANES: usize>(x: &mut [f32]) {
    for v in x {
        *v = maths::tanh(*v);
    }
}
