//! Inputs in the order of a packed matrix's columns, as floats or rounded to 8 bits per group.

use super::weight::{PADDING, Packed};
use crate::cpu::Cpu;
use std::borrow::Cow;

/// Rounding fewer inputs than this stays on one thread.
const PARALLEL_FROM: usize = 1 << 16;

/// Inputs rounded per group: `x ≈ scale · code`, codes in −127..=127.
#[derive(Debug, Clone)]
pub struct Rounded {
    /// `[m, width]`.
    pub codes: Vec<i8>,
    /// `amax / 127` of each group, `[m, groups]`.
    pub scales: Vec<f32>,
    /// Sum of each group's codes, `[m, groups]`.
    pub sums: Vec<i32>,
}

/// `x[m, cols]` in the order of `w`'s padded columns, `[m, width]`, zeros in the padding.
pub fn arrange<'a>(x: &'a [f32], w: &Packed) -> Cow<'a, [f32]> {
    let Some(columns) = &w.columns else {
        return Cow::Borrowed(x);
    };
    let mut out = Vec::with_capacity(x.len() / w.cols * columns.len());
    for row in x.chunks_exact(w.cols) {
        out.extend(
            columns
                .iter()
                .map(|&j| if j == PADDING { 0.0 } else { row[j as usize] }),
        );
    }
    Cow::Owned(out)
}

/// Rounds `x[m, cols]` per group of `w`: symmetric, ties to even; a group of zeros has scale 0.
///
/// A group with a NaN or an infinite input gets a NaN scale, so that the fault reaches the output.
pub fn round(cpu: &Cpu, x: &[f32], w: &Packed) -> Rounded {
    let x = arrange(x, w);
    let (width, groups) = (w.width(), w.groups);
    let m = x.len() / width;
    let mut codes = vec![0; x.len()];
    let mut found = vec![(0.0, 0); m * groups];
    {
        let mut rows: Vec<_> = x
            .chunks_exact(width)
            .zip(codes.chunks_exact_mut(width))
            .zip(found.chunks_exact_mut(groups))
            .collect();
        cpu.run_chunks(&mut rows, 16, x.len() >= PARALLEL_FROM, |_, rows| {
            for ((x, codes), found) in rows {
                let pairs = x.chunks_exact(w.group).zip(codes.chunks_exact_mut(w.group));
                for ((x, codes), found) in pairs.zip(found.iter_mut()) {
                    *found = round_group(x, codes);
                }
            }
        });
    }
    let (scales, sums) = found.into_iter().unzip();
    Rounded {
        codes,
        scales,
        sums,
    }
}

/// Scale and sum of one group; shaped so that its loops vectorize on any machine.
fn round_group(x: &[f32], codes: &mut [i8]) -> (f32, i32) {
    /// Adding it to a value below 2²² rounds that value to an integer, ties to even.
    const ROUND: f32 = 12_582_912.0;
    // The order of magnitudes is the order of their bits, NaN above everything.
    let largest = x
        .iter()
        .fold(0, |a, v| a.max((v.to_bits() & 0x7fff_ffff) as i32));
    let amax = f32::from_bits(largest as u32);
    let inverse = 127.0 / amax;
    if !amax.is_finite() {
        return (f32::NAN, 0);
    }
    // No inputs, or so small that the inverse overflows: the group counts as zero.
    if !inverse.is_finite() {
        codes.fill(0);
        return (0.0, 0);
    }
    let mut sum = 0i32;
    for (code, v) in codes.iter_mut().zip(x) {
        let rounded = (v * inverse + ROUND)
            .to_bits()
            .wrapping_sub(ROUND.to_bits()) as i32;
        *code = rounded as i8;
        sum = sum.wrapping_add(rounded);
    }
    (amax / 127.0, sum)
}
