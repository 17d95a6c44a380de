//! The searches for scales, sixteen blocks at once, in the order of ggml's arithmetic.
//!
//! Source: ggml's reference encoders as published by their results; each search is described by its
//! objective. Sums are sequential f32, products left to right, roundings by `nearest`.

use super::lanes::{Lanes, extreme};

/// Blocks whose largest magnitude is below this count as zeros.
pub(super) const EPS: f32 = 1e-15;

/// Which scales an affine search tries.
#[derive(Clone, Copy)]
pub(super) struct Tries {
    /// Largest code.
    pub(super) most: i32,
    /// The k-th scale is the range divided by `most + from + by · k`.
    pub(super) from: f32,
    pub(super) by: f32,
    pub(super) steps: u32,
    /// Absolute instead of squared errors.
    pub(super) absolute: bool,
}

/// Outcome of an affine search: x ≈ scale · q − min.
pub(super) struct Affine {
    pub(super) scale: Lanes,
    pub(super) min: Lanes,
    /// The codes that the search ended with are `nearest(inverse · (x − base))`.
    inverse: Lanes,
    base: Lanes,
}

impl Affine {
    /// Code of value `i` as the search left it.
    #[inline(always)]
    pub(super) fn code(&self, x: Lanes, most: i32) -> Lanes {
        (self.inverse * (x - self.base)).code(0, most)
    }
}

#[inline(always)]
fn penalty(diff: Lanes, absolute: bool) -> Lanes {
    if absolute { diff.abs() } else { diff * diff }
}

/// Σ w · |s·q + m − x|^(1 or 2).
#[inline(always)]
fn affine_error<const N: usize>(
    (x, w): (&[Lanes; N], &[Lanes; N]),
    codes: &[Lanes; N],
    (scale, min): (Lanes, Lanes),
    absolute: bool,
) -> Lanes {
    let mut error = Lanes::zero();
    for i in 0..N {
        let diff = scale * codes[i] + min - x[i];
        error = error + w[i] * penalty(diff, absolute);
    }
    error
}

/// Least weighted error over scale and minimum ≤ 0; for each scale that is tried, codes are fixed
/// and both follow by weighted least squares.
#[inline(always)]
pub(super) fn affine<const N: usize>(x: &[Lanes; N], w: &[Lanes; N], tries: Tries) -> Affine {
    let zero = Lanes::zero();
    let (mut min, mut max, mut sum_w, mut sum_x) = (x[0], x[0], w[0], w[0] * x[0]);
    for i in 1..N {
        min = x[i].lt(min).pick(x[i], min);
        max = x[i].gt(max).pick(x[i], max);
        sum_w = sum_w + w[i];
        sum_x = sum_x + w[i] * x[i];
    }
    min = min.gt(zero).pick(zero, min);
    let usable = max.ne(min);
    let flat_min = min;
    let most = tries.most as f32;
    let mut codes = [zero; N];
    let mut inverse = Lanes::splat(most) / (max - min);
    let mut scale = Lanes::splat(1.0) / inverse;
    let mut base = min;
    for i in 0..N {
        codes[i] = (inverse * (x[i] - min)).code(0, tries.most);
    }
    let mut least = affine_error((x, w), &codes, (scale, min), tries.absolute);
    for step in 0..=tries.steps {
        let tried = Lanes::splat(tries.from + tries.by * step as f32 + most) / (max - min);
        let (mut sum_l, mut sum_l2, mut sum_xl) = (zero, zero, zero);
        for i in 0..N {
            let l = (tried * (x[i] - min)).code(0, tries.most);
            codes[i] = l;
            let wl = w[i] * l;
            sum_l = sum_l + wl;
            sum_l2 = sum_l2 + wl * l;
            sum_xl = sum_xl + wl * x[i];
        }
        let det = sum_w * sum_l2 - sum_l * sum_l;
        let mut s = (sum_w * sum_xl - sum_x * sum_l) / det;
        let mut m = (sum_l2 * sum_x - sum_l * sum_xl) / det;
        let above = m.gt(zero);
        m = above.pick(zero, m);
        s = above.pick(sum_xl / sum_l2, s);
        let error = affine_error((x, w), &codes, (s, m), tries.absolute);
        let better = det.gt(zero).and(error.lt(least));
        least = better.pick(error, least);
        scale = better.pick(s, scale);
        inverse = better.pick(tried, inverse);
        base = better.pick(min, base);
        min = better.pick(m, min);
    }
    Affine {
        scale: usable.pick(scale, zero),
        min: usable.pick(min, flat_min).neg(),
        inverse: usable.pick(inverse, zero),
        base: usable.pick(base, zero),
    }
}

