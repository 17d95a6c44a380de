//! What a linear's outputs lose when its columns are scaled before rounding.
//!
//! ```text
//! loss = Σ over rows of (w − q)ᵀ·H·(w − q) + 2·E[δ²]·Σ (w·s)²       q = Q(w·s) / s
//! ```
//! The second part is there for schemes that round inputs to integers: δ is the error of one
//! rounded input, spread evenly over a step of the input's grid.

use super::Matrix;
use super::curvature::Curvature;
use super::stats::InputStats;
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::round::{RoundOptions, Weights, hqq, rtn};
use crate::scheme::{Activations, Element, Scheme, ZeroPoint};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Weights of a piece at least, so that threads have something to share.
const PIECE_WEIGHTS: usize = 1 << 18;
/// Rows of a piece are a multiple of this, as blocks of schemes are.
const PIECE_ROWS: usize = 128;
/// Rows of a matrix that are scored; more of them would not change which candidate wins.
const ROWS_SCORED: usize = 2048;

/// Rows of one consumer that are scored together.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) consumer: usize,
    pub(super) rows: Range<usize>,
    /// How many rows of the matrix each of these stands for.
    pub(super) weight: f64,
}

/// Cuts a matrix into pieces: all of it, or runs of rows spread over it.
pub(super) fn pieces(consumer: usize, rows: usize, cols: usize) -> Vec<Piece> {
    let run = PIECE_ROWS * PIECE_WEIGHTS.div_ceil(PIECE_ROWS * cols);
    let runs = rows.div_ceil(run);
    let kept = if rows > ROWS_SCORED {
        ROWS_SCORED.div_ceil(run).min(runs)
    } else {
        runs
    };
    let at = |i: usize| (i * runs / kept) * run;
    let ranges: Vec<_> = (0..kept).map(|i| at(i)..rows.min(at(i) + run)).collect();
    let scored: usize = ranges.iter().map(Range::len).sum();
    let weight = rows as f64 / scored.max(1) as f64;
    let piece = |rows| Piece {
        consumer,
        rows,
        weight,
    };
    ranges.into_iter().map(piece).collect()
}

/// Values rounded and widened again, `[rows, cols]`; `importance` is E[x²] of each column.
pub(super) fn rounded(
    cpu: &Cpu,
    (values, cols): (&[f32], usize),
    importance: &[f32],
    rounding: Rounding<'_>,
) -> Result<Vec<f32>> {
    let Rounding { scheme, options } = rounding;
    let weights = Weights {
        values,
        rows: values.len() / cols,
        cols,
        importance: Some(importance),
    };
    let matrix = match scheme.zero {
        ZeroPoint::Float => hqq::round(weights, scheme, options, cpu)?,
        ZeroPoint::None | ZeroPoint::Int => rtn::round(weights, scheme, options, cpu)?,
    };
    let mut out = vec![0.0; values.len()];
    let failed = AtomicBool::new(false);
    cpu.run_chunks(&mut out, cols * 8, true, |chunk, rows| {
        for (i, row) in rows.chunks_exact_mut(cols).enumerate() {
            if matrix.dequantize_row(chunk * 8 + i, row).is_err() {
                failed.store(true, Ordering::Relaxed);
            }
        }
    });
    if failed.into_inner() {
        let what = format!("{scheme} cannot be widened again");
        return Err(Error::new(Code::Unsupported, what));
    }
    Ok(out)
}

/// How one consumer will be rounded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rounding<'a> {
    pub(super) scheme: &'a Scheme,
    pub(super) options: &'a RoundOptions,
}

/// What is known of the inputs that a consumer reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) curvature: &'a Curvature,
    /// E[x²] of each channel.
    pub(super) importance: &'a [f32],
    /// E[δ²] of inputs divided by the scales.
    pub(super) input_error: f64,
}

/// The loss of some rows of a consumer under scales.
pub(super) fn loss(
    cpu: &Cpu,
    known: Known<'_>,
    (w, cols): (&[f32], usize),
    s: &[f32],
    rounding: Rounding<'_>,
) -> Result<f64> {
    let Known {
        curvature,
        importance,
        input_error,
    } = known;
    let scaled: Vec<f32> = w.chunks_exact(cols).flat_map(|row| times(row, s)).collect();
    let importance: Vec<f32> = importance.iter().zip(s).map(|(v, s)| v / s / s).collect();
    let mut d = rounded(cpu, (&scaled, cols), &importance, rounding)?;
    for (d, w) in d.chunks_exact_mut(cols).zip(w.chunks_exact(cols)) {
        for ((d, w), s) in d.iter_mut().zip(w).zip(s) {
            *d = *d / s - w;
        }
    }
    let mut loss: f64 = curvature.rows(cpu, &d).into_iter().sum();
    if input_error > 0.0 {
        let squares = scaled.chunks(cols).map(|row| {
            let row = row.iter().map(|w| f64::from(*w) * f64::from(*w));
            row.sum::<f64>()
        });
        loss += 2.0 * input_error * squares.sum::<f64>();
    }
    Ok(loss)
}

