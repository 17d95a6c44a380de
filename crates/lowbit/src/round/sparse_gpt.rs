//! SparseGPT (arXiv 2301.00774, algorithm 1): prunes column by column, later columns making up for
//! what is lost.
//!
//! With the factor of `factor.rs` the paper's score `w² / [H⁻¹]_jj` is `(w · U[j,j])²`, and what a
//! pruned weight asks of the others is what a rounded one asks in GPTQ. Scores are compared inside
//! blocks of 128 columns over all rows, so a step takes one block of the whole matrix.

use super::factor::Factor;
use super::lazy::{ROWS, errors_asked, strips, take_in};
use super::mask::Mask;
use super::prune::{Pruning, lowest};
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::kernels::matmul::Weight;
use crate::linalg::simd::{Task, dispatch};
use crate::linalg::{LANES, Lanes};

/// Columns whose scores are compared, and that take in earlier errors at once.
const BLOCK: usize = 128;

/// The pruning of one matrix under way.
#[derive(Debug)]
pub struct SparseGpt {
    rows: usize,
    cols: usize,
    pruning: Pruning,
    tiles: Vec<Tile>,
    /// Columns that are not finished, in the factor's order.
    high: usize,
    failed: Option<Error>,
}

/// Up to `ROWS` rows.
#[derive(Debug, Default)]
struct Tile {
    /// Errors of finished columns, weights of the others.
    work: Vec<Vec<Lanes>>,
    /// Columns of the block under way with all earlier errors taken in.
    now: Vec<Vec<Lanes>>,
    /// What stays, `[rows, cols]` in the original order.
    values: Vec<f32>,
    /// Scores of the block under way `[rows, columns of the block]`.
    scores: Vec<f32>,
    /// Which of them are pruned.
    pruned: Vec<bool>,
}

impl SparseGpt {
    /// Starts on a matrix `[rows, cols]`.
    pub fn new(rows: usize, cols: usize, pruning: &Pruning) -> Self {
        let tiles = (0..rows.div_ceil(ROWS)).map(|_| Tile::default());
        Self {
            rows,
            cols,
            pruning: *pruning,
            tiles: tiles.collect(),
            high: cols,
            failed: None,
        }
    }

    /// Prunes some more columns; whether those were the last.
    ///
    /// `weight` is `[rows, cols]`, finite. With a pattern, the factor's order must be `Order::Off`,
    /// so that neighbours are finished one after another.
    pub fn step(&mut self, cpu: &Cpu, weight: &Weight, factor: &Factor) -> bool {
        if self.high == self.cols {
            self.failed = self.start(weight, factor).err();
        }
        if self.failed.is_some() || self.high == 0 {
            return true;
        }
        let run = self.pruning.pattern.map_or(1, |(_, m)| m);
        let low = self.high.saturating_sub((BLOCK / run).max(1) * run);
        let (range, pattern) = ((low, self.high), self.pruning.pattern);
        cpu.run_chunks(&mut self.tiles, 1, true, |_, tile| {
            let tile = &mut tile[0];
            dispatch(
                cpu.isa,
                TakeIn {
                    tile,
                    factor,
                    range,
                },
            );
        });
        if pattern.is_none() {
            self.choose(range.1 - range.0);
        }
        cpu.run_chunks(&mut self.tiles, 1, true, |_, tile| {
            let tile = &mut tile[0];
            dispatch(
                cpu.isa,
                Finish {
                    tile,
                    factor,
                    range,
                    pattern,
                },
            );
        });
        self.high = low;
        low == 0
    }

    /// The weights `[rows, cols]` with pruned ones exactly zero, and which stay, after the last
    /// step.
    pub fn finish(self, _factor: &Factor) -> Result<(Vec<f32>, Mask)> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut mask = Mask::all(self.rows, self.cols);
        let mut values = Vec::with_capacity(self.rows * self.cols);
        for (t, tile) in self.tiles.into_iter().enumerate() {
            for (i, pruned) in tile.pruned.iter().enumerate() {
                if *pruned {
                    mask.prune(t * ROWS + i / self.cols, i % self.cols);
                }
            }
            values.extend(tile.values);
        }
        Ok((values, mask))
    }

    fn start(&mut self, weight: &Weight, factor: &Factor) -> Result<()> {
        let natural = factor.columns.iter().rev().copied().eq(0..self.cols as u32);
        if self.pruning.pattern.is_some() && !natural {
            let what = "a pattern is pruned in the order of the row";
            return Err(Error::new(Code::Internal, what));
        }
        for (t, tile) in self.tiles.iter_mut().enumerate() {
            let rows = (self.rows - t * ROWS).min(ROWS);
            tile.values = vec![0.0; rows * self.cols];
            tile.pruned = vec![false; rows * self.cols];
            for (r, line) in tile.values.chunks_exact_mut(self.cols).enumerate() {
                weight.row(t * ROWS + r, line)?;
            }
            tile.work = strips(&tile.values, factor);
        }
        Ok(())
    }

    /// Marks the lowest scores of a block of columns, over all rows.
    fn choose(&mut self, width: usize) {
        let scores: Vec<f32> = self.tiles.iter().flat_map(|t| &t.scores).copied().collect();
        for tile in &mut self.tiles {
            // The scores are read; from here on they say which weights are pruned.
            tile.scores.fill(0.0);
        }
        for i in lowest(&scores, self.pruning.pruned_of(scores.len())) {
            let (row, column) = (i as usize / width, i as usize % width);
            self.tiles[row / ROWS].scores[row % ROWS * width + column] = 1.0;
        }
    }
}

