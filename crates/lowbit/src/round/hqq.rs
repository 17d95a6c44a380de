//! HQQ, half-quadratic quantization (Badri and Shaji 2023, mobiusml.github.io/hqq_blog): moves each
//! group's zero point until many small errors and few large ones are left; needs no data.
//!
//! With a fixed scale s, codes `q = clamp(round(w/s + z))` and values `r = s·(q − z)`, the lp norm
//! of w − r (p = 0.7) is lowered by turns over z and over a sparse error e:
//!
//! ```text
//! e = shrink(w − r)        shrink(x) = sign(x) · max(0, |x| − |x|^(p−1) / β)     β = 10
//! z = mean(q − (w − e)/s)
//! ```
//! The tool (hqq 0.2.8) ends when the mean error over the whole matrix stops falling; here each
//! group ends by itself, however the matrix is cut for the work. Scales are `range / (2^bits − 1)`
//! as there, but groups whose range is below 1e-4 keep their own scale too.

use super::rows::{self, RoundGroup};
use super::{RoundOptions, Weights};
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::maths;
use crate::matrix::{Floats, Inputs, Integer, QuantizedMatrix, Scales, Values, Zero};
use crate::scheme::{Element, Scheme, ZeroPoint};
use crate::tensor::{Dtype, round_to};

/// Turns at most.
const TURNS: usize = 20;
/// 1 / β.
const STEP: f32 = 0.1;
/// Sums kept side by side; fixed, so that every instruction set adds in the same order.
const LANES: usize = 16;
/// 1.5 · 2²³: adding it rounds to an integer, ties to even.
const ROUND: f32 = 12_582_912.0;

/// Rounds `weights` to an integer scheme with zero points.
///
/// Float zeros are stored as they are found. Integer zeros are the neighbour of the optimum with
/// the smaller lp error. `scheme` when there are no zeros to move or groups do not fit, otherwise
/// as `rtn::round`.
pub fn round(
    weights: Weights<'_>,
    scheme: &Scheme,
    options: &RoundOptions,
    cpu: &Cpu,
) -> Result<QuantizedMatrix> {
    weights.check()?;
    if scheme.element != Element::Int || scheme.zero == ZeroPoint::None {
        let what = format!("HQQ moves zero points, and {scheme} has none");
        let fit = format!("use {scheme}-asym or {scheme}-float");
        return Err(Error::new(Code::Scheme, what).remedy(fit));
    }
    let group = scheme.group_cols(weights.cols)?;
    let solver = Solver {
        top: f32::from(u8::MAX >> (8 - scheme.bits)),
        whole: scheme.zero == ZeroPoint::Int,
        dtype: options.scale_dtype,
    };
    let weights = Weights {
        importance: None,
        ..weights
    };
    let rounded = rows::round(weights, (group, scheme.bits), solver, cpu)?;
    let floats = |values: &[f32]| Floats::from_f32(options.scale_dtype, values);
    Ok(QuantizedMatrix {
        rows: weights.rows,
        cols: weights.cols,
        inputs: Inputs::of(scheme),
        values: Values::Integer(Integer {
            codes: rounded.codes,
            group,
            scales: Scales::Flat(floats(&rounded.scales)?),
            zero: match scheme.zero {
                ZeroPoint::Int => Zero::Int(rounded.zeros.iter().map(|z| *z as u8).collect()),
                _ => Zero::Float(floats(&rounded.zeros)?),
            },
            group_of_col: None,
        }),
    })
}

/// The search over one group.
#[derive(Clone, Copy)]
struct Solver {
    /// Largest code.
    top: f32,
    /// Zeros are integers from 0 to `top`.
    whole: bool,
    /// Type of stored scales and float zeros.
    dtype: Dtype,
}

