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

use crate::error::{Code, Error, Result, nearest};
use crate::maths;
use crate::tensor::{Dtype, round_to};

/// How the range of a group is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Observer {
    /// Smallest and largest weight.
    MinMax,
    /// The shrunk range with the least error: 20 steps of 1 %, error to the power 2.4, as
    /// llm-compressor's `mse` observer searches.
    Mse,
}

impl Observer {
    /// Every observer with its name in options.
    pub const ALL: &[(&'static str, Observer)] =
        &[("minmax", Observer::MinMax), ("mse", Observer::Mse)];

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

/// Shrinking steps of the search: `p = 1 − step / 100`.
const STEPS: u32 = 20;
/// Steps without an improvement anywhere in the matrix after which llm-compressor stops.
const PATIENCE: u32 = 5;
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
/// `values` are the group's finite weights. The scale is infinite if `scale_dtype` cannot hold it.
pub fn group_params(
    values: &[f32],
    bits: u8,
    symmetric: bool,
    observer: Observer,
    scale_dtype: Dtype,
) -> (f32, u8) {
    let grid = Grid::new(bits, symmetric, scale_dtype);
    let range = range(values);
    let step = match observer {
        Observer::MinMax => 0,
        Observer::Mse => best_step(improvements(values, range, grid), STEPS),
    };
    let params = grid.params(range, step);
    (params.scale, grid.unsigned(params.zero))
}

impl Grid {
    pub(super) fn new(bits: u8, symmetric: bool, scale_dtype: Dtype) -> Self {
        let half = f32::from(1u16 << (bits - 1));
        Self {
            lo: -half,
            hi: half - 1.0,
            symmetric,
            scale_dtype,
        }
    }

    /// The zero as it is stored: shifted like the codes.
    pub(super) fn unsigned(self, zero: f32) -> u8 {
        (zero - self.lo) as u8
    }

    /// Scale and zero for a range shrunk by `step` percent.
    #[inline(always)]
    pub(super) fn params(self, (min, max): (f32, f32), step: u32) -> Params {
        if min == max && min != 0.0 {
            let scale = round_to(self.scale_dtype, max.abs());
            if scale != 0.0 && scale.is_finite() {
                return Params { scale, zero: 0.0 };
            }
        }
        let p = (1.0 - f64::from(step) / 100.0) as f32;
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
            0.0 => epsilon(self.scale_dtype),
            stored => stored,
        };
        Params { scale, zero }
    }

    /// Unsigned codes of a group: `round(clamp(w / s + z, lo, hi)) − lo`, ties to even.
    #[inline(always)]
    pub(super) fn codes(self, values: &[f32], params: Params, codes: &mut [u8]) {
        let shift = -self.lo as u8;
        for (code, w) in codes.iter_mut().zip(values) {
            let q = (w / params.scale + params.zero).clamp(self.lo, self.hi);
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

/// What compressed-tensors stores instead of a scale of 0.
fn epsilon(dtype: Dtype) -> f32 {
    match dtype {
        Dtype::BF16 => 1.0 / 128.0,
        Dtype::F16 => 1.0 / 1024.0,
        _ => f32::EPSILON,
    }
}

/// Smallest and largest value; both 0 for an empty group.
#[inline(always)]
pub(super) fn range(values: &[f32]) -> (f32, f32) {
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

/// Tries every step and returns those that were better than all before them, as bits.
#[inline(always)]
pub(super) fn improvements(values: &[f32], range: (f32, f32), grid: Grid) -> u32 {
    let (mut best, mut improved) = (f32::MAX, 0);
    for step in 0..STEPS {
        let error = error(values, grid.params(range, step), grid);
        if error < best {
            best = error;
            improved |= 1 << step;
        }
    }
    improved
}

/// The step at which llm-compressor stops searching: it looks at a whole matrix at once and gives
/// up after five steps in which no group improved. `improved` is the union over all groups.
pub(super) fn last_step(improved: u32) -> u32 {
    let mut idle = 0;
    for step in 0..STEPS {
        idle = if improved >> step & 1 == 1 {
            0
        } else {
            idle + 1
        };
        if idle == PATIENCE {
            return step;
        }
    }
    STEPS
}

/// The last improvement before `limit`.
pub(super) fn best_step(improved: u32, limit: u32) -> u32 {
    (improved & ((1 << limit) - 1)).checked_ilog2().unwrap_or(0)
}

/// Σ |w' − w|^2.4 over a group, where w' is w rounded to the grid.
#[inline(always)]
fn error(values: &[f32], params: Params, grid: Grid) -> f32 {
    let distance = |w: f32| {
        let q = to_even((w / params.scale + params.zero).clamp(grid.lo, grid.hi));
        maths::pow_2_4(((q - params.zero) * params.scale - w).abs())
    };
    let mut sums = [0.0f32; LANES];
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

#[cfg(test)]
mod tests {
    use super::*;

    const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::BF16, Dtype::F16];

    fn rounded(values: &[f32], bits: u8, symmetric: bool, dtype: Dtype) -> Vec<f32> {
        let (scale, zero) = group_params(values, bits, symmetric, Observer::Mse, dtype);
        assert!(scale != 0.0 && scale.is_finite());
        let grid = Grid::new(bits, symmetric, dtype);
        let params = Params {
            scale,
            zero: f32::from(zero) + grid.lo,
        };
        let mut codes = vec![0; values.len()];
        grid.codes(values, params, &mut codes);
        assert!(codes.iter().all(|c| u32::from(*c) < 1 << bits));
        codes
            .iter()
            .map(|c| scale * (f32::from(*c) - f32::from(zero)))
            .collect()
    }

    #[test]
    fn groups_of_one_value_come_back_exactly() {
        for (bits, symmetric) in [(2, true), (3, false), (4, true), (4, false), (8, true)] {
            for dtype in DTYPES {
                for c in [0.0, 1.0, -1.0, 0.3125, -0.011_718_75, 1024.0] {
                    let values = [c; 33];
                    assert_eq!(
                        rounded(&values, bits, symmetric, dtype),
                        values,
                        "{bits} {c}"
                    );
                }
            }
        }
        let tiny = [1.0e-44f32; 16];
        assert_eq!(rounded(&tiny, 4, true, Dtype::F32), tiny);
        assert_eq!(
            rounded(&tiny, 4, true, Dtype::F16),
            [0.0; 16],
            "scale underflow"
        );
    }

    #[test]
    fn a_scale_that_does_not_fit_is_infinite() {
        let values = [1.0e6, -1.0];
        assert!(
            group_params(&values, 4, true, Observer::MinMax, Dtype::F16)
                .0
                .is_infinite()
        );
    }

    #[test]
    fn patience_ends_the_search_for_all_groups() {
        assert_eq!(last_step(0b1), 5);
        assert_eq!(last_step(0b100_0001), 11);
        assert_eq!(last_step(0xf_ffff), STEPS);
        assert_eq!(best_step(0b1000_0011, 7), 1);
    }
}