/// Takes earlier errors into a block of columns and scores them.
struct TakeIn<'a> {
    tile: &'a mut Tile,
    factor: &'a Factor,
    range: (usize, usize),
}

impl Task for TakeIn<'_> {
    type Out = ();

    #[inline(always)]
    fn run<const FMA: bool, const M: usize>(self) {
        let (low, high) = self.range;
        let (n, width) = (self.factor.columns.len(), high - low);
        let tile = self.tile;
        tile.now = take_in::<FMA, M>(&tile.work, self.factor, self.range);
        let rows = tile.values.len() / n;
        tile.scores = vec![0.0; rows * width];
        for (r, scores) in tile.scores.chunks_exact_mut(width).enumerate() {
            for (k, score) in scores.iter_mut().enumerate() {
                let pivot = self.factor.u[(low + k) * (n + 1)];
                *score = (tile.now[r / LANES][k][r % LANES] * pivot).abs();
            }
        }
    }
}

/// Finishes the columns of a block, from the last to the first.
struct Finish<'a> {
    tile: &'a mut Tile,
    factor: &'a Factor,
    range: (usize, usize),
    pattern: Option<(usize, usize)>,
}

impl Task for Finish<'_> {
    type Out = ();

    #[inline(always)]
    fn run<const FMA: bool, const M: usize>(self) {
        let (low, high) = self.range;
        for j in (low..high).rev() {
            if let Some((n, m)) = self.pattern {
                let column = self.factor.columns[j] as usize;
                if column.is_multiple_of(m) {
                    let last = (j + 1).saturating_sub(m);
                    choose_run::<FMA>(self.tile, self.factor, (last, j + 1), self.range, n, m);
                }
            }
            for strip in 0..self.tile.work.len() {
                finish_column::<FMA>(self.tile, self.factor, strip, j, self.range);
            }
        }
    }
}

/// What column `j` of a strip should become, given all errors of finished columns.
#[inline(always)]
fn target<const FMA: bool>(
    tile: &Tile,
    factor: &Factor,
    strip: usize,
    j: usize,
    ((low, high), finished): ((usize, usize), usize),
) -> Lanes {
    let n = factor.columns.len();
    let row = &factor.u[j * n..(j + 1) * n];
    let errors = &tile.work[strip][finished..high];
    let asked = errors_asked::<FMA>(&row[finished..high], errors);
    let mut target = tile.now[strip][j - low];
    for (t, a) in target.iter_mut().zip(asked) {
        *t += a / row[j];
    }
    target
}

/// Marks the `n` lowest scores of the columns `run`, which are finished next, in every row.
#[inline(always)]
fn choose_run<const FMA: bool>(
    tile: &mut Tile,
    factor: &Factor,
    run: (usize, usize),
    range: (usize, usize),
    n: usize,
    m: usize,
) {
    let (cols, width) = (factor.columns.len(), range.1 - range.0);
    let rows = tile.values.len() / cols;
    let len = run.1 - run.0;
    let mut scores = vec![0.0f32; len];
    for strip in 0..tile.work.len() {
        let targets: Vec<Lanes> = (run.0..run.1)
            .map(|j| target::<FMA>(tile, factor, strip, j, (range, run.1)))
            .collect();
        for r in strip * LANES..rows.min((strip + 1) * LANES) {
            for (k, (score, lanes)) in scores.iter_mut().zip(&targets).enumerate() {
                let pivot = factor.u[(run.0 + k) * (cols + 1)];
                // In the order of the row, so that ties go as they do everywhere.
                *score = (lanes[r % LANES] * pivot).abs();
            }
            scores.reverse();
            let low = &mut tile.scores[r * width..(r + 1) * width];
            low[run.0 - range.0..run.1 - range.0].fill(0.0);
            for k in lowest(&scores, n * len / m) {
                low[run.1 - range.0 - 1 - k as usize] = 1.0;
            }
        }
    }
}

/// Prunes or keeps the weights of column `j` in one strip and leaves the errors in their place.
#[inline(always)]
fn finish_column<const FMA: bool>(
    tile: &mut Tile,
    factor: &Factor,
    strip: usize,
    j: usize,
    range: (usize, usize),
) {
    let (n, width) = (factor.columns.len(), range.1 - range.0);
    let targets = target::<FMA>(tile, factor, strip, j, (range, j + 1));
    let column = factor.columns[j] as usize;
    let rows = tile.values.len() / n;
    for r in strip * LANES..rows.min((strip + 1) * LANES) {
        let pruned = tile.scores[r * width + j - range.0] == 1.0;
        let value = if pruned { 0.0 } else { targets[r % LANES] };
        tile.work[strip][j][r % LANES] -= value;
        tile.values[r * n + column] = value;
        tile.pruned[r * n + column] = pruned;
    }
}