/// Outcome of a symmetric search: x ≈ scale · (q − most).
pub(super) struct Symmetric {
    pub(super) scale: Lanes,
    inverse: Lanes,
    /// 1 where the block is not all zeros.
    live: Lanes,
}

impl Symmetric {
    /// Code of a value as the search left it, from 0.
    #[inline(always)]
    pub(super) fn code(&self, x: Lanes, most: i32) -> Lanes {
        let code = (self.inverse * x).code(-most, most - 1) + Lanes::splat(most as f32);
        self.live.gt(Lanes::zero()).pick(code, Lanes::zero())
    }
}

/// Σ w·x·q and Σ w·q² for codes of a given inverse scale.
#[inline(always)]
fn moments<const N: usize>(
    x: &[Lanes; N],
    w: &[Lanes; N],
    inverse: Lanes,
    most: i32,
) -> (Lanes, Lanes) {
    let (mut lx, mut l2) = (Lanes::zero(), Lanes::zero());
    for i in 0..N {
        let l = (inverse * x[i]).code(-most, most - 1);
        lx = lx + w[i] * x[i] * l;
        l2 = l2 + w[i] * l * l;
    }
    (lx, l2)
}

/// Largest (Σ w·x·q)² / Σ w·q² over 19 scales around the one that maps the largest magnitude to
/// −`most`; `most` codes lie below zero and `most` − 1 above.
#[inline(always)]
pub(super) fn symmetric<const N: usize>(x: &[Lanes; N], w: &[Lanes; N], most: i32) -> Symmetric {
    let zero = Lanes::zero();
    let (amax, max) = extreme(x);
    let live = Lanes::splat(EPS).gt(amax).pick(zero, Lanes::splat(1.0));
    let top = most as f32;
    let mut inverse = Lanes::splat(-top) / max;
    let (lx, l2) = moments(x, w, inverse, most);
    let mut scale = l2.ne(zero).pick(lx / l2, zero);
    let mut best = scale * lx;
    for step in -9..=9 {
        if step == 0 {
            continue;
        }
        let tried = Lanes::splat(-(top + 0.1 * step as f32)) / max;
        let (lx, l2) = moments(x, w, tried, most);
        let better = l2.gt(zero).and((lx * lx).gt(best * l2));
        let s = lx / l2;
        scale = better.pick(s, scale);
        best = better.pick(s * lx, best);
        inverse = better.pick(tried, inverse);
    }
    let some = live.gt(zero);
    Symmetric {
        scale: some.pick(scale, zero),
        inverse: some.pick(inverse, zero),
        live,
    }
}

/// Coordinate descent from the scale that maps the largest magnitude to −`most`, weights x²: gives
/// scales and codes from 0.
#[inline(always)]
pub(super) fn descend<const N: usize>(x: &[Lanes; N], most: i32) -> (Lanes, [Lanes; N]) {
    let zero = Lanes::zero();
    let (amax, max) = extreme(x);
    let dead = Lanes::splat(EPS).gt(amax);
    let inverse = Lanes::splat(-(most as f32)) / max;
    let mut codes = [zero; N];
    let (mut lx, mut l2) = (zero, zero);
    for i in 0..N {
        let l = (inverse * x[i]).code(-most, most - 1);
        let w = x[i] * x[i];
        codes[i] = l;
        lx = lx + w * x[i] * l;
        l2 = l2 + w * l * l;
    }
    for _ in 0..5 {
        let mut changed = false;
        for i in 0..N {
            let (w, l) = (x[i] * x[i], codes[i]);
            let (ox, o2) = (lx - w * x[i] * l, l2 - w * l * l);
            let new = (x[i] * o2 / ox).code(-most, most - 1);
            let (nx, n2) = (ox + w * x[i] * new, o2 + w * new * new);
            let better = ox.gt(zero).and(new.ne(l)).and(n2.gt(zero));
            let better = better.and((nx * nx * l2).gt(lx * lx * n2));
            codes[i] = better.pick(new, l);
            lx = better.pick(nx, lx);
            l2 = better.pick(n2, l2);
            changed |= better.any();
        }
        if !changed {
            break;
        }
    }
    let scale = l2.gt(zero).pick(lx / l2, zero);
    for code in &mut codes {
        *code = dead.pick(zero, *code + Lanes::splat(most as f32));
    }
    (dead.pick(zero, scale), codes)
}
