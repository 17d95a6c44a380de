//! Q4_K and Q5_K: eight runs of 32 values with 6-bit scales and minima under two halves.
//!
//! ```text
//! d f16 | dmin f16 | 12 bytes of 6-bit scales and minima | [Q5_K: 32 bytes of fifth bits] | 128 nibbles
//! ```

use super::lanes::{LANES, Lanes};
use super::rows::{Rows, bytes, half, squares, sum, weights};
use super::search::{Affine, Tries, affine};
use super::search_one::positive;

/// Values of a super-block.
pub(super) const SUPER: usize = 256;
const RUNS: usize = 8;

/// Scales and minima of a super-block in their stored form, and what they stand for.
pub(super) struct Scales<const R: usize> {
    pub(super) d: u16,
    pub(super) dmin: u16,
    pub(super) codes: [u8; R],
    pub(super) mins: [u8; R],
    pub(super) factor: f32,
    pub(super) min_factor: f32,
}

impl<const R: usize> Scales<R> {
    /// Codes up to `most` of scales and minima ≥ 0; `sums` are the weights of the runs if there is
    /// an importance matrix.
    #[inline(always)]
    pub(super) fn choose(scales: &[f32], mins: &[f32], sums: Option<&[f32]>, most: i32) -> Self {
        let mut codes = [[0; R]; 2];
        let mut outer = [0.0; 2];
        for ((codes, outer), values) in codes.iter_mut().zip(&mut outer).zip([scales, mins]) {
            *outer = match sums {
                Some(sums) => positive(values, sums, most, codes),
                None => largest(values, most, codes),
            };
        }
        let ((d, factor), (dmin, min_factor)) = (half(outer[0]), half(outer[1]));
        Self {
            d,
            dmin,
            codes: codes[0],
            mins: codes[1],
            factor,
            min_factor,
        }
    }
}

/// Codes in which the largest value has the largest code.
#[inline(always)]
fn largest(values: &[f32], most: i32, codes: &mut [u8]) -> f32 {
    let max = values
        .iter()
        .fold(0.0f32, |m, v| if *v > m { *v } else { m });
    let inverse = if max > 0.0 { most as f32 / max } else { 0.0 };
    for (code, v) in codes.iter_mut().zip(values) {
        *code = (super::lanes::nearest(inverse * v) as u8).min(most as u8);
    }
    max / most as f32
}

/// The 12 bytes of eight 6-bit scales and minima.
#[inline(always)]
fn pack_scales(scales: &[u8; RUNS], mins: &[u8; RUNS]) -> [u8; 12] {
    let mut out = [0; 12];
    for j in 0..4 {
        out[j] = scales[j] | scales[j + 4] >> 4 << 6;
        out[j + 4] = mins[j] | mins[j + 4] >> 4 << 6;
        out[j + 8] = scales[j + 4] & 15 | (mins[j + 4] & 15) << 4;
    }
    out
}

/// Codes of every run: nearest under the stored scale, those of the search where that is zero.
#[inline(always)]
pub(super) fn requantize<const N: usize>(
    x: &[Lanes; N],
    fit: &Affine,
    (scale, min): (Lanes, Lanes),
    most: i32,
) -> [Lanes; N] {
    let live = scale.ne(Lanes::zero());
    std::array::from_fn(|i| {
        let code = ((x[i] + min) / scale).code(0, most);
        live.pick(code, fit.code(x[i], most))
    })
}

/// Fits of `LANES` runs from run `first` on, and their summed weights under an importance matrix.
#[inline(always)]
fn fit(rows: &Rows<'_>, x: &[Lanes; 32], first: usize, five: bool) -> (Affine, Option<Lanes>) {
    let most = if five { 31 } else { 15 };
    if let Some(importance) = rows.weigh(first) {
        let squares = rows.square_sums(first / RUNS, SUPER, RUNS);
        let variance = (squares * Lanes::splat(2.0)) / Lanes::splat(SUPER as f32);
        let w = weights(&importance, x, variance);
        let tries = Tries {
            most,
            from: -0.9,
            by: 0.05,
            steps: 36,
            absolute: false,
        };
        return (affine(x, &w, tries), Some(sum(&w)));
    }
    let spread = (sum(&squares(x)) / Lanes::splat(32.0)).sqrt();
    let w = std::array::from_fn(|i| spread + x[i].abs());
    let (from, steps) = if five { (-0.5, 15) } else { (-1.0, 20) };
    let tries = Tries {
        most,
        from,
        by: 0.1,
        steps,
        absolute: false,
    };
    (affine(x, &w, tries), None)
}

/// Nibbles and, with `five`, the plane of fifth bits in front of them.
#[inline(always)]
fn pack_codes(codes: &[u8], five: bool, out: &mut [u8]) {
    let (high, low) = out.split_at_mut(if five { 32 } else { 0 });
    high.fill(0);
    for c in 0..4 {
        for l in 0..32 {
            let (a, b) = (codes[64 * c + l], codes[64 * c + 32 + l]);
            low[32 * c + l] = a & 15 | (b & 15) << 4;
            if five {
                high[l] |= (a >> 4) << (2 * c) | (b >> 4) << (2 * c + 1);
            }
        }
    }
}

#[inline(always)]
fn encode(rows: Rows<'_>, out: &mut [u8], five: bool) {
    let block = if five { 176 } else { 144 };
    let most = if five { 31 } else { 15 };
    let mut codes = [0; 32 * LANES];
    for (b, out) in out.chunks_mut(block * LANES / RUNS).enumerate() {
        let first = b * LANES;
        let x = rows.load::<32>(first);
        let (fit, sums) = fit(&rows, &x, first, five);
        let (mut scale, mut min) = (Lanes::zero(), Lanes::zero());
        for (k, out) in out.chunks_mut(block).enumerate() {
            let runs = k * RUNS..(k + 1) * RUNS;
            let sums = sums.as_ref().map(|s| &s.0[runs.clone()]);
            let (scales, mins) = (&fit.scale.0[runs.clone()], &fit.min.0[runs.clone()]);
            let found = Scales::<RUNS>::choose(scales, mins, sums, 63);
            out[..2].copy_from_slice(&found.d.to_le_bytes());
            out[2..4].copy_from_slice(&found.dmin.to_le_bytes());
            out[4..16].copy_from_slice(&pack_scales(&found.codes, &found.mins));
            for (j, l) in runs.enumerate() {
                scale.0[l] = found.factor * f32::from(found.codes[j]);
                min.0[l] = found.min_factor * f32::from(found.mins[j]);
            }
        }
        bytes(&requantize(&x, &fit, (scale, min), most), &mut codes);
        for (codes, out) in codes.chunks(SUPER).zip(out.chunks_mut(block)) {
            pack_codes(codes, five, &mut out[16..]);
        }
    }
}

#[inline(always)]
pub(super) fn q4_k(rows: Rows<'_>, out: &mut [u8]) {
    encode(rows, out, false);
}

#[inline(always)]
pub(super) fn q5_k(rows: Rows<'_>, out: &mut [u8]) {
    encode(rows, out, true);
}
