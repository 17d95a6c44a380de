//! Types with one scale, or scale and minimum, per 32 values, and IQ4 with its table of values.
//!
//! ```text
//! Q4_0  d f16 | 16 nibbles         Q4_1  d f16 | m f16 | 16 nibbles
//! Q5_0  d f16 | 32 fifth bits | …  Q5_1  d f16 | m f16 | 32 fifth bits | …
//! IQ4_NL  d f16 | 16 nibbles       IQ4_XS  d f16 | 16 high bits | 4 bytes of low bits | 128 nibbles
//! ```

use super::lanes::{LANES, Lanes, extreme, nearest};
use super::rows::{Rows, half, square_sum, squares, weights};
use super::search::{EPS, Tries, affine, symmetric};

/// Values that the codes of IQ4 stand for.
pub(super) const IQ4: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// Writes nibbles, value j low and value j + 16 high, and fifth bits in front with `five`.
#[inline(always)]
fn pack(codes: &[Lanes; 32], lane: usize, five: bool, out: &mut [u8]) {
    let code = |i: usize| codes[i].0[lane] as u8;
    let (high, low) = out.split_at_mut(if five { 4 } else { 0 });
    for (j, low) in low.iter_mut().enumerate() {
        *low = code(j) & 15 | code(j + 16) << 4;
    }
    if five {
        let bits = (0..32).fold(0u32, |bits, i| bits | u32::from(code(i) >> 4 & 1) << i);
        high.copy_from_slice(&bits.to_le_bytes());
    }
}

/// Weights under the importance matrix: σ² is the mean square of the run's row.
#[inline(always)]
fn row_weights(rows: &Rows<'_>, x: &[Lanes; 32], first: usize) -> Option<[Lanes; 32]> {
    let importance = rows.weigh(first)?;
    let mut variance = Lanes::zero();
    let mut known = (usize::MAX, 0.0);
    for l in 0..LANES {
        let row = (first + l) * 32 / rows.cols;
        if row != known.0 {
            let values = rows.values.get(row * rows.cols..).unwrap_or_default();
            let sum = square_sum(&values[..rows.cols.min(values.len())]);
            known = (row, sum / rows.cols as f32);
        }
        variance.0[l] = known.1;
    }
    Some(weights(&importance, x, variance))
}

/// One scale: codes −`most`..`most` of x/d.
#[inline(always)]
fn centred(rows: Rows<'_>, out: &mut [u8], five: bool) {
    let (block, most) = if five { (22, 16) } else { (18, 8) };
    for (b, out) in out.chunks_mut(block * LANES).enumerate() {
        let x = rows.load::<32>(b * LANES);
        let top = most as f32;
        let (scale, codes) = if let Some(w) = row_weights(&rows, &x, b * LANES) {
            let fit = symmetric(&x, &w, most);
            (fit.scale, x.map(|x| fit.code(x, most)))
        } else {
            let scale = extreme(&x).1 / Lanes::splat(-top);
            let inverse = scale
                .ne(Lanes::zero())
                .pick(Lanes::splat(1.0) / scale, Lanes::zero());
            let code = |v: f32| ((v + (top + 0.5)) as i32).min(2 * most - 1) as f32;
            (scale, x.map(|x| (x * inverse).map(code)))
        };
        for (l, out) in out.chunks_mut(block).enumerate() {
            out[..2].copy_from_slice(&half(scale.0[l]).0.to_le_bytes());
            pack(&codes, l, five, &mut out[2..]);
        }
    }
}

/// Scale and minimum: codes 0..=`most` of (x − m)/d.
#[inline(always)]
fn affine_32(rows: Rows<'_>, out: &mut [u8], five: bool) {
    let (block, most) = if five { (24, 31) } else { (20, 15) };
    for (b, out) in out.chunks_mut(block * LANES).enumerate() {
        let x = rows.load::<32>(b * LANES);
        let (scale, min, codes) = if let Some(w) = row_weights(&rows, &x, b * LANES) {
            let tries = Tries {
                most,
                from: -0.9,
                by: 0.05,
                steps: 36,
                absolute: false,
            };
            let fit = affine(&x, &w, tries);
            (fit.scale, fit.min.neg(), x.map(|x| fit.code(x, most)))
        } else {
            let (mut min, mut max) = (x[0], x[0]);
            for v in &x[1..] {
                min = v.lt(min).pick(*v, min);
                max = v.gt(max).pick(*v, max);
            }
            let scale = (max - min) / Lanes::splat(most as f32);
            let inverse = scale
                .ne(Lanes::zero())
                .pick(Lanes::splat(1.0) / scale, Lanes::zero());
            let code = |v: f32| ((v + 0.5) as i32).min(most) as f32;
            (scale, min, x.map(|x| ((x - min) * inverse).map(code)))
        };
        for (l, out) in out.chunks_mut(block).enumerate() {
            out[..2].copy_from_slice(&half(scale.0[l]).0.to_le_bytes());
            out[2..4].copy_from_slice(&half(min.0[l]).0.to_le_bytes());
            pack(&codes, l, five, &mut out[4..]);
        }
    }
}

#[inline(always)]
pub(super) fn q4_0(rows: Rows<'_>, out: &mut [u8]) {
    centred(rows, out, false);
}

#[inline(always)]
pub(super) fn q5_0(rows: Rows<'_>, out: &mut [u8]) {
    centred(rows, out, true);
}

#[inline(always)]
pub(super) fn q4_1(rows: Rows<'_>, out: &mut [u8]) {
    affine_32(rows, out, false);
}

