//! GPTQ: rounds a matrix column by column, later columns making up for earlier errors
//! (arXiv 2210.17323).
//!
//! ```text
//! Hessian ─► Factoring (hessian.rs, factor.rs) ─► Factor ─┬─► Rounding of q_proj
//!                                                         ├─► Rounding of k_proj …
//! ```

use super::factor::Factor;
use super::gptq_tile::{ROWS, Rounded, Spec, Tile};
use super::{RoundOptions, observer};
use crate::cpu::Cpu;
use crate::error::Result;
use crate::kernels::matmul::Weight;
use crate::linalg::simd::dispatch;
use crate::matrix::{Codes, Floats, Integer, QuantizedMatrix, Scales, Values, Zero};
use crate::pack;
use crate::scheme::Scheme;

pub use super::order::Order;

/// Multiply-adds that one step does per thread at most, about 50 ms of work.
const STEP_WORK: usize = 1 << 31;

/// How GPTQ differs from rounding to nearest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GptqOptions {
    /// Added to the diagonal of the Hessian, relative to its mean.
    pub damp: f64,
    /// Columns per lazy batch.
    pub block: usize,
    /// In which order columns are rounded.
    pub order: Order,
}

impl Default for GptqOptions {
    fn default() -> Self {
        Self {
            damp: 0.01,
            block: 128,
            order: Order::Static,
        }
    }
}

/// What rounding did to a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Quality {
    /// Σ (w − q)².
    pub squared_error: f64,
    /// Σ w².
    pub squared_weight: f64,
    /// Σ (w − q)ᵀ·H·(w − q) over rows with the damped H; none without one.
    pub weighted_error: Option<f64>,
}

/// The rounding of one matrix under way.
#[derive(Debug)]
pub struct Rounding {
    rows: usize,
    cols: usize,
    group: usize,
    scheme: Scheme,
    options: RoundOptions,
    tiles: Vec<Option<Result<Rounded>>>,
    next: usize,
}

impl Rounding {
    /// Starts on a matrix `[rows, cols]`; `scheme` when groups do not fit.
    pub fn new(rows: usize, cols: usize, scheme: Scheme, options: RoundOptions) -> Result<Self> {
        Ok(Self {
            rows,
            cols,
            group: scheme.group_cols(cols)?,
            scheme,
            options,
            tiles: (0..rows.div_ceil(ROWS)).map(|_| None).collect(),
            next: 0,
        })
    }

    /// Rounds some more rows; whether those were the last. `weight` is `[rows, cols]`, finite.
    pub fn step(&mut self, cpu: &Cpu, weight: &Weight, factor: &Factor) -> bool {
        let (rows, cols) = (self.rows, self.cols);
        let tile_work = (ROWS * cols * cols / 2).max(1);
        let count = (STEP_WORK / tile_work).max(1) * cpu.threads();
        let first = self.next;
        let last = (first + count).min(self.tiles.len());
        let (scheme, options) = (self.scheme, self.options);
        let params = move |values: &[f32]| observer::group_params(values, &scheme, &options);
        let spec = Spec {
            bits: scheme.bits,
            group: self.group,
            block: options.gptq.block.max(1),
            moving: self.is_moving(),
            params: &params,
        };
        cpu.run_chunks(&mut self.tiles[first..last], 1, true, |i, tile| {
            let from = (first + i) * ROWS;
            let mut weights = vec![0.0f32; ((from + ROWS).min(rows) - from) * cols];
            let mut lines = weights.chunks_exact_mut(cols).enumerate();
            let read = lines.try_for_each(|(r, line)| weight.row(from + r, line));
            let (weights, spec) = (&weights, spec);
            tile[0] = Some(read.map(|()| {
                dispatch(
                    cpu.isa,
                    Tile {
                        weights,
                        factor,
                        spec,
                    },
                )
            }));
        });
        self.next = last;
        last == self.tiles.len()
    }

    /// Whether groups follow the rounding order or the updates; a row of one group does not.
    fn is_moving(&self) -> bool {
        self.options.gptq.order != Order::Static && self.group < self.cols
    }

    /// The matrix and how far it is from its source, after the last step.
    pub fn finish(self, factor: &Factor) -> Result<(QuantizedMatrix, Quality)> {
        let by_index = self.is_moving() && self.options.gptq.order == Order::Group;
        let row_words = pack::words_len(self.cols, self.scheme.bits);
        let mut words = Vec::with_capacity(self.rows * row_words);
        let (mut scales, mut zeros) = (Vec::new(), Vec::new());
        let (mut quality, mut weighted) = (Quality::default(), 0.0);
        for tile in self.tiles.into_iter().flatten() {
            let tile = tile?;
            for codes in tile.codes.chunks_exact(self.cols) {
                words.extend(pack::words_from_codes(codes, self.scheme.bits));
            }
            scales.extend(tile.scales);
            zeros.extend(tile.zeros);
            quality.squared_error += tile.squared_error;
            quality.squared_weight += tile.squared_weight;
            weighted += tile.weighted_error;
        }
        quality.weighted_error = Some(weighted);
        let integer = Integer {
            codes: Codes {
                bits: self.scheme.bits,
                row_words,
                words,
            },
            group: self.group,
            scales: Scales::Flat(Floats::from_f32(self.options.scale_dtype, &scales)?),
            zero: if self.scheme.is_symmetric() {
                Zero::Centre
            } else {
                Zero::Int(zeros)
            },
            group_of_col: by_index.then(|| group_of_col(factor, self.group)),
        };
        let matrix = QuantizedMatrix {
            rows: self.rows,
            cols: self.cols,
            inputs: None,
            values: Values::Integer(integer),
        };
        Ok((matrix, quality))
    }
}

/// The group of each input column when groups were formed in rounding order (`g_idx`).
fn group_of_col(factor: &Factor, group: usize) -> Vec<u32> {
    let n = factor.columns.len();
    let mut groups = vec![0; n];
    for (j, column) in factor.columns.iter().enumerate() {
        groups[*column as usize] = ((n - 1 - j) / group) as u32;
    }
    groups
}
