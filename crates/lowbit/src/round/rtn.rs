//! Round to nearest: each weight goes to the closest code of its group's grid.

use super::RoundOptions;
use super::observer::{Grid, Observer};
use super::simd::{self, Rounded, Row, all_finite};
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::matrix::{Codes, Floats, Integer, QuantizedMatrix, Scales, Values, Zero};
use crate::pack;
use crate::scheme::{Group, Scheme};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Weights of one task: enough to make its start cheap, few enough to keep threads busy.
const TASK_WEIGHTS: usize = 1 << 16;

/// Rounds `weight[rows, cols]` to `scheme`.
///
/// `nonfinite-weight` with the first place of a NaN or infinity, `qparam` when a scale does not fit
/// `options.scale_dtype`, `scheme` when the groups do not fit the row. The result is the same for
/// every instruction set and number of threads.
pub fn round(
    weight: &[f32],
    rows: usize,
    cols: usize,
    scheme: &Scheme,
    options: &RoundOptions,
    cpu: &Cpu,
) -> Result<QuantizedMatrix> {
    assert_eq!(weight.len(), rows * cols, "weight must be [rows, cols]");
    if matches!(scheme.group, Group::Tensor) {
        let what = format!("{scheme} has one scale for the whole matrix");
        return Err(Error::new(Code::Scheme, what).remedy("use a scale per row or per group"));
    }
    if rows == 0 || cols == 0 {
        return Err(Error::new(
            Code::Shape,
            format!("a matrix of {rows} × {cols} is empty"),
        ));
    }
    let group = scheme.group_cols(cols)?;
    let work = Work {
        weight,
        cols,
        group,
        bits: scheme.bits,
        grid: Grid::new(scheme, options.scale_dtype),
        observer: options.observer,
        cpu,
    };
    let (codes, scales, zeros) = work.round(rows)?;
    Ok(QuantizedMatrix {
        rows,
        cols,
        inputs: None,
        values: Values::Integer(Integer {
            codes,
            group,
            scales: Scales::Flat(Floats::from_f32(options.scale_dtype, &scales)?),
            zero: if scheme.is_symmetric() {
                Zero::Centre
            } else {
                Zero::Int(zeros)
            },
            group_of_col: None,
        }),
    })
}

/// A matrix on its way.
struct Work<'a> {
    weight: &'a [f32],
    cols: usize,
    group: usize,
    bits: u8,
    grid: Grid,
    observer: Observer,
    cpu: &'a Cpu,
}

/// The part of the result that one task writes: a few whole rows.
struct Part<'a> {
    words: &'a mut [u32],
    scales: &'a mut [f32],
    zeros: &'a mut [u8],
}

impl Work<'_> {
    fn row(&self, row: usize) -> Row<'_> {
        Row {
            weights: &self.weight[row * self.cols..][..self.cols],
            group: self.group,
            grid: self.grid,
            observer: self.observer,
        }
    }

    fn task_rows(&self) -> usize {
        TASK_WEIGHTS.div_ceil(self.cols.max(1))
    }

    /// Codes, scales and zeros.
    fn round(&self, rows: usize) -> Result<(Codes, Vec<f32>, Vec<u8>)> {
        let groups = self.cols / self.group;
        let row_words = pack::words_len(self.cols, self.bits);
        let mut words = vec![0; rows * row_words];
        let mut scales = vec![0.0; rows * groups];
        let mut zeros = vec![0; rows * groups];
        let task = self.task_rows();
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
        self.cpu.run_chunks(&mut parts, 1, true, |t, part| {
            if let Some(row) = self.round_part(t * task, &mut part[0]) {
                bad_row.fetch_min(row, Ordering::Relaxed);
            }
        });
        match bad_row.into_inner() {
            usize::MAX => Ok((
                Codes {
                    bits: self.bits,
                    row_words,
                    words,
                },
                scales,
                zeros,
            )),
            row => Err(self.bad(row)),
        }
    }

    /// Rounds the rows of one part; gives the first row that cannot be rounded.
    fn round_part(&self, first: usize, part: &mut Part<'_>) -> Option<usize> {
        let groups = self.cols / self.group;
        let row_words = pack::words_len(self.cols, self.bits);
        let mut codes = vec![0; self.cols];
        for (i, words) in part.words.chunks_exact_mut(row_words).enumerate() {
            let row = self.row(first + i);
            let mut out = Rounded {
                scales: &mut part.scales[i * groups..][..groups],
                zeros: &mut part.zeros[i * groups..][..groups],
                codes: &mut codes,
            };
            simd::round(self.cpu.isa, row, &mut out);
            if !all_finite(out.scales) || !all_finite(row.weights) {
                return Some(first + i);
            }
            pack::pack(&codes, self.bits, words);
        }
        None
    }

    fn bad(&self, row: usize) -> Error {
        let weights = self.row(row).weights;
        match weights.iter().position(|w| !w.is_finite()) {
            Some(col) => {
                let what = format!("weight [{row}, {col}] is {}", weights[col]);
                Error::new(Code::NonfiniteWeight, what).remedy("repair or fetch the checkpoint")
            }
            None => Error::new(Code::Qparam, format!("a scale of row {row} does not fit"))
                .remedy("store scales as BF16 or F32"),
        }
    }
}
