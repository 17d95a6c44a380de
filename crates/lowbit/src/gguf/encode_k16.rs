//! Q2_K, Q3_K and Q6_K: sixteen runs of 16 values.
//!
//! ```text
//! Q2_K  16 × (scale | min « 4) | 64 bytes of 2-bit codes | d f16 | dmin f16
//! Q3_K  32 bytes of third bits | 64 bytes of 2-bit codes | 12 bytes of 6-bit scales | d f16
//! Q6_K  128 nibbles | 64 bytes of 2-bit codes | 16 × i8 scale | d f16
//! ```

use super::encode_k32::{SUPER, Scales, requantize};
use super::lanes::{LANES, Lanes, nearest};
use super::rows::{Rows, bytes, half, squares, sum, weights};
use super::search::{EPS, Tries, affine, descend, symmetric};
use super::search_one::symmetric_one;

/// 256 two-bit codes: byte l of each half holds values l, l+32, l+64 and l+96 of it.
#[inline(always)]
fn pack_pairs(codes: &[u8; SUPER], out: &mut [u8]) {
    for h in 0..2 {
        for l in 0..32 {
            let at = |k: usize| (codes[128 * h + l + 32 * k] & 3) << (2 * k);
            out[32 * h + l] = at(0) | at(1) | at(2) | at(3);
        }
    }
}

#[inline(always)]
pub(super) fn q2_k(rows: Rows<'_>, out: &mut [u8]) {
    let mut codes = [0; SUPER];
    for (b, out) in out.chunks_exact_mut(84).enumerate() {
        let x = rows.load::<16>(b * LANES);
        let (fit, sums) = if let Some(importance) = rows.weigh(b * LANES) {
            let squares = rows.square_sums(b, SUPER, LANES);
            let w = weights(&importance, &x, squares / Lanes::splat(SUPER as f32));
            let tries = Tries {
                most: 3,
                from: -0.9,
                by: 0.05,
                steps: 36,
                absolute: false,
            };
            (affine(&x, &w, tries), Some(sum(&w)))
        } else {
            let w = x.map(Lanes::abs);
            let tries = Tries {
                most: 3,
                from: -0.5,
                by: 0.1,
                steps: 15,
                absolute: true,
            };
            (affine(&x, &w, tries), None)
        };
        let sums = sums.as_ref().map(|s| &s.0[..]);
        let found = Scales::<LANES>::choose(&fit.scale.0, &fit.min.0, sums, 15);
        let (mut scale, mut min) = (Lanes::zero(), Lanes::zero());
        for (j, out) in out[..LANES].iter_mut().enumerate() {
            *out = found.codes[j] | found.mins[j] << 4;
            scale.0[j] = found.factor * f32::from(found.codes[j]);
            min.0[j] = found.min_factor * f32::from(found.mins[j]);
        }
        bytes(&requantize(&x, &fit, (scale, min), 3), &mut codes);
        pack_pairs(&codes, &mut out[16..80]);
        out[80..82].copy_from_slice(&found.d.to_le_bytes());
        out[82..].copy_from_slice(&found.dmin.to_le_bytes());
    }
}

/// The scale with the largest magnitude, the first of equals.
#[inline(always)]
fn widest(scales: &Lanes) -> f32 {
    let wider = |m: f32, s: &f32| if s.abs() > m.abs() { *s } else { m };
    scales.0.iter().fold(0.0, wider)
}

/// Sixteen codes of 6 bits: four low bits each, then two high bits each.
#[inline(always)]
fn pack_six(codes: &[u8; LANES], out: &mut [u8]) {
    out.fill(0);
    for (j, code) in codes.iter().enumerate() {
        out[j % 8] |= (code & 15) << (4 * (j / 8));
        out[8 + j % 4] |= (code >> 4) << (2 * (j / 4));
    }
}

