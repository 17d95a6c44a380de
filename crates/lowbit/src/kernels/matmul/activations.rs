//! Rounding of inputs that a matrix asks for: integers, E4M3 or E2M1, a scale per token, per group of
//! a token, or from calibration.
//!
//! ```text
//! scale = max |x| / 127.5 (8-bit integers), / 448 (E4M3); 2^−23 for a token of zeros
//! q     = round(clamp(x / scale, −128, 127)), ties to even;  the input becomes q · scale
//!
//! E2M1: scale = E4M3(g · max |x| / 6) / g per group, g from calibration; 0.125 for a scale of 0
//! ```
//! The order of operations is that of compressed-tensors 0.19, bit for bit in f32.

use super::inputs::{Rounded, arrange};
use super::weight::Packed;
use crate::cpu::Cpu;
use crate::matrix::Inputs;
use crate::minifloat::{E2M1, E2M1_MAX, E4M3_MAX, e2m1_from_f32, e4m3_from_f32, f32_from_e4m3};
use crate::scheme::Element;

/// Rounding fewer inputs than this stays on one thread.
const PARALLEL_FROM: usize = 1 << 16;

/// Scale of a run of inputs; NaN when one of them is not finite.
fn scale_of(x: &[f32], inputs: &Inputs) -> f32 {
    if let Some(scale) = inputs.scale {
        return match inputs.element {
            Element::Nvfp4 => nvfp4_scale(x, scale),
            _ => scale,
        };
    }
    // The order of magnitudes is the order of their bits, NaN above everything.
    let largest = x
        .iter()
        .fold(0, |a, v| a.max((v.to_bits() & 0x7fff_ffff) as i32));
    let absmax = f32::from_bits(largest as u32);
    let scale = match inputs.element {
        Element::Int => absmax / (((1u32 << inputs.bits) - 1) as f32 / 2.0),
        _ => absmax / E4M3_MAX,
    };
    match scale {
        0.0 => f32::EPSILON,
        s if s.is_finite() => s,
        _ => f32::NAN,
    }
}

/// Scale of a group under NVFP4's scale for all inputs: E4M3, like those of weights.
fn nvfp4_scale(x: &[f32], divisor: f32) -> f32 {
    let largest = x.iter().fold(0.0f32, |a, v| a.max(v.abs()));
    let stored = f32_from_e4m3(e4m3_from_f32(divisor * (largest / E2M1_MAX)));
    if stored == 0.0 {
        0.125 / divisor
    } else {
        stored / divisor
    }
}

/// `x[m, cols]` as a matrix that rounds its inputs sees it.
///
/// A token with a NaN or an infinite input becomes NaN under a scale of its own, so that the fault
/// reaches the output; under a scale from calibration only the NaN stay.
pub fn fake_quantize(cpu: &Cpu, x: &[f32], cols: usize, inputs: &Inputs) -> Vec<f32> {
    let mut out = x.to_vec();
    let run = inputs.group.unwrap_or(cols);
    let parallel = x.len() >= PARALLEL_FROM;
    cpu.run_chunks(&mut out, cols, parallel, |_, token| {
        for x in token.chunks_mut(run) {
            let scale = scale_of(x, inputs);
            match inputs.element {
                Element::Int => {
                    let half = (1u32 << (inputs.bits - 1)) as f32;
                    for v in x {
                        *v = (*v / scale).clamp(-half, half - 1.0).round_ties_even() * scale;
                    }
                }
                Element::Nvfp4 => {
                    // Codes are numbers always: a NaN must not become one.
                    for v in x.iter_mut().filter(|v| !v.is_nan()) {
                        *v = E2M1[usize::from(e2m1_from_f32(*v / scale))] * scale;
                    }
                }
                _ => {
                    for v in x {
                        *v = f32_from_e4m3(e4m3_from_f32(*v / scale)) * scale;
                    }
                }
            }
        }
    });
    out
}

/// The same as integers, for a matrix that is multiplied so: one scale per token, repeated for
/// every group of `w`.
pub fn round(cpu: &Cpu, x: &[f32], w: &Packed, inputs: &Inputs) -> Rounded {
    let (width, groups) = (w.width(), w.groups);
    let m = x.len() / w.cols;
    let arranged = arrange(x, w);
    let mut codes = vec![0i8; m * width];
    let mut found = vec![(0.0, 0); m * groups];
    let mut rows: Vec<_> = arranged
        .chunks_exact(width)
        .zip(codes.chunks_exact_mut(width))
        .zip(found.chunks_exact_mut(groups))
        .collect();
    cpu.run_chunks(&mut rows, 16, x.len() >= PARALLEL_FROM, |_, rows| {
        for ((x, codes), found) in rows {
            let scale = scale_of(x, inputs);
            let pairs = x.chunks_exact(w.group).zip(codes.chunks_exact_mut(w.group));
            for ((x, codes), found) in pairs.zip(found.iter_mut()) {
                *found = (poisoned(scale, x), round_group(x, scale, codes));
            }
        }
    });
    let (scales, sums) = found.into_iter().unzip();
    Rounded {
        codes,
        scales,
        sums,
    }
}

/// A scale that carries NaN inputs to the output, which integers cannot.
fn poisoned(scale: f32, x: &[f32]) -> f32 {
    if x.iter().any(|v| v.is_nan()) {
        f32::NAN
    } else {
        scale
    }
}

fn round_group(x: &[f32], scale: f32, codes: &mut [i8]) -> i32 {
    let mut sum = 0;
    for (code, v) in codes.iter_mut().zip(x) {
        let q = (*v / scale).clamp(-128.0, 127.0).round_ties_even();
        *code = q as i8;
        sum += i32::from(*code);
    }
    sum
}
