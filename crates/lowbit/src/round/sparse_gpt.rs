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
use crate::error::{Error, Result};
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
    /// Which are pruned, alike.
    pruned: Vec<bool>,
    /// Scores of the block under way `[rows, columns of the block]`.
    scores: Vec<f32>,
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

    /// Prunes some more columns; whether those were the last. `weight` is `[rows, cols]`, finite.
    pub fn step(&mut self, cpu: &Cpu, weight: &Weight, factor: &Factor) -> bool {
        if self.high == self.cols {
            self.failed = self.start(weight, factor).err();
        }
        if self.failed.is_some() || self.high == 0 {
            return true;
        }
        let low = self.high.saturating_sub(BLOCK);
        let pattern = self.pruning.pattern;
        let block = Block {
            factor,
            places: &places(factor),
            low,
            high: self.high,
        };
        cpu.run_chunks(&mut self.tiles, 1, true, |_, tile| {
            let tile = &mut tile[0];
            dispatch(cpu.isa, TakeIn { tile, block });
        });
        if pattern.is_none() {
            self.choose(&block);
        }
        cpu.run_chunks(&mut self.tiles, 1, true, |_, tile| {
            let tile = &mut tile[0];
            let task = Finish {
                tile,
                block,
                pattern,
            };
            dispatch(cpu.isa, task);
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
    fn choose(&mut self, block: &Block<'_>) {
        let width = block.high - block.low;
        let scores: Vec<f32> = self.tiles.iter().flat_map(|t| &t.scores).copied().collect();
        for i in lowest(&scores, self.pruning.pruned_of(scores.len())) {
            let (row, j) = (i as usize / width, block.low + i as usize % width);
            let column = block.factor.columns[j] as usize;
            self.tiles[row / ROWS].pruned[row % ROWS * self.cols + column] = true;
        }
    }
}

/// Where each column of the row is in the factor's order.
fn places(factor: &Factor) -> Vec<u32> {
    let mut places = vec![0; factor.columns.len()];
    for (j, column) in factor.columns.iter().enumerate() {
        places[*column as usize] = j as u32;
    }
    places
}

/// The columns `low..high` of the factor's order, which are finished together.
#[derive(Clone, Copy)]
struct Block<'a> {
    factor: &'a Factor,
    places: &'a [u32],
    low: usize,
    high: usize,
}

impl Block<'_> {
    /// What column `j` of a strip should become, given the errors of all columns from `finished`
    /// on.
    #[inline(always)]
    fn target<const FMA: bool>(
        self,
        tile: &Tile,
        strip: usize,
        j: usize,
        finished: usize,
    ) -> Lanes {
        let n = self.factor.columns.len();
        let (row, errors) = (&self.factor.u[j * n..(j + 1) * n], &tile.work[strip]);
        // Columns of later blocks have taken in nothing yet.
        let (mut target, until) = if j < self.low {
            (errors[j], n)
        } else {
            (tile.now[strip][j - self.low], self.high)
        };
        let asked = errors_asked::<FMA>(&row[finished..until], &errors[finished..until]);
        for (t, a) in target.iter_mut().zip(asked) {
            *t += a / row[j];
        }
        target
    }

    /// How much the output loses with a weight of column `j`.
    #[inline(always)]
    fn score(self, weight: f32, j: usize) -> f32 {
        (weight * self.factor.u[j * (self.factor.columns.len() + 1)]).abs()
    }
}

/// Takes earlier errors into a block of columns and scores them.
struct TakeIn<'a> {
    tile: &'a mut Tile,
    block: Block<'a>,
}

impl Task for TakeIn<'_> {
    type Out = ();

    #[inline(always)]
    fn run<const FMA: bool, const M: usize>(self) {
        let (tile, block) = (self.tile, self.block);
        let (n, width) = (block.places.len(), block.high - block.low);
        tile.now = take_in::<FMA, M>(&tile.work, block.factor, (block.low, block.high));
        tile.scores = vec![0.0; tile.values.len() / n * width];
        for (r, scores) in tile.scores.chunks_exact_mut(width).enumerate() {
            for (k, score) in scores.iter_mut().enumerate() {
                *score = block.score(tile.now[r / LANES][k][r % LANES], block.low + k);
            }
        }
    }
}

/// Finishes the columns of a block, from the last to the first.
struct Finish<'a> {
    tile: &'a mut Tile,
    block: Block<'a>,
    pattern: Option<(usize, usize)>,
}

impl Task for Finish<'_> {
    type Out = ();

    #[inline(always)]
    fn run<const FMA: bool, const M: usize>(self) {
        let (tile, block) = (self.tile, self.block);
        for j in (block.low..block.high).rev() {
            if let Some((n, m)) = self.pattern {
                let first = block.factor.columns[j] as usize / m * m;
                let run: Vec<usize> = block.places[first..]
                    .iter()
                    .take(m)
                    .map(|j| *j as usize)
                    .collect();
                // Whoever of a run is finished first decides for all of it.
                if run.iter().all(|other| *other <= j) {
                    choose_run::<FMA>(tile, block, (first, &run), j + 1, n * run.len() / m);
                }
            }
            for strip in 0..tile.work.len() {
                finish_column::<FMA>(tile, block, strip, j);
            }
        }
    }
}

/// Marks the `count` lowest scores of neighbours in every row; `run` are their places.
#[inline(always)]
fn choose_run<const FMA: bool>(
    tile: &mut Tile,
    block: Block<'_>,
    (first, run): (usize, &[usize]),
    finished: usize,
    count: usize,
) {
    let cols = block.places.len();
    let rows = tile.values.len() / cols;
    for strip in 0..tile.work.len() {
        let targets: Vec<Lanes> = run
            .iter()
            .map(|j| block.target::<FMA>(tile, strip, *j, finished))
            .collect();
        for r in strip * LANES..rows.min((strip + 1) * LANES) {
            let lanes = targets.iter().zip(run);
            let scores: Vec<f32> = lanes.map(|(t, j)| block.score(t[r % LANES], *j)).collect();
            for k in lowest(&scores, count) {
                tile.pruned[r * cols + first + k as usize] = true;
            }
        }
    }
}

/// Prunes or keeps the weights of column `j` in one strip and leaves the errors in their place.
#[inline(always)]
fn finish_column<const FMA: bool>(tile: &mut Tile, block: Block<'_>, strip: usize, j: usize) {
    let cols = block.places.len();
    let targets = block.target::<FMA>(tile, strip, j, j + 1);
    let column = block.factor.columns[j] as usize;
    let rows = tile.values.len() / cols;
    for r in strip * LANES..rows.min((strip + 1) * LANES) {
        let at = r * cols + column;
        let value = if tile.pruned[at] {
            0.0
        } else {
            targets[r % LANES]
        };
        tile.work[strip][j][r % LANES] -= value;
        tile.values[at] = value;
    }
}
