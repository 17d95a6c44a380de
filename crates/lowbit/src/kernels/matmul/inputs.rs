//! Inputs in the order of a packed matrix's columns, as floats or rounded to 8 bits per group.

use super::weight::{PADDING, Packed};
use std::borrow::Cow;

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
pub fn round(x: &[f32], w: &Packed) -> Rounded {
    let x = arrange(x, w);
    let count = x.len() / w.group;
    let mut rounded = Rounded {
        codes: vec![0; x.len()],
        scales: vec![0.0; count],
        sums: vec![0; count],
    };
    let groups = x
        .chunks_exact(w.group)
        .zip(rounded.codes.chunks_exact_mut(w.group));
    let found = rounded.scales.iter_mut().zip(&mut rounded.sums);
    for ((x, codes), (scale, sum)) in groups.zip(found) {
        (*scale, *sum) = round_group(x, codes);
    }
    rounded
}

fn round_group(x: &[f32], codes: &mut [i8]) -> (f32, i32) {
    let mut amax = 0.0f32;
    let mut poison = 0.0f32;
    for v in x {
        amax = amax.max(v.abs());
        poison += v * 0.0;
    }
    let inverse = 127.0 / amax;
    // The largest input is so small that its inverse overflows: the group counts as zero.
    if amax == 0.0 || !inverse.is_finite() || poison != 0.0 {
        return (poison, 0);
    }
    let mut sum = 0;
    for (c, v) in codes.iter_mut().zip(x) {
        *c = (v * inverse).round_ties_even() as i8;
        sum += i32::from(*c);
    }
    (amax / 127.0, sum)
}
