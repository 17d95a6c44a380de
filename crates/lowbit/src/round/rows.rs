//! Runs a rounder over the rows of a matrix: whole rows per task, codes packed as they come.

use super::Weights;
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::linalg::simd::{Task, dispatch};
use crate::matrix::Codes;
use crate::pack;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Weights of one task: enough to make its start cheap, few enough to keep threads busy.
const TASK_WEIGHTS: usize = 1 << 16;

/// Finds the parameters of one group of weights and rounds it.
///
/// Implementations are plain loops marked `#[inline(always)]`: they are compiled once per
/// instruction set. No multiply-add may be fused, so that all give the same bits.
pub(super) trait RoundGroup: Copy + Sync {
    /// Scale as stored and zero in units of the unsigned codes, which go to `codes`.
    ///
    /// `importance` is as long as `values`, or empty when nothing is known.
    fn round(self, values: &[f32], importance: &[f32], codes: &mut [u8]) -> (f32, f32);
}

/// A rounded matrix before it gets its final form.
pub(super) struct Rounded {
    pub codes: Codes,
    /// `[rows, groups]`.
    pub scales: Vec<f32>,
    /// `[rows, groups]`, in units of the unsigned codes.
    pub zeros: Vec<f32>,
}

/// The part of the result that one task writes: a few whole rows.
struct Part<'a> {
    words: &'a mut [u32],
    scales: &'a mut [f32],
    zeros: &'a mut [f32],
}

/// Rounds every group of `group` weights along the rows to `bits`.
///
/// `nonfinite-weight` with the first place of a NaN or infinity, `qparam` when a scale or zero is
/// not finite. The result is the same for every instruction set and number of threads.
pub(super) fn round<R: RoundGroup>(
    weights: Weights<'_>,
    (group, bits): (usize, u8),
    rounder: R,
    cpu: &Cpu,
) -> Result<Rounded> {
    let (rows, cols) = (weights.rows, weights.cols);
    let (groups, row_words) = (cols / group, pack::words_len(cols, bits));
    let mut words = vec![0; rows * row_words];
    let mut scales = vec![0.0; rows * groups];
    let mut zeros = vec![0.0; rows * groups];
    let task = TASK_WEIGHTS.div_ceil(cols);
    let mut parts: Vec<Part<'_>> = words
        .chunks_mut(task * row_words)
        .zip(scales.chunks_mut(task * groups))
        .zip(zeros.chunks_mut(task * groups))
        .map(|((words, scales), zeros)| Part {
            words,
            scales,
            zeros,
        })
        .collect();
    let bad_row = AtomicUsize::new(usize::MAX);
    cpu.run_chunks(&mut parts, 1, true, |t, part| {
        let (first, part) = (t * task, &mut part[0]);
        let mut codes = vec![0; cols];
        for (i, words) in part.words.chunks_exact_mut(row_words).enumerate() {
            let row = Row {
                weights: &weights.values[(first + i) * cols..][..cols],
                importance: weights.importance.unwrap_or_default(),
                group,
                rounder,
                scales: &mut part.scales[i * groups..][..groups],
                zeros: &mut part.zeros[i * groups..][..groups],
                codes: &mut codes,
            };
            if !dispatch(cpu.isa, row) {
                bad_row.fetch_min(first + i, Ordering::Relaxed);
                return;
            }
            pack::pack(&codes, bits, words);
        }
    });
    match bad_row.into_inner() {
        usize::MAX => Ok(Rounded {
            codes: Codes {
                bits,
                row_words,
                words,
            },
            scales,
            zeros,
        }),
        row => Err(bad(weights, row)),
    }
}

/// What is wrong with the first row that could not be rounded.
pub(super) fn bad(weights: Weights<'_>, row: usize) -> Error {
    let values = &weights.values[row * weights.cols..][..weights.cols];
    match values.iter().position(|w| !w.is_finite()) {
        Some(col) => {
            let what = format!("weight [{row}, {col}] is {}", values[col]);
            Error::new(Code::NonfiniteWeight, what).remedy("repair or fetch the checkpoint")
        }
        None => Error::new(Code::Qparam, format!("a scale of row {row} does not fit"))
            .remedy("store scales as BF16 or F32"),
    }
}

/// Whether every value is finite.
#[inline(always)]
pub(super) fn all_finite(values: &[f32]) -> bool {
    values
        .iter()
        .fold(true, |all, w| all & (w.abs() <= f32::MAX))
}

/// A row on its way.
struct Row<'a, R> {
    weights: &'a [f32],
    importance: &'a [f32],
    group: usize,
    rounder: R,
    scales: &'a mut [f32],
    zeros: &'a mut [f32],
    codes: &'a mut [u8],
}

impl<R: RoundGroup> Task for Row<'_, R> {
    /// Whether weights, scales and zeros are finite.
    type Out = bool;

    #[inline(always)]
    fn run<const FMA: bool, const M: usize>(self) -> bool {
        let groups = self.weights.chunks_exact(self.group);
        let codes = self.codes.chunks_exact_mut(self.group);
        for (g, (values, codes)) in groups.zip(codes).enumerate() {
            let importance = match self.importance {
                [] => self.importance,
                known => &known[g * self.group..][..self.group],
            };
            (self.scales[g], self.zeros[g]) = self.rounder.round(values, importance, codes);
        }
        all_finite(self.scales) && all_finite(self.zeros) && all_finite(self.weights)
    }
}
