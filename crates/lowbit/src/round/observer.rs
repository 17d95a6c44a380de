//! Scale and zero of a group of weights: what the group's codes will be multiplied with.
//!
//! The arithmetic is that of compressed-tensors (`calculate_qparams`), in f32, so that a file
//! written here and one written there hold the same scales: with codes from lo = −2^(b−1) to
//! hi = 2^(b−1) − 1 and a range that always includes 0,
//!
//! ```text
//! symmetric    s = max|w| / ((hi − lo) / 2)
//! asymmetric   s = (max − min) / (hi − lo)     z = round(clamp(lo − min / s, lo, hi))
//! ```
//! s is then rounded to the type it is stored in, and a scale of 0 becomes that type's ε. One case
//! differs: a group of equal weights c ≠ 0 gets s = |c|, which gives c back exactly.

use super::RoundOptions;
use crate::error::{Code, Error, Result, nearest};
use crate::maths;
use crate::scheme::Scheme;
use crate::tensor::{Dtype, round_to};

/// How the range of a group is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Observer {
    /// Smallest and largest weight.
    MinMax,
    /// The shrunk range with the least error, as llm-compressor's `mse` observer searches it: 20
    /// steps of 1 %, error to the power 2.4. (That one ends when five steps helped no group of
    /// the matrix; here every group sees every step, however the matrix is cut for the work.)
    Mse,
    /// The same with each error weighted by the importance of its input channel, as
    /// llm-compressor's `imatrix_mse` observer searches it: 20 steps down to 5 % of the range,
    /// error to the power 3. Without importance every channel counts the same.
    ImatrixMse,
}

impl Observer {
    /// Every observer with its name in options.
    pub const ALL: &[(&'static str, Observer)] = &[
        ("minmax", Observer::MinMax),
        ("mse", Observer::Mse),
        ("imatrix-mse", Observer::ImatrixMse),
    ];

    /// Looks one up by name; `option` with the nearest name otherwise.
    pub fn parse(name: &str) -> Result<Self> {
        if let Some((_, observer)) = Self::ALL.iter().find(|(n, _)| *n == name) {
            return Ok(*observer);
        }
        let near = nearest(name, Self::ALL.iter().map(|(n, _)| *n)).unwrap_or_default();
        let error = Error::new(Code::Option, format!("unknown observer {name:?}"));
        Err(error.remedy(format!("did you mean {near:?}?")))
    }
}

/// Independent sums of an error; fixed, so that every instruction set adds in the same order.
const LANES: usize = 16;

/// The codes that a group can use and the type of its scale.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    lo: f32,
    hi: f32,
    symmetric: bool,
    scale_dtype: Dtype,
}

/// Scale as stored and zero as a signed code.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Params {
    pub(super) scale: f32,
    pub(super) zero: f32,
}

/// Scale (as stored) and zero (unsigned, as the codes are) of one group.
///
/// `values` are the group's finite weights, `importance` E[x²] of their inputs, or empty; the
/// scheme's group does not matter here. The scale is infinite if its type cannot hold it.
pub fn group_params(
    values: &[f32],
    importance: &[f32],
    scheme: &Scheme,
    options: &RoundOptions,
) -> (f32, u8) {
    let grid = Grid::new(scheme, options.scale_dtype);
    let params = grid.observe(values, importance, options.observer);
    (params.scale, grid.unsigned(params.zero))
}

/// Importance as a search uses it: relative to its mean; none when nothing can be told from it.
pub fn relative_importance(importance: Option<&[f32]>) -> Option<Vec<f32>> {
    let known = importance.filter(|i| i.iter().all(|v| v.is_finite() && *v >= 0.0))?;
    let mean = known.iter().map(|v| f64::from(*v)).sum::<f64>() / known.len().max(1) as f64;
    (mean > 0.0).then(|| {
        known
            .iter()
            .map(|v| (f64::from(*v) / mean) as f32)
            .collect()
    })
}

impl Grid {
    pub(super) fn new(scheme: &Scheme, scale_dtype: Dtype) -> Self {
        let (lo, hi) = scheme.range();
        Self {
            lo: lo as f32,
            hi: hi as f32,
            symmetric: scheme.is_symmetric(),
            scale_dtype,
        }
    }

    /// The zero as it is stored: shifted like the codes.
    #[inline(always)]
    pub(super) fn unsigned(self, zero: f32) -> u8 {
        (zero - self.lo) as u8
    }

    /// Scale and zero that an observer chooses for a group; `importance` may be empty.
    #[inline(always)]
    pub(super) fn observe(self, values: &[f32], importance: &[f32], observer: Observer) -> Params {
        match (observer, importance) {
            (Observer::MinMax, _) => self.params(range(values), 1.0),
            (Observer::Mse, _) => self.search::<Power2_4>(values, values),
            (Observer::ImatrixMse, []) => self.search::<Cube>(values, values),
            (Observer::ImatrixMse, known) => self.search::<WeightedCube>(values, known),
        }
    }

    /// The parameters of least error among 20 shares of the range.
    #[inline(always)]
    fn search<L: Loss>(self, values: &[f32], importance: &[f32]) -> Params {
        let range = range(values);
        let mut best = self.params(range, 1.0);
        let mut least = self.error::<L>(values, importance, best);
        for step in 1..20 {
            let params = self.params(range, 1.0 - f64::from(step) / L::SHARES);
            let error = self.error::<L>(values, importance, params);
            if error < least {
                (best, least) = (params, error);
            }
        }
        best
    }

