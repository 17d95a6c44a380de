//! GPTQ: rounds a matrix column by column, later columns making up for earlier errors
//! (arXiv 2210.17323).
//!
//! ```text
//! Hessian ─► Factoring (hessian.rs, factor.rs) ─► Factor ─┬─► Rounding of q_proj
//!                                                         ├─► Rounding of k_proj …
//! ```

use super::RoundOptions;
use super::factor::Factor;
use super::gptq_tile::{Rounded, Spec, Tile};
use super::lazy::ROWS;
use super::mask::Mask;
use super::observer::{Grid, Observer, relative_importance};
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::kernels::matmul::Weight;
use crate::linalg::simd::dispatch;
use crate::matrix::{Codes, Floats, Inputs, Integer, QuantizedMatrix, Scales, Values, Zero};
use crate::pack;
use crate::scheme::{Element, Scheme, ZeroPoint};
use std::sync::Arc;

pub use super::order::Order;

/// Multiply-adds that one step does per thread at most, about 50 ms of work.
const STEP_WORK: usize = 1 << 31;

/// Rounds of refinement unless told otherwise.
const REFINE: usize = 3;

/// How GPTQ differs from rounding to nearest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GptqOptions {
    /// Added to the diagonal of the Hessian, relative to its mean.
    pub damp: f64,
    /// Columns per lazy batch.
    pub block: usize,
    /// In which order columns are rounded.
    pub order: Order,
    /// How often scales and codes are refined afterwards, by turns, each given all the others; not
    /// done in `Order::Group`.
    pub refine: usize,
}

impl GptqOptions {
    /// Whether rounding needs H itself besides its factor.
    pub fn refines(&self) -> bool {
        self.refine > 0 && self.order != Order::Group
    }
}

impl Default for GptqOptions {
    fn default() -> Self {
        Self {
            damp: 0.01,
            block: 128,
            order: Order::Static,
            refine: REFINE,
        }
    }
}

/// What else is known of a matrix.
#[derive(Debug, Clone, Default)]
pub struct Extra {
    /// E[x²] of each input channel, for `Observer::ImatrixMse`; the Hessian's diagonal otherwise.
    pub importance: Option<Arc<[f32]>>,
    /// Weights that stay; the others become exactly zero.
    pub mask: Option<Arc<Mask>>,
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
    extra: Extra,
    /// Importance relative to its mean, or empty; found with the first step.
    importance: Option<Vec<f32>>,
    tiles: Vec<Option<Result<Rounded>>>,
    next: usize,
}

impl Rounding {
    /// Starts on a matrix `[rows, cols]`; `scheme` when groups do not fit or codes are no integers
    /// with integer zeros.
    pub fn new(
        rows: usize,
        cols: usize,
        scheme: Scheme,
        options: RoundOptions,
        extra: Extra,
    ) -> Result<Self> {
        if scheme.element != Element::Int || scheme.zero == ZeroPoint::Float {
            let what = format!("GPTQ does not round to {scheme}");
            return Err(Error::new(Code::Scheme, what).remedy("use integers, or --method rtn"));
        }
        let mask = extra.mask.as_ref().map(|mask| mask.shape());
        assert!(mask.is_none_or(|s| s == (rows, cols)), "the mask's shape");
        Ok(Self {
            rows,
            cols,
            group: scheme.group_cols(cols)?,
            scheme,
            options,
            extra,
            importance: None,
            tiles: (0..rows.div_ceil(ROWS)).map(|_| None).collect(),
            next: 0,
        })
    }

    /// Rounds some more rows; whether those were the last. `weight` is `[rows, cols]`, finite.
    pub fn step(&mut self, cpu: &Cpu, weight: &Weight, factor: &Factor) -> bool {
        let (rows, cols) = (self.rows, self.cols);
        let refined = factor
            .curvature
            .as_ref()
            .map_or(0, |_| 1 + self.options.gptq.refine);
        let tile_work = (ROWS * cols * cols * (1 + 2 * refined) / 2).max(1);
        let count = (STEP_WORK / tile_work).max(1) * cpu.threads();
        let first = self.next;
        let last = (first + count).min(self.tiles.len());
        let importance = self.importance.take().unwrap_or_else(|| self.known(factor));
        let spec = Spec {
            bits: self.scheme.bits,
            grid: Grid::new(&self.scheme, self.options.scale_dtype),
            observer: self.options.observer,
            group: self.group,
            block: self.options.gptq.block.max(1),
            moving: self.is_moving(),
            by_turn: self.is_by_index(),
            importance: &importance,
            scale_dtype: self.options.scale_dtype,
            refine: self.options.gptq.refine,
        };
        let mask = self.extra.mask.as_deref();
        cpu.run_chunks(&mut self.tiles[first..last], 1, true, |i, tile| {
            let from = (first + i) * ROWS;
            let mut weights = vec![0.0f32; ((from + ROWS).min(rows) - from) * cols];
            let mut lines = weights.chunks_exact_mut(cols).enumerate();
            let read = lines.try_for_each(|(r, line)| weight.row(from + r, line));
            let weights = &weights;
            tile[0] = Some(read.map(|()| {
                let task = Tile {
                    weights,
                    factor,
                    spec,
                    mask: mask.map(|mask| (mask, from)),
                };
                dispatch(cpu.isa, task)
            }));
        });
        self.importance = Some(importance);
        self.next = last;
        last == self.tiles.len()
    }

    /// What the observer needs to know of the inputs.
    fn known(&self, factor: &Factor) -> Vec<f32> {
        if self.options.observer != Observer::ImatrixMse {
            return Vec::new();
        }
        let given = self.extra.importance.as_deref();
        relative_importance(given.or(Some(&factor.importance))).unwrap_or_default()
    }

    /// Whether parameters come from updated weights; those of a row of one group do not.
    fn is_moving(&self) -> bool {
        matches!(self.options.gptq.order, Order::Group | Order::Off) && self.group < self.cols
    }

    /// Whether columns need an index of their groups.
    fn is_by_index(&self) -> bool {
        self.options.gptq.order == Order::Group && self.group < self.cols
    }

    /// The matrix and how far it is from its source, after the last step.
    pub fn finish(self, factor: &Factor) -> Result<(QuantizedMatrix, Quality)> {
        let by_index = self.is_by_index();
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
            inputs: Inputs::of(&self.scheme),
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
