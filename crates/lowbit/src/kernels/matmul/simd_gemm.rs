//! f32 mode for many rows of inputs: two panels and one block of columns are widened at a time
//! into a tile that stays in the first-level cache.

use super::BLOCK;
use super::gemm::{Gemm, Source};
use super::panel::{BYTE, E4M3, Lanes, NIBBLE, ROWS, Singles, TABLE, bits_of, codes_per_word};
use super::simd::{Simd, load_lanes, vectors};
use super::simd_gemv::{plane, scale_and_zero, table};
use super::weight::{Packed, Zeros};
use std::ops::Range;

/// Inputs that are read again for each panel rather than block by block.
const CACHED: usize = 1 << 17;

/// Widened weights, `[column][panel]`.
type Tile<const P: usize> = [[Singles; P]; BLOCK];

/// The outputs of `panels` for all rows of inputs, `P` panels × up to `M3` rows at a time.
///
/// `N` is the number of vectors of `P` panels; `M1`, `M2`, `M3` are one, two and three times the
/// rows that inputs are padded to.
///
/// # Safety
/// As [`Simd`]; the panels exist and belong to this task alone, and so does the next one when
/// their number is odd and `P` is 2, unless the output has no such columns.
#[inline(always)]
pub(super) unsafe fn gemm<
    S: Simd,
    const N: usize,
    const P: usize,
    const M1: usize,
    const M2: usize,
    const M3: usize,
>(
    job: &Gemm<'_>,
    panels: Range<usize>,
) {
    const { assert!(N * S::LANES == P * ROWS && P <= 2 && M2 == 2 * M1 && M3 == 3 * M1) };
    let mut tile = [[Singles::default(); P]; BLOCK];
    // Inputs that fit the second-level cache are read again for each panel, so that weights are
    // read as they lie; of larger ones, one block is kept for all panels of the task.
    let together = if job.m * job.width <= CACHED {
        P
    } else {
        panels.len()
    };
    for first in panels.clone().step_by(together) {
        let some = first..(first + together).min(panels.end);
        let mut start = 0;
        while start < job.width {
            let block = start..(start + BLOCK).min(job.width);
            start = block.end;
            for panel in some.clone().step_by(P) {
                for p in 0..P {
                    let source = (panel + p).min(panels.end - 1);
                    // SAFETY: the source panel and the block exist.
                    unsafe { widen::<S, P>(&job.w, source, p, &block, &mut tile) };
                }
                if panel + P < some.end {
                    prefetch::<S>(&job.w, panel + P..(panel + 2 * P).min(some.end), &block);
                }
                // SAFETY: the tile is filled.
                unsafe { rows::<S, N, P, M1, M2, M3>(job, panel, &block, &tile) };
            }
        }
    }
}

/// All rows of inputs with one tile of weights.
///
/// # Safety
/// As [`gemm`].
#[inline(always)]
unsafe fn rows<
    S: Simd,
    const N: usize,
    const P: usize,
    const M1: usize,
    const M2: usize,
    const M3: usize,
>(
    job: &Gemm<'_>,
    panel: usize,
    block: &Range<usize>,
    tile: &Tile<P>,
) {
    let mut row = job.first_row(panel) / M3 * M3;
    while row < job.m {
        // SAFETY: inputs are packed in steps of M3 rows.
        unsafe {
            match (job.m - row).div_ceil(M1) {
                1 => micro::<S, N, P, M1>(job, panel, row, block, tile),
                2 => micro::<S, N, P, M2>(job, panel, row, block, tile),
                _ => micro::<S, N, P, M3>(job, panel, row, block, tile),
            }
        }
        row += M3;
    }
}

/// `M` rows of inputs × `N` vectors of outputs over one block of columns.
///
/// # Safety
/// As [`gemm`].
#[inline(always)]
unsafe fn micro<S: Simd, const N: usize, const P: usize, const M: usize>(
    job: &Gemm<'_>,
    panel: usize,
    row: usize,
    block: &Range<usize>,
    tile: &Tile<P>,
) {
    for row in row..(row + M).min(job.m) {
        job.out.prefetch::<S, N>(row, panel);
    }
    // SAFETY: packed inputs hold `M` values for each column from `row · width` on.
    unsafe {
        let mut x = job.x.as_ptr().add(row * job.width + block.start * M);
        let mut w = tile.as_ptr().cast::<f32>();
        let mut sums = [[S::splat(0.0); N]; M];
        for _ in block.clone() {
            let mut weights = [S::splat(0.0); N];
            for (i, weight) in weights.iter_mut().enumerate() {
                *weight = S::load(w.add(i * S::LANES));
            }
            for (m, sums) in sums.iter_mut().enumerate() {
                let x = S::splat(*x.add(m));
                for i in 0..N {
                    sums[i] = S::fma(weights[i], x, sums[i]);
                }
            }
            x = x.add(M);
            w = w.add(P * ROWS);
        }
        for (m, sums) in sums.iter().enumerate() {
            if row + m < job.m {
                job.out.add::<S, N>(row + m, panel, sums);
            }
        }
    }
}