    /// Sum of the losses of all values.
    #[inline(always)]
    fn error<L: Loss>(self, values: &[f32], importance: &[f32], params: Params) -> f32 {
        let mut sums = [0.0f32; LANES];
        let (chunks, rest) = values.as_chunks::<LANES>();
        let (weights, rest_weights) = importance.as_chunks::<LANES>();
        for (chunk, weights) in chunks.iter().zip(weights) {
            for l in 0..LANES {
                sums[l] += L::of(self.distance(chunk[l], params), weights[l]);
            }
        }
        for (sum, (w, weight)) in sums.iter_mut().zip(rest.iter().zip(rest_weights)) {
            *sum += L::of(self.distance(*w, params), *weight);
        }
        sums.into_iter().sum()
    }

    /// How far a value is from its place on the grid.
    #[inline(always)]
    fn distance(self, w: f32, params: Params) -> f32 {
        let q = to_even(self.limit(w / params.scale + params.zero));
        ((q - params.zero) * params.scale - w).abs()
    }

    /// Scale and zero for a share of a range.
    #[inline(always)]
    fn params(self, (min, max): (f32, f32), share: f64) -> Params {
        if min == max && min != 0.0 {
            let scale = round_to(self.scale_dtype, max.abs());
            if scale != 0.0 && scale.is_finite() {
                return Params { scale, zero: 0.0 };
            }
        }
        let p = share as f32;
        let (min, max) = ((min * p).min(0.0), (max * p).max(0.0));
        let (scale, zero) = if self.symmetric {
            (max.max(-min) / ((self.hi - self.lo) / 2.0), 0.0)
        } else {
            let scale = (max - min) / (self.hi - self.lo);
            let zero = (self.lo - min / scale).clamp(self.lo, self.hi);
            // 0 / 0 in a group of zeros.
            (scale, if zero.is_nan() { 0.0 } else { to_even(zero) })
        };
        let scale = match round_to(self.scale_dtype, scale) {
            0.0 => self.scale_dtype.epsilon(),
            stored => stored,
        };
        Params { scale, zero }
    }

    /// `clamp` without its check of the bounds, which would keep loops from vectorizing.
    #[inline(always)]
    fn limit(self, x: f32) -> f32 {
        let x = if x < self.lo { self.lo } else { x };
        if x > self.hi { self.hi } else { x }
    }

    /// Unsigned codes of a group: `round(clamp(w / s + z, lo, hi)) − lo`, ties to even.
    #[inline(always)]
    pub(super) fn codes(self, values: &[f32], params: Params, codes: &mut [u8]) {
        let shift = -self.lo as u8;
        for (code, w) in codes.iter_mut().zip(values) {
            let q = self.limit(w / params.scale + params.zero);
            // The low byte of the sum's mantissa is the integer in two's complement.
            *code = ((q + ROUND).to_bits() as u8).wrapping_add(shift);
        }
    }
}

/// 1.5 · 2²³: adding it leaves no room for a fraction.
const ROUND: f32 = 12_582_912.0;

/// Rounds to an integer, ties to even; |x| < 2²².
#[inline(always)]
fn to_even(x: f32) -> f32 {
    (x + ROUND) - ROUND
}

/// Smallest and largest value; both 0 for an empty group.
#[inline(always)]
fn range(values: &[f32]) -> (f32, f32) {
    let first = values.first().copied().unwrap_or(0.0);
    let (mut min, mut max) = ([first; LANES], [first; LANES]);
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (l, x) in chunk.iter().enumerate() {
            min[l] = if *x < min[l] { *x } else { min[l] };
            max[l] = if *x > max[l] { *x } else { max[l] };
        }
    }
    let all = |edges: [f32; LANES]| edges.into_iter().chain(rest.iter().copied());
    (
        all(min).fold(first, f32::min),
        all(max).fold(first, f32::max),
    )
}

/// What a distance to the grid costs.
///
/// A trait and no closure: closures are compiled for the weakest instruction set instead of the
/// task's, and this is the innermost loop of a search.
trait Loss {
    /// A step of the search shrinks the range by one of so many shares.
    const SHARES: f64;

    /// The cost of distance `d` of a value with an importance.
    fn of(d: f32, importance: f32) -> f32;
}

/// `d^2.4`.
struct Power2_4;

impl Loss for Power2_4 {
    const SHARES: f64 = 100.0;

    #[inline(always)]
    fn of(d: f32, _: f32) -> f32 {
        maths::pow_2_4(d)
    }
}

/// `d³`.
struct Cube;

impl Loss for Cube {
    const SHARES: f64 = 20.0;

    #[inline(always)]
    fn of(d: f32, _: f32) -> f32 {
        d * d * d
    }
}

/// `d³` times the importance of the value's channel.
struct WeightedCube;

impl Loss for WeightedCube {
    const SHARES: f64 = 20.0;

    #[inline(always)]
    fn of(d: f32, importance: f32) -> f32 {
        d * d * d * importance
    }
}

#[cfg(test)]
#[path = "observer_tests.rs"]
mod tests;
