//! int8 mode over any vector machine: integer dot products per group, combined in f32 in order.

use super::inputs::Rounded;
use super::panel::{ROWS, codes_per_word};
use super::simd::{Out, Simd, load_lanes, vectors};
use super::weight::{Packed, Zeros};
use std::ops::Range;

/// One product in int8 mode; `out` is all zero before.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) w: &'a Packed,
    pub(super) x: &'a Rounded,
    /// Rows of inputs.
    pub(super) m: usize,
    pub(super) out: Out<'a>,
}

/// The outputs of `panels` for every row of inputs, `N` vectors × up to `M` rows at once.
///
/// `V` is the number of vectors of a panel.
///
/// # Safety
/// As [`Simd`]; the panels exist and belong to this task alone.
#[inline(always)]
pub(super) unsafe fn run<S: Simd, const N: usize, const V: usize, const M: usize>(
    job: &Job<'_>,
    panels: Range<usize>,
) {
    const { assert!(V * S::LANES == ROWS && N.is_multiple_of(V) && M <= 4) };
    let mut panel = panels.start;
    while panel < panels.end {
        let wide = panel + N / V <= panels.end;
        let mut m = 0;
        while m < job.m {
            let rows = (job.m - m).min(M);
            // SAFETY: panel and rows are in range.
            unsafe {
                match (wide, job.w.bits) {
                    (true, 4) => rows_of::<S, N, 4>(job, panel, m, rows),
                    (true, _) => rows_of::<S, N, 8>(job, panel, m, rows),
                    (false, 4) => rows_of::<S, V, 4>(job, panel, m, rows),
                    (false, _) => rows_of::<S, V, 8>(job, panel, m, rows),
                }
            }
            m += rows;
        }
        panel += if wide { N / V } else { 1 };
    }
}

/// # Safety
/// As [`run`]; `rows` is 1 to 4.
#[inline(always)]
unsafe fn rows_of<S: Simd, const N: usize, const BITS: u8>(
    job: &Job<'_>,
    panel: usize,
    m: usize,
    rows: usize,
) {
    // SAFETY: the rows exist.
    unsafe {
        match rows {
            1 => tile::<S, N, 1, BITS>(job, panel, m),
            2 => tile::<S, N, 2, BITS>(job, panel, m),
            3 => tile::<S, N, 3, BITS>(job, panel, m),
            _ => tile::<S, N, 4, BITS>(job, panel, m),
        }
    }
}

/// `N` vectors of outputs for `M` rows of inputs.
///
/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn tile<S: Simd, const N: usize, const M: usize, const BITS: u8>(
    job: &Job<'_>,
    panel: usize,
    m: usize,
) {
    let (w, width) = (job.w, job.w.width());
    let (steps, per) = (w.steps(), codes_per_word(BITS));
    let group_steps = w.group / per;
    // SAFETY: panels, steps and rows are inside the arrays that `Packed` and `Rounded` describe.
    unsafe {
        // Pointers that move, because index arithmetic is checked for overflow.
        let mut codes = [w.codes.as_ptr().cast::<u32>(); N];
        for (i, codes) in codes.iter_mut().enumerate() {
            let at = (panel + i / vectors::<S>()) * steps * ROWS + i % vectors::<S>() * S::LANES;
            *codes = codes.add(at);
        }
        let mut x = [job.x.codes.as_ptr(); M];
        for (j, x) in x.iter_mut().enumerate() {
            *x = x.add((m + j) * width);
        }
        let mut total = [[S::splat(0.0); N]; M];
        for g in 0..w.groups {
            let mut dots = start::<S, N, M, BITS>(job, panel, m, g);
            for _ in 0..group_steps {
                let mut low = [S::quad(x[0]); M];
                let mut high = low;
                for (j, x) in x.iter_mut().enumerate() {
                    low[j] = S::quad(*x);
                    if BITS == 4 {
                        high[j] = S::quad(x.add(4));
                    }
                    *x = x.add(per);
                }
                for (i, codes) in codes.iter_mut().enumerate() {
                    let c = S::load_words(*codes);
                    *codes = codes.add(ROWS);
                    for (j, dots) in dots.iter_mut().enumerate() {
                        dots[i] = if BITS == 4 {
                            S::dot4(dots[i], c, low[j], high[j])
                        } else {
                            S::dot8(dots[i], c, low[j])
                        };
                    }
                }
            }
            combine::<S, N, M>(job, panel, m, g, &dots, &mut total);
        }
        for (j, total) in total.iter().enumerate() {
            job.out.add::<S, N>(m + j, panel, total);
        }
    }
}