/// Asks for the weights of the next tile while this one is worked on.
#[inline(always)]
fn prefetch<S: Simd>(w: &Source<'_>, panels: Range<usize>, block: &Range<usize>) {
    for panel in panels {
        match w {
            Source::Dense(w) => {
                let first = panel * w.cols + block.start;
                w.values.prefetch(first, block.len(), S::prefetch);
            }
            Source::Packed(w) => {
                let per = codes_per_word(w.bits);
                let first = panel * w.steps() + block.start / per;
                for words in w.codes.iter().skip(first).take(block.len() / per) {
                    S::prefetch(words.0.as_ptr().cast());
                }
            }
            Source::Rows { .. } => {}
        }
    }
}

/// Fills place `p` of the tile with `panel`.
///
/// # Safety
/// As [`Simd`]; panel and block exist.
#[inline(always)]
unsafe fn widen<S: Simd, const P: usize>(
    w: &Source<'_>,
    panel: usize,
    p: usize,
    block: &Range<usize>,
    tile: &mut Tile<P>,
) {
    match w {
        Source::Dense(w) => {
            let first = panel * w.cols + block.start;
            // SAFETY: panel and columns exist.
            unsafe {
                match &w.values {
                    Lanes::F32(v) => spread::<S, P, 0>(v[first..].as_ptr().cast(), p, block, tile),
                    Lanes::F16(v) => spread::<S, P, 1>(v[first..].as_ptr().cast(), p, block, tile),
                    Lanes::Bf16(v) => spread::<S, P, 2>(v[first..].as_ptr().cast(), p, block, tile),
                }
            }
        }
        // SAFETY: as this function.
        Source::Packed(w) => unsafe {
            match w.kind() {
                NIBBLE => widen_codes::<S, P, NIBBLE>(w, panel, p, block, tile),
                TABLE => widen_codes::<S, P, TABLE>(w, panel, p, block, tile),
                E4M3 => widen_codes::<S, P, E4M3>(w, panel, p, block, tile),
                _ => widen_codes::<S, P, BYTE>(w, panel, p, block, tile),
            }
        },
        Source::Rows { values, n } => {
            let columns = panel * ROWS..(panel * ROWS + ROWS).min(*n);
            for (k, tile) in block.clone().zip(tile) {
                let row = &values[k * n..][columns.clone()];
                tile[p].0[..row.len()].copy_from_slice(row);
                tile[p].0[row.len()..].fill(0.0);
            }
        }
    }
}

/// Widens stored floats: f32, f16 or bf16 for a `KIND` of 0, 1 or 2.
///
/// # Safety
/// As [`widen`]; `from` is the first of the block's vectors.
#[inline(always)]
unsafe fn spread<S: Simd, const P: usize, const KIND: u8>(
    mut from: *const u8,
    p: usize,
    block: &Range<usize>,
    tile: &mut Tile<P>,
) {
    let bytes = if KIND == 0 { 4 } else { 2 };
    for tile in &mut tile[..block.len()] {
        for i in 0..vectors::<S>() {
            // SAFETY: the block's vectors exist.
            unsafe {
                let at = from.add(i * S::LANES * bytes);
                let values = match KIND {
                    0 => S::load(at.cast()),
                    1 => S::load_f16(at.cast()),
                    _ => S::load_bf16(at.cast()),
                };
                S::store(tile[p].0.as_mut_ptr().add(i * S::LANES), values);
            }
        }
        // SAFETY: at most one beyond the last vector.
        from = unsafe { from.add(ROWS * bytes) };
    }
}

/// # Safety
/// As [`widen`]; the block starts at a step.
#[inline(always)]
unsafe fn widen_codes<S: Simd, const P: usize, const KIND: u8>(
    w: &Packed,
    panel: usize,
    p: usize,
    block: &Range<usize>,
    tile: &mut Tile<P>,
) {
    let per = codes_per_word(bits_of(KIND));
    // SAFETY: as this function.
    let table = unsafe { table::<S>(w) };
    let steps = block.start / per..block.end / per;
    for i in 0..vectors::<S>() {
        // SAFETY: panel, steps and groups exist; the tile holds a whole block.
        unsafe {
            let first = (panel * w.steps() + steps.start) * ROWS + i * S::LANES;
            let mut codes = w.codes.as_ptr().cast::<u32>().add(first);
            let mut to = tile.as_mut_ptr().cast::<f32>().add(p * ROWS + i * S::LANES);
            let mut k = block.start;
            while k < block.end {
                let at = panel * w.groups + k / w.group;
                let end = ((k / w.group + 1) * w.group).min(block.end);
                let (scale, zero) = scale_and_zero::<S>(w, at, i);
                let minimum = match &w.zeros {
                    Zeros::Min(min) => load_lanes::<S>(min, at, i),
                    _ => S::splat(0.0),
                };
                for _ in k / per..end / per {
                    let c = S::load_words(codes);
                    codes = codes.add(ROWS);
                    for j in 0..per {
                        let value = S::mul(scale, S::sub(plane::<S, KIND>(c, j, table), zero));
                        S::store(to, S::sub(value, minimum));
                        to = to.add(P * ROWS);
                    }
                }
                k = end;
            }
        }
    }
}
