//! GPTQ over a tile of rows; rows are independent, so tiles run on any thread in any order.
//!
//! ```text
//! work[strip][j][lane]   j in the order of `Factor::columns`, rounded from the last to the first
//!            0 ……………… low │ block │ high …………… n
//!            weights      │  now  │ errors w − q of finished columns
//! ```
//! The block's columns first take in all finished errors as one product (lazy batches), then are
//! rounded one by one, each taking in the errors of its own block.

use super::factor::Factor;
use crate::linalg::simd::Task;
use crate::linalg::{DEPTH, LANES, Lanes, add, multiply_add, product};

/// Rows of a tile: the factor is read once per tile.
pub(super) const ROWS: usize = 64;

/// Scale and unsigned zero point of a group of weights.
pub(super) type Params<'a> = &'a (dyn Fn(&[f32]) -> (f32, u8) + Sync);

/// What a tile is rounded to and how.
#[derive(Clone, Copy)]
pub(super) struct Spec<'a> {
    pub bits: u8,
    /// Columns that share a scale.
    pub group: usize,
    /// Columns per lazy batch.
    pub block: usize,
    /// Groups are formed in rounding order, with parameters of the updated weights.
    pub moving: bool,
    pub params: Params<'a>,
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
            let mut now = state.take_in::<FMA, M>(self.factor, low, high);
            if self.spec.moving {
                state.find_params(&self, &now, (n - high) / self.spec.group);
            }
            for j in (low..high).rev() {
                for (strip, now) in now.iter_mut().enumerate() {
                    state.round_column::<FMA>(&self, strip, j, now[j - low], high);
                }
            }
            high = low;
        }
        state.out.squared_error = state.squared_error();
        state.out
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
    fn new(tile: &Tile<'_>, n: usize) -> Self {
        let rows = tile.weights.len() / n;
        let groups = n / tile.spec.group;
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
            let weights = tile.weights.chunks_exact(tile.spec.group);
            let params = out.scales.iter_mut().zip(&mut out.zeros);
            for (group, (scale, zero)) in weights.zip(params) {
                (*scale, *zero) = (tile.spec.params)(group);
            }
        }
        let mut work = vec![vec![[0.0; LANES]; n]; rows.div_ceil(LANES)];
        for (r, row) in tile.weights.chunks_exact(n).enumerate() {
            for (lanes, c) in work[r / LANES].iter_mut().zip(&tile.factor.columns) {
                lanes[r % LANES] = row[*c as usize];
            }
        }
        Self {
            n,
            rows,
            groups,
            work,
            out,
        }
    }

    /// The block's weights plus what the errors of all columns from `high` on ask for.
    #[inline(always)]
    fn take_in<const FMA: bool, const M: usize>(
        &self,
        factor: &Factor,
        low: usize,
        high: usize,
    ) -> Vec<Vec<Lanes>> {
        let n = self.n;
        let mut now: Vec<Vec<Lanes>> = self.work.iter().map(|s| s[low..high].to_vec()).collect();
        for j in (low..high).step_by(M) {
            let width = M.min(high - j);
            let mut sums = [[[0.0f32; LANES]; M]; ROWS / LANES];
            for i in (high..n).step_by(DEPTH) {
                let len = DEPTH.min(n - i);
                let left = columns::<M>(&factor.u[j * n + i..], n, width, len);
                for (sums, strip) in sums.iter_mut().zip(&self.work) {
                    product::<FMA, M>(&left[..len], &strip[i..i + len], sums);
                }
            }
            for (now, sums) in now.iter_mut().zip(&sums) {
                for (m, sum) in sums.iter().enumerate().take(width) {
                    let pivot = factor.u[(j + m) * n + j + m];
                    add(&mut now[j - low + m], &sum.map(|s| s / pivot));
                }
            }
        }
        now
    }

    /// Parameters of the group that starts now, from its weights as updated so far.
    #[inline(always)]
    fn find_params(&mut self, tile: &Tile<'_>, now: &[Vec<Lanes>], group: usize) {
        let mut values = vec![0.0f32; tile.spec.group];
        for r in 0..self.rows {
            let strip = &now[r / LANES];
            for (v, lanes) in values.iter_mut().zip(strip) {
                *v = lanes[r % LANES];
            }
            let at = r * self.groups + group;
            (self.out.scales[at], self.out.zeros[at]) = (tile.spec.params)(&values);
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
        let place = if tile.spec.moving { n - 1 - j } else { column };
        let centre = f32::from(1u8 << (tile.spec.bits - 1));
        let first = strip * LANES;
        let live = LANES.min(self.rows - first);
        let (mut scale, mut zero) = ([1.0f32; LANES], [0.0f32; LANES]);
        for l in 0..live {
            let at = (first + l) * self.groups + place / tile.spec.group;
            scale[l] = self.out.scales[at];
            zero[l] = f32::from(self.out.zeros[at]) - centre;
        }
        let row = &factor.u[j * n..(j + 1) * n];
        let asked = errors_asked::<FMA>(&row[j + 1..high], &self.work[strip][j + 1..high]);
        let mut code = [0.0f32; LANES];
        let mut left = [0.0f32; LANES];
        let work = &mut self.work[strip][j];
        for l in 0..LANES {
            let target = now[l] + asked[l] / row[j];
            let q = (target / scale[l] + zero[l]).clamp(-centre, centre - 1.0);
            let q = (q + ROUND) - ROUND;
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

/// The first `len` columns of `rows` rows that lie `stride` apart, for `product`.
#[inline(always)]
fn columns<const M: usize>(u: &[f32], stride: usize, rows: usize, len: usize) -> [[f32; M]; DEPTH] {
    let mut out = [[0.0f32; M]; DEPTH];
    for m in 0..rows {
        for (column, v) in out.iter_mut().zip(&u[m * stride..][..len]) {
            column[m] = *v;
        }
    }
    out
}

/// `Σ_i u[i] · d[i]` over the columns of a block, in four interleaved sums.
#[inline(always)]
fn errors_asked<const FMA: bool>(u: &[f32], d: &[Lanes]) -> Lanes {
    let mut sums = [[0.0f32; LANES]; 4];
    let ((u4, u_rest), (d4, d_rest)) = (u.as_chunks::<4>(), d.as_chunks::<4>());
    for (u, d) in u4.iter().zip(d4) {
        for (sum, (u, d)) in sums.iter_mut().zip(u.iter().zip(d)) {
            for (s, d) in sum.iter_mut().zip(d) {
                *s = multiply_add::<FMA>(*u, *d, *s);
            }
        }
    }
    for (sum, (u, d)) in sums.iter_mut().zip(u_rest.iter().zip(d_rest)) {
        for (s, d) in sum.iter_mut().zip(d) {
            *s = multiply_add::<FMA>(*u, *d, *s);
        }
    }
    let mut out = [0.0; LANES];
    for l in 0..LANES {
        out[l] = (sums[0][l] + sums[1][l]) + (sums[2][l] + sums[3][l]);
    }
    out
}
