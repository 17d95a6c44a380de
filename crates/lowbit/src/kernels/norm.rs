//! What the norms share: how rows are spread over threads, and sums over a row.

use super::simd::multiply_add;
use crate::cpu::Cpu;

/// Values above which work is spread over threads.
const PARALLEL_FROM: usize = 1 << 16;

/// Values that are summed in f32 before their sum goes on in f64.
const RUN: usize = 512;
const SUMS: usize = 16;

/// Gives `body` some whole rows of `width` values at a time.
pub(super) fn each_rows(
    cpu: &Cpu,
    x: &mut [f32],
    width: usize,
    body: impl Fn(&mut [f32]) + Send + Sync,
) {
    assert!(
        x.len().is_multiple_of(width),
        "whole rows of {width} values"
    );
    let rows = (PARALLEL_FROM / 4).div_ceil(width);
    let parallel = x.len() >= PARALLEL_FROM;
    cpu.run_chunks(x, rows * width, parallel, |_, rows| body(rows));
}

/// The sum of a row, or of the squares of its distances from `mean`.
#[inline(always)]
pub(super) fn sum<const FUSED: bool, const SQUARES: bool>(row: &[f32], mean: f32) -> f64 {
    let mut sum = 0.0f64;
    for run in row.chunks(RUN) {
        sum += f64::from(run_sum::<FUSED, SQUARES>(run, mean));
    }
    sum
}

/// Sixteen running sums, added up at the end.
#[inline(always)]
fn run_sum<const FUSED: bool, const SQUARES: bool>(run: &[f32], mean: f32) -> f32 {
    let mut sums = [0.0f32; SUMS];
    let (whole, rest) = run.as_chunks::<SUMS>();
    for chunk in whole {
        for (s, v) in sums.iter_mut().zip(chunk) {
            *s = add::<FUSED, SQUARES>(*s, *v, mean);
        }
    }
    for (s, v) in sums.iter_mut().zip(rest) {
        *s = add::<FUSED, SQUARES>(*s, *v, mean);
    }
    let mut width = SUMS / 2;
    while width > 0 {
        for i in 0..width {
            sums[i] += sums[i + width];
        }
        width /= 2;
    }
    sums[0]
}

#[inline(always)]
fn add<const FUSED: bool, const SQUARES: bool>(sum: f32, v: f32, mean: f32) -> f32 {
    if SQUARES {
        multiply_add::<FUSED>(v - mean, v - mean, sum)
    } else {
        sum + v
    }
}
