//! Rows on their way into blocks, and the places of sixteen blocks side by side.

use super::lanes::{LANES, Lanes};
use half::f16;

/// Whole rows and what is known of their columns.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Finite values, `[rows, cols]`.
    pub values: &'a [f32],
    /// Columns; a multiple of the type's block.
    pub cols: usize,
    /// Mean square of each column's input, `[cols]`, each run of a block with one above 0.
    pub importance: Option<&'a [f32]>,
}

/// The same place of `LANES` runs of `N` values, from run `first` on; `at` gives a run.
#[inline(always)]
fn side_by_side<'a, const N: usize>(at: impl Fn(usize) -> &'a [f32]) -> [Lanes; N] {
    let mut out = [Lanes::zero(); N];
    for l in 0..LANES {
        if let Some(run) = at(l).first_chunk::<N>() {
            for i in 0..N {
                out[i].0[l] = run[i];
            }
        }
    }
    out
}

impl Rows<'_> {
    /// `LANES` runs of `N` values from run `first` on, zeros behind the last.
    #[inline(always)]
    pub(super) fn load<const N: usize>(&self, first: usize) -> [Lanes; N] {
        side_by_side(|l| self.values.get((first + l) * N..).unwrap_or_default())
    }

    /// The importance of the columns of the same runs.
    #[inline(always)]
    pub(super) fn weigh<const N: usize>(&self, first: usize) -> Option<[Lanes; N]> {
        let importance = self.importance?;
        let per_row = self.cols / N;
        Some(side_by_side(|l| &importance[(first + l) % per_row * N..]))
    }

    /// Σ x² of `LANES` spans of `n` values, each for `repeat` runs; one after another.
    #[inline(always)]
    pub(super) fn square_sums(&self, first: usize, n: usize, repeat: usize) -> Lanes {
        let mut out = Lanes::zero();
        for k in 0..LANES / repeat {
            let span = self.values.get((first + k) * n..).unwrap_or_default();
            let sum = square_sum(&span[..n.min(span.len())]);
            out.0[k * repeat..][..repeat].fill(sum);
        }
        out
    }
}

/// Σ x², one after another.
#[inline(always)]
pub(super) fn square_sum(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |sum, x| sum + x * x)
}

/// qw · √(σ² + x²): how much an error at a value matters.
#[inline(always)]
pub(super) fn weights<const N: usize>(
    importance: &[Lanes; N],
    x: &[Lanes; N],
    variance: Lanes,
) -> [Lanes; N] {
    std::array::from_fn(|i| importance[i] * (variance + x[i] * x[i]).sqrt())
}

/// Σ of a block's values, from zero, one after another.
#[inline(always)]
pub(super) fn sum<const N: usize>(x: &[Lanes; N]) -> Lanes {
    x.iter().fold(Lanes::zero(), |sum, x| sum + *x)
}

/// Each value squared.
#[inline(always)]
pub(super) fn squares<const N: usize>(x: &[Lanes; N]) -> [Lanes; N] {
    std::array::from_fn(|i| x[i] * x[i])
}

/// Bits of a half and the value that they stand for.
#[inline(always)]
pub(super) fn half(v: f32) -> (u16, f32) {
    let h = f16::from_f32(v);
    (h.to_bits(), h.to_f32())
}

/// Codes of the runs one behind the other.
#[inline(always)]
pub(super) fn bytes<const N: usize>(codes: &[Lanes; N], out: &mut [u8]) {
    for i in 0..N {
        for l in 0..LANES {
            out[l * N + i] = codes[i].0[l] as u8;
        }
    }
}