impl RoundGroup for Solver {
    #[inline(always)]
    fn round(self, values: &[f32], _importance: &[f32], codes: &mut [u8]) -> (f32, f32) {
        let (mut min, mut max) = (f32::INFINITY, f32::NEG_INFINITY);
        for w in values {
            min = if *w < min { *w } else { min };
            max = if *w > max { *w } else { max };
        }
        if min == max {
            return self.constant(min, codes);
        }
        if self.whole {
            (min, max) = (min.min(0.0), max.max(0.0));
        }
        let (stored, s) = self.scale(max - min);
        let first = -min * s;
        let optimum = self.optimum(values, s, first);
        let zero = if self.whole {
            let near = [optimum.floor(), optimum.ceil(), to_even(first)];
            let near = near.map(|z| z.clamp(0.0, self.top));
            let costs = near.map(|z| self.cost(values, s, z));
            let best = (1..3).fold(0, |b, i| if costs[i] < costs[b] { i } else { b });
            near[best]
        } else {
            round_to(self.dtype, optimum)
        };
        for (code, w) in codes.iter_mut().zip(values) {
            *code = (self.code(*w, s, zero) + ROUND).to_bits() as u8;
        }
        (stored, zero)
    }
}

impl Solver {
    /// A group of equal weights, which comes back exactly if the scale's type can hold it.
    #[inline(always)]
    fn constant(self, c: f32, codes: &mut [u8]) -> (f32, f32) {
        codes.fill(u8::from(c > 0.0));
        match round_to(self.dtype, c.abs()) {
            0.0 => (1.0, f32::from(u8::from(c > 0.0))),
            scale => (scale, f32::from(u8::from(c < 0.0))),
        }
    }

    /// The scale as it is stored, never 0, and its reciprocal, which all is computed with.
    #[inline(always)]
    fn scale(self, range: f32) -> (f32, f32) {
        // A number over a tensor is a product with the reciprocal in the tool.
        let s = (1.0 / range) * self.top;
        if self.dtype == Dtype::F32 && s.is_finite() {
            return (1.0 / s, s);
        }
        let least = match self.dtype {
            Dtype::F16 => 1.0 / 16_777_216.0,
            _ => f32::MIN_POSITIVE,
        };
        let stored = round_to(self.dtype, range / self.top).max(least);
        (stored, 1.0 / stored)
    }

    #[inline(always)]
    fn code(self, w: f32, s: f32, zero: f32) -> f32 {
        let q = to_even(limit(w * s + zero, -1.0, self.top + 1.0));
        limit(q, 0.0, self.top)
    }

    /// The zero that the turns end with.
    #[inline(always)]
    fn optimum(self, values: &[f32], s: f32, first: f32) -> f32 {
        let (mut zero, mut least) = (first, f32::INFINITY);
        for _ in 0..TURNS {
            let (mut errors, mut zeros) = ([0.0f32; LANES], [0.0f32; LANES]);
            let mut turn = |lane: usize, w: f32| {
                let q = self.code(w, s, zero);
                let x = w - (q - zero) / s;
                let size = x.abs();
                let left = size - STEP * maths::pow_minus_0_3(size);
                let e = if left > 0.0 { left } else { 0.0 };
                let e = if x < 0.0 { -e } else { e };
                errors[lane] += size;
                zeros[lane] += q - (w - e) * s;
            };
            let (chunks, rest) = values.as_chunks::<LANES>();
            for chunk in chunks {
                for (lane, w) in chunk.iter().enumerate() {
                    turn(lane, *w);
                }
            }
            for (lane, w) in rest.iter().enumerate() {
                turn(lane, *w);
            }
            let n = values.len() as f32;
            let error = errors.into_iter().sum::<f32>() / n;
            zero = zeros.into_iter().sum::<f32>() / n;
            // As in the tool, the turn that found no better codes still moves the zero.
            if error >= least {
                break;
            }
            least = error;
        }
        zero
    }

    /// Σ |w − r|^0.7 with a given zero.
    #[inline(always)]
    fn cost(self, values: &[f32], s: f32, zero: f32) -> f32 {
        let mut sums = [0.0f32; LANES];
        let distance = |w: f32| {
            let size = (w - (self.code(w, s, zero) - zero) / s).abs();
            size * maths::pow_minus_0_3(size)
        };
        let (chunks, rest) = values.as_chunks::<LANES>();
        for chunk in chunks {
            for (sum, w) in sums.iter_mut().zip(chunk) {
                *sum += distance(*w);
            }
        }
        for (sum, w) in sums.iter_mut().zip(rest) {
            *sum += distance(*w);
        }
        sums.into_iter().sum()
    }
}

#[inline(always)]
fn to_even(x: f32) -> f32 {
    (x + ROUND) - ROUND
}

/// `clamp` without its check of the bounds, which would keep loops from vectorizing.
#[inline(always)]
fn limit(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}