fn times<'a>(row: &'a [f32], s: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
    row.iter().zip(s).map(|(w, s)| w * s)
}

/// Σ over rows of wᵀ·H·w: what errors are measured against.
pub(super) fn energy(cpu: &Cpu, curvature: &Curvature, w: &[f32]) -> f64 {
    curvature.rows(cpu, w).into_iter().sum()
}

/// E[δ²] of inputs divided by `s` and rounded as `scheme` says; 0 when they are left alone.
///
/// Floats are 0 too: their errors follow each input's own size, which scales do not change.
pub(super) fn input_error(stats: &InputStats, s: &[f32], scheme: &Scheme) -> f64 {
    let Some(Activations { bits, dynamic }) = scheme.activations else {
        return 0.0;
    };
    if scheme.element != Element::Int {
        return 0.0;
    }
    let caps: Vec<f64> = stats.absmax().iter().zip(s).map(ratio).collect();
    let largest = if dynamic {
        let deviation = |(v, s): (&f32, &f32)| f64::from(*v).sqrt() / f64::from(*s);
        let deviations: Vec<f64> = stats.importance().iter().zip(s).map(deviation).collect();
        largest_square(&deviations, &caps)
    } else {
        caps.iter().fold(0.0f64, |m, c| m.max(*c)).powi(2)
    };
    let steps = f64::from((1u32 << (bits - 1)) - 1);
    largest / (steps * steps) / 12.0
}

fn ratio((x, s): (&f32, &f32)) -> f64 {
    f64::from(*x) / f64::from(*s)
}

/// Points of the integral below.
const POINTS: usize = 64;

/// `E[max x_j²]` over the channels of a token, from what is known of each: its mean square and its
/// largest value. Channels count as independent and normal up to that value:
/// `∫ 2t·(1 − Π_j P(|x_j| ≤ t)) dt` by the midpoint rule.
fn largest_square(deviations: &[f64], caps: &[f64]) -> f64 {
    let top = caps.iter().fold(0.0f64, |m, c| m.max(*c));
    let width = top / POINTS as f64;
    let point = |i: usize| {
        let t = (i as f64 + 0.5) * width;
        let below: f64 = deviations
            .iter()
            .zip(caps)
            .filter(|(_, cap)| t < **cap)
            .map(|(d, _)| libm::erf(t / (d * std::f64::consts::SQRT_2)))
            .product();
        2.0 * t * (1.0 - below) * width
    };
    (0..POINTS).map(point).sum()
}

/// The rows of a piece.
pub(super) fn rows<'a>(matrix: &'a Matrix, piece: &Piece) -> &'a [f32] {
    &matrix.values[piece.rows.start * matrix.cols..piece.rows.end * matrix.cols]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::random::Pcg32;

    #[test]
    fn pieces_cover_small_matrices_and_sample_large_ones() {
        let all = pieces(0, 1000, 256);
        assert_eq!(all.iter().map(|p| p.rows.len()).sum::<usize>(), 1000);
        assert!(all.iter().all(|p| p.weight == 1.0));
        let some = pieces(0, 11_008, 4096);
        let scored: usize = some.iter().map(|p| p.rows.len()).sum();
        assert_eq!(scored, ROWS_SCORED);
        assert!(some.windows(2).all(|p| p[0].rows.end <= p[1].rows.start));
        assert!(some.iter().all(|p| p.rows.end <= 11_008));
        assert!((some[0].weight * scored as f64 - 11_008.0).abs() < 1e-6);
    }

    #[test]
    fn the_largest_input_is_guessed_from_moments_and_ranges() {
        // Sums of twelve uniforms are nearly normal, with deviation 1.
        let mut random = Pcg32::new(3, 4);
        let mut normal = || (0..12).map(|_| random.next_f64()).sum::<f64>() - 6.0;
        let scale = |j: usize| if j == 7 { 20.0 } else { 1.0 + j as f64 / 32.0 };
        let (n, tokens) = (64, 4000);
        let (mut squares, mut caps, mut largest) = (vec![0.0f64; n], vec![0.0f64; n], 0.0);
        for _ in 0..tokens {
            let x: Vec<f64> = (0..n).map(|j| scale(j) * normal()).collect();
            for j in 0..n {
                squares[j] += x[j] * x[j] / tokens as f64;
                caps[j] = caps[j].max(x[j].abs());
            }
            largest += x.iter().fold(0.0f64, |m, x| m.max(x * x)) / tokens as f64;
        }
        let deviations: Vec<f64> = squares.iter().map(|v| v.sqrt()).collect();
        let guess = largest_square(&deviations, &caps);
        assert!((guess / largest - 1.0).abs() < 0.05, "{guess} {largest}");
    }
}
