//! f32 mode for few rows of inputs: weights are widened in registers.

use super::BLOCK;
use super::gemm::Source;
use super::panel::{BYTE, E4M3, Lanes, NIBBLE, ROWS, TABLE, bits_of, codes_per_word, shift_of};
use super::simd::{Out, Simd, load_lanes, vectors};
use super::weight::{Decode, Packed, Zeros};
use std::ops::Range;

/// One product with few rows of inputs.
#[derive(Debug)]
pub(super) struct Gemv<'a> {
    pub(super) w: Source<'a>,
    /// `[m, width]`, in the order of the weight's columns.
    pub(super) x: &'a [f32],
    /// Rows of inputs, at most 4.
    pub(super) m: usize,
    pub(super) out: Out<'a>,
}

/// The outputs of `panels` for all rows of inputs, `N` vectors at a time.
///
/// # Safety
/// As [`Simd`]; the panels exist and belong to this task alone.
#[inline(always)]
pub(super) unsafe fn gemv<S: Simd, const N: usize, const V: usize>(
    job: &Gemv<'_>,
    panels: Range<usize>,
) {
    const { assert!(V * S::LANES == ROWS && N.is_multiple_of(V)) };
    let mut panel = panels.start;
    while panel < panels.end {
        let wide = panel + N / V <= panels.end;
        // SAFETY: the panels exist.
        unsafe {
            match (wide, job.m) {
                (true, 1) => gemv_tile::<S, N, 1>(job, panel),
                (true, 2) => gemv_tile::<S, N, 2>(job, panel),
                (true, 3) => gemv_tile::<S, N, 3>(job, panel),
                (true, _) => gemv_tile::<S, N, 4>(job, panel),
                (false, 1) => gemv_tile::<S, V, 1>(job, panel),
                (false, 2) => gemv_tile::<S, V, 2>(job, panel),
                (false, 3) => gemv_tile::<S, V, 3>(job, panel),
                (false, _) => gemv_tile::<S, V, 4>(job, panel),
            }
        }
        panel += if wide { N / V } else { 1 };
    }
}

/// # Safety
/// As [`gemv`].
#[inline(always)]
unsafe fn gemv_tile<S: Simd, const N: usize, const M: usize>(job: &Gemv<'_>, panel: usize) {
    let width = job.x.len() / M;
    let mut start = 0;
    while start < width {
        let block = start..(start + BLOCK).min(width);
        start = block.end;
        // SAFETY: the block and the panel exist.
        unsafe {
            let sums = match job.w {
                Source::Dense(w) => dense_block::<S, N, M>(&w.values, job.x, panel, block),
                Source::Packed(w) => match w.kind() {
                    NIBBLE => packed_block::<S, N, M, NIBBLE>(w, job.x, panel, block),
                    TABLE => packed_block::<S, N, M, TABLE>(w, job.x, panel, block),
                    E4M3 => packed_block::<S, N, M, E4M3>(w, job.x, panel, block),
                    _ => packed_block::<S, N, M, BYTE>(w, job.x, panel, block),
                },
                Source::Rows { .. } => unreachable!("plain rows go through gemm"),
            };
            for (m, sums) in sums.iter().enumerate() {
                job.out.add::<S, N>(m, panel, sums);
            }
        }
    }
}

/// # Safety
/// As [`gemv`]; `block` is inside the columns.
#[inline(always)]
unsafe fn dense_block<S: Simd, const N: usize, const M: usize>(
    values: &Lanes,
    x: &[f32],
    panel: usize,
    block: Range<usize>,
) -> [[S::F; N]; M] {
    let cols = x.len() / M;
    // SAFETY: panel and columns exist.
    unsafe {
        let mut sums = [[S::splat(0.0); N]; M];
        for k in block {
            for i in 0..N {
                let at = (panel + i / vectors::<S>())
                    .unchecked_mul(cols)
                    .unchecked_add(k);
                let w = load_lanes::<S>(values, at, i % vectors::<S>());
                for (m, sums) in sums.iter_mut().enumerate() {
                    let x = S::splat(*x.as_ptr().add(m.unchecked_mul(cols)).add(k));
                    sums[i] = S::fma(w, x, sums[i]);
                }
            }
        }
        sums
    }
}

