//! GPTQ over a tile of rows; rows are independent, so tiles run on any thread in any order.

use super::factor::Factor;
use super::lazy::{errors_asked, strips, take_in};
use super::mask::Mask;
use super::observer::{Grid, Observer};
use super::refine::refine;
use crate::linalg::simd::Task;
use crate::linalg::{LANES, Lanes};
use crate::tensor::Dtype;

/// What a tile is rounded to and how.
#[derive(Clone, Copy)]
pub(super) struct Spec<'a> {
    pub bits: u8,
    pub grid: Grid,
    pub observer: Observer,
    /// Columns that share a scale.
    pub group: usize,
    /// Columns per lazy batch.
    pub block: usize,
    /// Parameters of a group come from its weights as updated when its turn comes.
    pub moving: bool,
    /// Groups are formed in rounding order rather than along the row.
    pub by_turn: bool,
    /// Of each input in the original order, or empty.
    pub importance: &'a [f32],
    pub scale_dtype: Dtype,
    /// Rounds of refinement, if the factor comes with H.
    pub refine: usize,
}

/// A rounded tile, in the original order of columns.
#[derive(Debug, Default)]
pub(super) struct Rounded {
    /// `[rows, n]`.
    pub codes: Vec<u8>,
    /// `[rows, groups]`.
    pub scales: Vec<f32>,
    /// `[rows, groups]`, unsigned like the codes.
    pub zeros: Vec<u8>,
    /// Σ (w − q)².
    pub squared_error: f64,
    /// Σ w².
    pub squared_weight: f64,
    /// Σ (w − q)ᵀ·H·(w − q) with the damped H.
    pub weighted_error: f64,
}

/// One tile's input: up to `ROWS` rows of finite weights `[rows, n]`.
pub(super) struct Tile<'a> {
    pub weights: &'a [f32],
    pub factor: &'a Factor,
    pub spec: Spec<'a>,
    /// Which weights stay, and the tile's first row in it.
    pub mask: Option<(&'a Mask, usize)>,
}

impl Tile<'_> {
    /// The group of the column at place `j` of the rounding order.
    fn group_at(&self, j: usize) -> usize {
        let n = self.factor.columns.len();
        let place = if self.spec.by_turn {
            n - 1 - j
        } else {
            self.factor.columns[j] as usize
        };
        place / self.spec.group
    }

    pub(super) fn keeps(&self, row: usize, column: usize) -> bool {
        // Lanes beyond the last row are of no matter.
        self.mask.is_none_or(|(mask, first)| {
            first + row >= mask.shape().0 || mask.keeps(first + row, column)
        })
    }
}

impl Task for Tile<'_> {
    type Out = Rounded;

    #[inline(always)]
    fn run<const FMA: bool, const M: usize>(self) -> Rounded {
        let n = self.factor.columns.len();
        let mut state = State::new(&self, n);
        let block = if self.spec.moving {
            self.spec.group
        } else {
            self.spec.block
        };
        let mut high = n;
        while high > 0 {
            let low = high.saturating_sub(block);
            let mut now = take_in::<FMA, M>(&state.work, self.factor, (low, high));
            if self.spec.moving {
                state.find_params(&self, &now, low);
            }
            for j in (low..high).rev() {
                for (strip, now) in now.iter_mut().enumerate() {
                    state.round_column::<FMA>(&self, strip, j, now[j - low], high);
                }
            }
            high = low;
        }
        state.out.squared_error = state.squared_error();
        let mut out = state.out;
        if let Some(h) = &self.factor.curvature
            && !self.spec.by_turn
        {
            refine::<FMA, M>(&self, h, self.spec.refine, &mut out);
        }
        out
    }
}

/// The tile under way.
struct State {
    n: usize,
    rows: usize,
    groups: usize,
    /// Weights, then errors, one strip of `LANES` rows after another.
    work: Vec<Vec<Lanes>>,
    out: Rounded,
}

