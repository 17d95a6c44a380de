//! Pruning: which weights become zero, and what the others become.
//!
//! ```text
//! magnitude   score |w|                                    compared over the matrix
//! Wanda       score |w|·‖x_j‖   (arXiv 2306.11695)         compared inside each row
//! SparseGPT   score w²/[H⁻¹]_jj (arXiv 2301.00774)         compared inside blocks of 128 columns;
//!             later columns make up for what is lost
//! n:m         the n lowest scores of every m neighbours in a row, whatever the method
//! ```
//! Of equal scores the one that comes first is pruned.

use super::mask::Mask;
use crate::error::{Code, Error, Result, nearest};

pub use super::sparse_gpt::SparseGpt;

/// How scores are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Criterion {
    /// |w|.
    Magnitude,
    /// |w| times the size of the input.
    Wanda,
    /// What the output loses when the other weights make up for it.
    SparseGpt,
}

impl Criterion {
    /// Every criterion with its name in options.
    pub const ALL: &[(&'static str, Criterion)] = &[
        ("magnitude", Criterion::Magnitude),
        ("wanda", Criterion::Wanda),
        ("sparsegpt", Criterion::SparseGpt),
    ];
}

/// Which share of a matrix becomes zero, and by what.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pruning {
    /// How scores are found.
    pub criterion: Criterion,
    /// Share of weights that become zero.
    pub sparsity: f64,
    /// `(n, m)`: n of every m neighbours along the row become zero; unstructured otherwise.
    pub pattern: Option<(usize, usize)>,
}

impl Pruning {
    /// Checks names and numbers; `option` says which one does not fit.
    ///
    /// With a pattern n:m the share is n/m, whatever `sparsity` says.
    pub fn new(method: &str, sparsity: f64, pattern: Option<(usize, usize)>) -> Result<Self> {
        let names = || Criterion::ALL.iter().map(|(n, _)| *n);
        let Some((_, criterion)) = Criterion::ALL.iter().find(|(n, _)| *n == method) else {
            let near = nearest(method, names()).unwrap_or("magnitude");
            let what = format!("unknown pruning method {method:?}");
            return Err(Error::new(Code::Option, what).remedy(format!("did you mean {near:?}?")));
        };
        if let Some((n, m)) = pattern.filter(|(n, m)| *n == 0 || n >= m) {
            let what = format!("pattern {n}:{m} keeps nothing or everything");
            return Err(Error::new(Code::Option, what).remedy("use for example 2:4"));
        }
        let sparsity = pattern.map_or(sparsity, |(n, m)| n as f64 / m as f64);
        if !(0.0..1.0).contains(&sparsity) {
            let what = format!("sparsity is {sparsity}");
            return Err(Error::new(Code::Option, what).remedy("use 0 or more and less than 1"));
        }
        Ok(Self {
            criterion: *criterion,
            sparsity,
            pattern,
        })
    }

    /// Whether the inputs of each matrix must be known.
    pub fn needs_calibration(&self) -> bool {
        self.criterion != Criterion::Magnitude
    }

    /// Weights of `count` that are pruned without a pattern.
    pub(super) fn pruned_of(&self, count: usize) -> usize {
        (count as f64 * self.sparsity) as usize
    }
}

/// Prunes the weights `[rows, cols]` of least magnitude, over the whole matrix.
pub fn by_magnitude(values: &[f32], rows: usize, cols: usize, pruning: &Pruning) -> Mask {
    assert_eq!(values.len(), rows * cols, "values must be [rows, cols]");
    let mut mask = Mask::all(rows, cols);
    let scores: Vec<f32> = values.iter().map(|w| w.abs()).collect();
    if let Some(pattern) = pruning.pattern {
        for (r, scores) in scores.chunks_exact(cols.max(1)).enumerate() {
            prune_pattern(&mut mask, r, scores, pattern);
        }
    } else {
        for i in lowest(&scores, pruning.pruned_of(scores.len())) {
            mask.prune(i as usize / cols, i as usize % cols);
        }
    }
    mask
}

/// Prunes the weights `[rows, cols]` of least `|w| · input_rms[col]`, inside each row.
///
/// `input_rms` is √E[x²] of each input channel.
pub fn by_wanda(
    values: &[f32],
    rows: usize,
    cols: usize,
    input_rms: &[f32],
    pruning: &Pruning,
) -> Mask {
    assert_eq!(values.len(), rows * cols, "values must be [rows, cols]");
    assert_eq!(input_rms.len(), cols, "one size per input");
    let mut mask = Mask::all(rows, cols);
    for (r, row) in values.chunks_exact(cols.max(1)).enumerate() {
        let scores: Vec<f32> = row
            .iter()
            .zip(input_rms)
            .map(|(w, x)| w.abs() * x)
            .collect();
        match pruning.pattern {
            Some(pattern) => prune_pattern(&mut mask, r, &scores, pattern),
            None => {
                for c in lowest(&scores, pruning.pruned_of(cols)) {
                    mask.prune(r, c as usize);
                }
            }
        }
    }
    mask
}

/// The n lowest scores of every m neighbours of a row; a last run that is shorter gives its share.
fn prune_pattern(mask: &mut Mask, row: usize, scores: &[f32], (n, m): (usize, usize)) {
    for (run, scores) in scores.chunks(m).enumerate() {
        for c in lowest(scores, n * scores.len() / m) {
            mask.prune(row, run * m + c as usize);
        }
    }
}

/// The indices of the `count` lowest scores, ties by index; in no order.
pub(super) fn lowest(scores: &[f32], count: usize) -> Vec<u32> {
    let mut indices: Vec<u32> = (0..scores.len() as u32).collect();
    if count == 0 {
        return Vec::new();
    }
    if count < indices.len() {
        indices.select_nth_unstable_by(count - 1, |a, b| {
            let (x, y) = (scores[*a as usize], scores[*b as usize]);
            x.total_cmp(&y).then(a.cmp(b))
        });
    }
    indices.truncate(count);
    indices
}