/// # Safety
/// As [`gemv`]; `block` is inside the padded columns and starts at a step.
#[inline(always)]
unsafe fn packed_block<S: Simd, const N: usize, const M: usize, const KIND: u8>(
    w: &Packed,
    x: &[f32],
    panel: usize,
    block: Range<usize>,
) -> [[S::F; N]; M] {
    let (per, steps) = (codes_per_word(bits_of(KIND)), w.steps());
    let mut k = block.start;
    // SAFETY: panel, groups and columns exist.
    unsafe {
        let table = table::<S>(w);
        // Pointers that move, because index arithmetic is checked for overflow.
        let mut codes = [w.codes.as_ptr().cast::<u32>(); N];
        for (i, codes) in codes.iter_mut().enumerate() {
            let first = (panel + i / vectors::<S>()) * steps + k / per;
            *codes = codes.add(first * ROWS + i % vectors::<S>() * S::LANES);
        }
        let mut inputs = [x.as_ptr(); M];
        for (m, inputs) in inputs.iter_mut().enumerate() {
            *inputs = inputs.add(m * w.width() + k);
        }
        let mut sums = [[S::splat(0.0); N]; M];
        while k < block.end {
            let g = k / w.group;
            let mut scales = [(S::splat(0.0), S::splat(0.0)); N];
            for (i, s) in scales.iter_mut().enumerate() {
                *s = scale_and_zero::<S>(w, (panel + i / vectors::<S>()) * w.groups + g, i);
            }
            let end = ((g + 1) * w.group).min(block.end);
            for _ in k / per..end / per {
                for (i, codes) in codes.iter_mut().enumerate() {
                    let (scale, zero) = scales[i];
                    let c = S::load_words(*codes);
                    *codes = codes.add(ROWS);
                    for p in 0..per {
                        let weight = S::mul(scale, S::sub(plane::<S, KIND>(c, p, table), zero));
                        for (sums, inputs) in sums.iter_mut().zip(&inputs) {
                            sums[i] = S::fma(weight, S::splat(*inputs.add(p)), sums[i]);
                        }
                    }
                }
                for inputs in &mut inputs {
                    *inputs = inputs.add(per);
                }
            }
            k = end;
        }
        sums
    }
}

/// The table that codes are looked up in; any values for codes that are none.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn table<S: Simd>(w: &Packed) -> S::Table {
    const NONE: [f32; 16] = [0.0; 16];
    // SAFETY: both hold sixteen values.
    unsafe {
        match &w.decode {
            Decode::Table(values) => S::table(values.as_ptr()),
            _ => S::table(NONE.as_ptr()),
        }
    }
}

/// What code `p` of each word stands for, as floats.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn plane<S: Simd, const KIND: u8>(
    codes: S::I,
    p: usize,
    table: S::Table,
) -> S::F {
    let shift = shift_of(bits_of(KIND), p);
    // SAFETY: register arithmetic only.
    unsafe {
        match KIND {
            NIBBLE => S::nibble(codes, shift),
            TABLE => S::look_up(table, codes, shift),
            E4M3 => S::e4m3(codes, shift),
            _ => S::byte(codes, shift),
        }
    }
}

/// Scales and zeros of group `at` (counted over panels), vector `i % V`; a minimum counts as none.
///
/// # Safety
/// As [`Simd`]; the group exists.
#[inline(always)]
pub(super) unsafe fn scale_and_zero<S: Simd>(w: &Packed, at: usize, i: usize) -> (S::F, S::F) {
    let i = i % vectors::<S>();
    // SAFETY: the group exists.
    unsafe {
        let zero = match &w.zeros {
            Zeros::Centre(z) => S::splat(*z as f32),
            Zeros::Int(z) => S::float(S::load_bytes(
                z.get_unchecked(at).as_ptr().add(i * S::LANES),
            )),
            Zeros::Float(z) => load_lanes::<S>(z, at, i),
            Zeros::Min(_) => S::splat(0.0),
        };
        (load_lanes::<S>(&w.scales, at, i), zero)
    }
}