impl State {
    #[inline(always)]
    fn new(tile: &Tile<'_>, n: usize) -> Self {
        let (rows, groups) = (tile.weights.len() / n, n / tile.spec.group);
        let mut out = Rounded {
            codes: vec![0; rows * n],
            scales: vec![1.0; rows * groups],
            zeros: vec![0; rows * groups],
            ..Rounded::default()
        };
        out.squared_weight = tile
            .weights
            .iter()
            .map(|w| f64::from(*w) * f64::from(*w))
            .sum();
        if !tile.spec.moving {
            for (i, values) in tile.weights.chunks_exact(tile.spec.group).enumerate() {
                let importance = match tile.spec.importance {
                    [] => tile.spec.importance,
                    known => &known[i % groups * tile.spec.group..][..tile.spec.group],
                };
                let params = tile
                    .spec
                    .grid
                    .observe(values, importance, tile.spec.observer);
                out.scales[i] = params.scale;
                out.zeros[i] = tile.spec.grid.unsigned(params.zero);
            }
        }
        Self {
            n,
            rows,
            groups,
            work: strips(tile.weights, tile.factor),
            out,
        }
    }

    /// Parameters of the group that starts now, from its weights as updated so far.
    #[inline(always)]
    fn find_params(&mut self, tile: &Tile<'_>, now: &[Vec<Lanes>], low: usize) {
        let spec = tile.spec;
        let columns = &tile.factor.columns[low..low + spec.group];
        let known = columns.iter().filter(|_| !spec.importance.is_empty());
        let importance: Vec<f32> = known.map(|c| spec.importance[*c as usize]).collect();
        let mut values = vec![0.0f32; spec.group];
        for r in 0..self.rows {
            let lanes = now[r / LANES].iter().map(|lanes| lanes[r % LANES]);
            for ((v, lane), c) in values.iter_mut().zip(lanes).zip(columns) {
                *v = if tile.keeps(r, *c as usize) {
                    lane
                } else {
                    0.0
                };
            }
            let at = r * self.groups + tile.group_at(low);
            let params = spec.grid.observe(&values, &importance, spec.observer);
            self.out.scales[at] = params.scale;
            self.out.zeros[at] = spec.grid.unsigned(params.zero);
        }
    }

    /// Rounds column `j` of one strip and leaves its errors in its place.
    ///
    /// The arithmetic is compressed-tensors': divide, add the signed zero, clamp, ties to even.
    #[inline(always)]
    fn round_column<const FMA: bool>(
        &mut self,
        tile: &Tile<'_>,
        strip: usize,
        j: usize,
        now: Lanes,
        high: usize,
    ) {
        /// 1.5 · 2²³: adding it rounds to an integer, ties to even.
        const ROUND: f32 = 12_582_912.0;
        let (n, factor) = (self.n, tile.factor);
        let column = factor.columns[j] as usize;
        let group = tile.group_at(j);
        let centre = f32::from(1u8 << (tile.spec.bits - 1));
        let first = strip * LANES;
        let live = LANES.min(self.rows - first);
        let (mut scale, mut zero, mut keep) = ([1.0f32; LANES], [0.0f32; LANES], [true; LANES]);
        for l in 0..live {
            let at = (first + l) * self.groups + group;
            scale[l] = self.out.scales[at];
            zero[l] = f32::from(self.out.zeros[at]) - centre;
            keep[l] = tile.keeps(first + l, column);
        }
        let row = &factor.u[j * n..(j + 1) * n];
        let asked = errors_asked::<FMA>(&row[j + 1..high], &self.work[strip][j + 1..high]);
        let mut code = [0.0f32; LANES];
        let mut left = [0.0f32; LANES];
        let work = &mut self.work[strip][j];
        for l in 0..LANES {
            let target = now[l] + asked[l] / row[j];
            let q = (target / scale[l] + zero[l]).clamp(-centre, centre - 1.0);
            let q = if keep[l] {
                (q + ROUND) - ROUND
            } else {
                zero[l]
            };
            let value = (q - zero[l]) * scale[l];
            left[l] = (target - value) * row[j];
            work[l] -= value;
            code[l] = q + centre;
        }
        let rows = self.out.codes[first * n..].chunks_mut(n);
        for (row, code) in rows.zip(&code[..live]) {
            row[column] = *code as u8;
        }
        let weighted = left[..live].iter().map(|e| f64::from(*e) * f64::from(*e));
        self.out.weighted_error += weighted.sum::<f64>();
    }

    fn squared_error(&self) -> f64 {
        let square = |v: &f32| f64::from(*v) * f64::from(*v);
        let lanes = self.work.iter().flatten();
        lanes.map(|l| l.iter().map(square).sum::<f64>()).sum()
    }
}
