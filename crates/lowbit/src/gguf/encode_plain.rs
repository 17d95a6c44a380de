//! Types without a search: floats, Q8_0, the ternary ones and MXFP4.
//!
//! ```text
//! Q8_0   d f16 | 32 × i8            MXFP4  e (2^(e−128)) | 16 nibbles into the table below
//! TQ1_0  48 + 4 bytes of trits | d  TQ2_0  64 bytes of 2-bit codes | d
//! ```

use super::rows::{Rows, half};
use half::{bf16, f16};

/// Twice the values of E2M1.
pub(super) const MXFP4: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

#[inline(always)]
fn absmax(x: &[f32]) -> f32 {
    x.iter()
        .fold(0.0, |m, x| if x.abs() > m { x.abs() } else { m })
}

#[inline(always)]
pub(super) fn f32(rows: Rows<'_>, out: &mut [u8]) {
    for (o, x) in out.as_chunks_mut::<4>().0.iter_mut().zip(rows.values) {
        *o = x.to_le_bytes();
    }
}

#[inline(always)]
pub(super) fn f16(rows: Rows<'_>, out: &mut [u8]) {
    for (o, x) in out.as_chunks_mut::<2>().0.iter_mut().zip(rows.values) {
        *o = f16::from_f32(*x).to_le_bytes();
    }
}

#[inline(always)]
pub(super) fn bf16(rows: Rows<'_>, out: &mut [u8]) {
    for (o, x) in out.as_chunks_mut::<2>().0.iter_mut().zip(rows.values) {
        *o = bf16::from_f32(*x).to_le_bytes();
    }
}

#[inline(always)]
pub(super) fn q8_0(rows: Rows<'_>, out: &mut [u8]) {
    for (x, out) in rows.values.chunks_exact(32).zip(out.chunks_exact_mut(34)) {
        let d = absmax(x) / 127.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        out[..2].copy_from_slice(&half(d).0.to_le_bytes());
        for (o, x) in out[2..].iter_mut().zip(x) {
            *o = ((x * inverse).round() as i8).cast_unsigned();
        }
    }
}

/// The power of two under which the largest magnitude is at most 6 binades of E2M1, biased.
fn mxfp4_exponent(amax: f32) -> u8 {
    if amax == 0.0 {
        return 0;
    }
    // The logarithm is rounded to f32 before it is cut, as log2f rounds it.
    let log = libm::log2(f64::from(amax)) as f32;
    (log.floor() - 2.0 + 127.0).clamp(0.0, 254.0) as u8
}

/// 2^(e − 128).
#[inline(always)]
pub(super) fn mxfp4_scale(e: u8) -> f32 {
    match e {
        0 | 1 => f32::from_bits(0x0020_0000 << e),
        _ => f32::from_bits(u32::from(e - 1) << 23),
    }
}

#[inline(always)]
pub(super) fn mxfp4(rows: Rows<'_>, out: &mut [u8]) {
    for (x, out) in rows.values.chunks_exact(32).zip(out.chunks_exact_mut(17)) {
        let e = mxfp4_exponent(absmax(x));
        let d = mxfp4_scale(e);
        let code = |x: f32| {
            let mut best = (0, x.abs());
            for (k, v) in MXFP4.iter().enumerate().skip(1) {
                let error = (f32::from(*v) * d - x).abs();
                if error < best.1 {
                    best = (k as u8, error);
                }
            }
            best.0
        };
        out[0] = e;
        for j in 0..16 {
            out[1 + j] = code(x[j]) | code(x[j + 16]) << 4;
        }
    }
}

/// Trits of a block: 0, 1 and 2 for −d, 0 and d.
#[inline(always)]
fn trits(x: &[f32]) -> (u16, [u8; 256]) {
    let d = absmax(x);
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let trit = |i: usize| ((x[i] * inverse).round() + 1.0) as u8;
    (half(d).0, std::array::from_fn(trit))
}

/// Runs of a TQ1_0 block: first value, bytes, trits per byte.
pub(super) const TQ1_RUNS: [(usize, usize, usize); 3] = [(0, 32, 5), (160, 16, 5), (240, 4, 4)];

#[inline(always)]
pub(super) fn tq1_0(rows: Rows<'_>, out: &mut [u8]) {
    for (x, out) in rows.values.chunks_exact(256).zip(out.chunks_exact_mut(54)) {
        let (d, trits) = trits(x);
        let mut at = 0;
        for (first, bytes, count) in TQ1_RUNS {
            for m in 0..bytes {
                let number =
                    (0..count).fold(0u16, |n, k| 3 * n + u16::from(trits[first + m + k * bytes]));
                // The first trit is the highest of five; rounding up makes decoding a product.
                let number = if count == 4 { 3 * number } else { number };
                out[at] = (number * 256).div_ceil(243) as u8;
                at += 1;
            }
        }
        out[52..].copy_from_slice(&d.to_le_bytes());
    }
}

#[inline(always)]
pub(super) fn tq2_0(rows: Rows<'_>, out: &mut [u8]) {
    for (x, out) in rows.values.chunks_exact(256).zip(out.chunks_exact_mut(66)) {
        let (d, trits) = trits(x);
        for (h, out) in out[..64].chunks_exact_mut(32).enumerate() {
            for (m, o) in out.iter_mut().enumerate() {
                let at = |k: usize| trits[128 * h + m + 32 * k] << (2 * k);
                *o = at(0) | at(1) | at(2) | at(3);
            }
        }
        out[64..].copy_from_slice(&d.to_le_bytes());
    }
}