#[inline(always)]
pub(super) fn q5_1(rows: Rows<'_>, out: &mut [u8]) {
    affine_32(rows, out, true);
}

/// Folds `f` over the steps from one table value to the next: a value takes every step whose
/// middle it reaches. (Near a middle both distances are exact, so comparing with it decides as
/// comparing the distances does.)
#[inline(always)]
fn steps(x: Lanes, start: f32, f: impl Fn(usize) -> f32) -> Lanes {
    let mut out = Lanes::splat(start);
    for k in 1..16 {
        let middle = f32::midpoint(f32::from(IQ4[k - 1]), f32::from(IQ4[k]));
        out = Lanes::splat(middle).gt(x).pick(out, Lanes::splat(f(k)));
    }
    out
}

/// Nearest table value.
#[inline(always)]
fn table_value(x: Lanes) -> Lanes {
    steps(x, f32::from(IQ4[0]), |k| f32::from(IQ4[k]))
}

/// Its index.
#[inline(always)]
fn table_index(x: Lanes) -> Lanes {
    steps(x, 0.0, |k| k as f32)
}

#[inline(always)]
fn table_moments(x: &[Lanes; 32], w: &[Lanes; 32], inverse: Lanes) -> (Lanes, Lanes) {
    let (mut qx, mut q2) = (Lanes::zero(), Lanes::zero());
    for i in 0..32 {
        let wq_of = table_value(inverse * x[i]);
        let wq = w[i] * wq_of;
        qx = qx + wq * x[i];
        q2 = q2 + wq * wq_of;
    }
    (qx, q2)
}

/// Scale per run by the largest (Σ w·x·q)² / Σ w·q² over 16 tries.
#[inline(always)]
fn table_scale(x: &[Lanes; 32], w: &[Lanes; 32]) -> Lanes {
    let zero = Lanes::zero();
    let first = f32::from(IQ4[0]);
    let (amax, max) = extreme(x);
    let one = Lanes::splat(1.0);
    let (qx, q2) = table_moments(x, w, one / (max.neg() / Lanes::splat(first)));
    let mut scale = q2.gt(zero).pick(qx / q2, zero);
    let mut best = scale * qx;
    for step in -7..=7 {
        let tried = Lanes::splat(step as f32 + first) / max;
        let (qx, q2) = table_moments(x, w, tried);
        let better = q2.gt(zero).and((qx * qx).gt(best * q2));
        let s = qx / q2;
        scale = better.pick(s, scale);
        best = better.pick(s * qx, best);
    }
    Lanes::splat(EPS).gt(amax).pick(zero, scale)
}

/// Weights of `LANES` runs in spans of `repeat` runs that share σ².
#[inline(always)]
fn table_weights(rows: &Rows<'_>, x: &[Lanes; 32], first: usize, repeat: usize) -> [Lanes; 32] {
    let Some(importance) = rows.weigh(first) else {
        return squares(x);
    };
    let span = 32 * repeat;
    let sums = rows.square_sums(first / repeat, span, repeat);
    weights(&importance, x, sums * Lanes::splat(2.0 / span as f32))
}

/// 1/v, or 0 of 0.
#[inline(always)]
fn inverse_of(v: Lanes) -> Lanes {
    v.ne(Lanes::zero())
        .pick(Lanes::splat(1.0) / v, Lanes::zero())
}

#[inline(always)]
pub(super) fn iq4_nl(rows: Rows<'_>, out: &mut [u8]) {
    for (b, out) in out.chunks_mut(18 * LANES).enumerate() {
        let x = rows.load::<32>(b * LANES);
        let scale = table_scale(&x, &table_weights(&rows, &x, b * LANES, 1));
        let inverse = inverse_of(scale);
        let codes = x.map(|x| table_index(inverse * x));
        for (l, out) in out.chunks_mut(18).enumerate() {
            out[..2].copy_from_slice(&half(scale.0[l]).0.to_le_bytes());
            pack(&codes, l, false, &mut out[2..]);
        }
    }
}

#[inline(always)]
pub(super) fn iq4_xs(rows: Rows<'_>, out: &mut [u8]) {
    const RUNS: usize = 8;
    for (b, out) in out.chunks_mut(136 * LANES / RUNS).enumerate() {
        let x = rows.load::<32>(b * LANES);
        let scale = table_scale(&x, &table_weights(&rows, &x, b * LANES, RUNS));
        let mut stored = Lanes::zero();
        for (k, out) in out.chunks_mut(136).enumerate() {
            let scales = &scale.0[k * RUNS..][..RUNS];
            let wider = |m: f32, s: &f32| if s.abs() > m.abs() { *s } else { m };
            let d = -scales.iter().fold(0.0, wider) / 32.0;
            let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
            out[..8].fill(0);
            out[..2].copy_from_slice(&half(d).0.to_le_bytes());
            for (j, s) in scales.iter().enumerate() {
                let code = nearest(inverse * s).clamp(-32, 31);
                stored.0[k * RUNS + j] = d * code as f32;
                let code = (code + 32) as u8;
                out[2 + j / 4] |= (code >> 4) << (2 * (j % 4));
                out[4 + j / 2] |= (code & 15) << (4 * (j % 2));
            }
        }
        let inverse = inverse_of(stored);
        let codes = x.map(|x| table_index(inverse * x));
        for (k, out) in out.chunks_mut(136).enumerate() {
            for j in 0..RUNS {
                pack(&codes, k * RUNS + j, false, &mut out[8 + 16 * j..][..16]);
            }
        }
    }
}