/// `−z · Σ codes of the group`: what makes unsigned codes give signed products.
///
/// # Safety
/// As [`run`]; group `g` exists.
#[inline(always)]
unsafe fn start<S: Simd, const N: usize, const M: usize, const BITS: u8>(
    job: &Job<'_>,
    panel: usize,
    m: usize,
    g: usize,
) -> [[S::I; N]; M] {
    let w = job.w;
    let bias = if BITS == 8 { S::BIAS8 } else { 0 };
    // SAFETY: the group and the rows exist.
    unsafe {
        let mut dots = [[S::splat_i(0); N]; M];
        for (j, dots) in dots.iter_mut().enumerate() {
            let sum = *job.x.sums.get_unchecked((m + j) * w.groups + g);
            match &w.zeros {
                Zeros::Centre(z) => {
                    *dots = [S::splat_i(sum.wrapping_mul(bias.wrapping_sub(*z))); N];
                }
                Zeros::Int(z) => {
                    for (i, dot) in dots.iter_mut().enumerate() {
                        let at = (panel + i / vectors::<S>()) * w.groups + g;
                        let zero = z
                            .get_unchecked(at)
                            .as_ptr()
                            .add(i % vectors::<S>() * S::LANES);
                        *dot = S::mul_i(S::load_bytes(zero), S::splat_i(sum.wrapping_neg()));
                        if bias != 0 {
                            *dot = S::add_i(*dot, S::splat_i(sum.wrapping_mul(bias)));
                        }
                    }
                }
                // Minima are taken away from the sums of floats.
                Zeros::Min(_) => *dots = [S::splat_i(sum.wrapping_mul(bias)); N],
                Zeros::Float(_) => unreachable!("packed for f32"),
            }
        }
        dots
    }
}

/// `total += (s_w · s_x) · dots`, then `total −= min · (s_x · Σ codes)` where there are minima: each
/// product and each sum rounded, the same everywhere.
///
/// # Safety
/// As [`run`]; group `g` exists.
#[inline(always)]
unsafe fn combine<S: Simd, const N: usize, const M: usize>(
    job: &Job<'_>,
    panel: usize,
    m: usize,
    g: usize,
    dots: &[[S::I; N]; M],
    total: &mut [[S::F; N]; M],
) {
    let groups = job.w.groups;
    // SAFETY: the group and the rows exist.
    unsafe {
        let (mut x_scale, mut x_sum) = ([S::splat(0.0); M], [S::splat(0.0); M]);
        for j in 0..M {
            let scale = *job.x.scales.get_unchecked((m + j) * groups + g);
            let sum = *job.x.sums.get_unchecked((m + j) * groups + g);
            x_scale[j] = S::splat(scale);
            x_sum[j] = S::splat(scale * sum as f32);
        }
        for i in 0..N {
            let at = (panel + i / vectors::<S>()) * groups + g;
            let scale = load_lanes::<S>(&job.w.scales, at, i % vectors::<S>());
            for j in 0..M {
                let product = S::mul(S::mul(scale, x_scale[j]), S::float(dots[j][i]));
                total[j][i] = S::add(total[j][i], product);
            }
            if let Zeros::Min(min) = &job.w.zeros {
                let min = load_lanes::<S>(min, at, i % vectors::<S>());
                for j in 0..M {
                    total[j][i] = S::sub(total[j][i], S::mul(min, x_sum[j]));
                }
            }
        }
    }
}