#[inline(always)]
pub(super) fn q3_k(rows: Rows<'_>, out: &mut [u8]) {
    let mut codes = [0; SUPER];
    for (b, out) in out.chunks_exact_mut(110).enumerate() {
        let x = rows.load::<16>(b * LANES);
        let mut stored = [0u8; LANES];
        let (searched, outer) = if let Some(importance) = rows.weigh(b * LANES) {
            let squares = rows.square_sums(b, SUPER, LANES);
            let variance = (squares * Lanes::splat(2.0)) / Lanes::splat(SUPER as f32);
            let w = weights(&importance, &x, variance);
            let fit = symmetric(&x, &w, 4);
            let outer = symmetric_one(&fit.scale.0, &sum(&w).0, 32, &mut stored);
            (std::array::from_fn(|i| fit.code(x[i], 4)), outer)
        } else {
            let (scales, found) = descend(&x, 4);
            let inverse = -32.0 / widest(&scales);
            if inverse.is_finite() {
                for (code, s) in stored.iter_mut().zip(scales.0) {
                    *code = (nearest(inverse * s) as i8).clamp(-32, 31).wrapping_add(32) as u8;
                }
            }
            let outer = if inverse.is_finite() {
                1.0 / inverse
            } else {
                0.0
            };
            (found, outer)
        };
        let (d, scale_of) = half(outer);
        let scale = Lanes(stored.map(|s| scale_of * (f32::from(s) - 32.0)));
        let live = scale.ne(Lanes::zero());
        let found: [Lanes; 16] = std::array::from_fn(|i| {
            let code = (x[i] / scale).code(-4, 3) + Lanes::splat(4.0);
            live.pick(code, searched[i])
        });
        bytes(&found, &mut codes);
        out[..32].fill(0);
        for (j, code) in codes.iter().enumerate() {
            out[j % 32] |= (code >> 2) << (j / 32);
        }
        pack_pairs(&codes, &mut out[32..96]);
        pack_six(&stored, &mut out[96..108]);
        out[108..].copy_from_slice(&d.to_le_bytes());
    }
}

#[inline(always)]
fn pack_q6(codes: &[u8; SUPER], out: &mut [u8]) {
    for h in 0..2 {
        for l in 0..32 {
            let q = |k: usize| codes[128 * h + l + 32 * k];
            out[64 * h + l] = q(0) & 15 | (q(2) & 15) << 4;
            out[64 * h + 32 + l] = q(1) & 15 | (q(3) & 15) << 4;
            let high = |k: usize| (q(k) >> 4) << (2 * k);
            out[128 + 32 * h + l] = high(0) | high(1) | high(2) | high(3);
        }
    }
}

#[inline(always)]
pub(super) fn q6_k(rows: Rows<'_>, out: &mut [u8]) {
    let mut codes = [0; SUPER];
    for (b, out) in out.chunks_exact_mut(210).enumerate() {
        let x = rows.load::<16>(b * LANES);
        let w = rows.weigh(b * LANES).unwrap_or_else(|| squares(&x));
        let fit = symmetric(&x, &w, 32);
        let widest = widest(&fit.scale);
        if widest.abs() < EPS {
            out.fill(0);
            continue;
        }
        let inverse = -128.0 / widest;
        let (d, scale_of) = half(1.0 / inverse);
        let stored = fit.scale.0.map(|s| nearest(inverse * s).min(127) as i8);
        let scale = Lanes(stored.map(|s| scale_of * f32::from(s)));
        let live = scale.ne(Lanes::zero());
        let found: [Lanes; 16] = std::array::from_fn(|i| {
            let code = (x[i] / scale).code(-32, 31) + Lanes::splat(32.0);
            live.pick(code, fit.code(x[i], 32))
        });
        bytes(&found, &mut codes);
        pack_q6(&codes, out);
        for (o, s) in out[192..208].iter_mut().zip(stored) {
            *o = s.cast_unsigned();
        }
        out[208..].copy_from_slice(&d.to_le_bytes());
    }
}
