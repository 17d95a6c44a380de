//! Attention in vectors whose lanes are queries: keys and values are read where they lie, without
//! copies or transposition, and no width of a head is a special case.
//!
//! ```text
//! scores[k][lane]  = Σ_d K[k][d] · Qt[d][lane]        lane = (token, query head of one group)
//! sums[d][lane]   += Σ_k V[k][d] · p[k][lane]         blocks of 64 keys, highest score so far
//! ```
//! A single token has too few queries for that: see `decode.rs`.

use super::decode::one_token_body;
use super::{Input, scalar};
use crate::cpu::Isa;
use crate::kernels::simd::{multiply_add, per_isa};
use crate::maths;

/// Keys per softmax step.
pub(super) const KEYS: usize = 64;
/// Keys or values whose products share a load of queries or probabilities.
const TILE: usize = 4;

per_isa! {
    /// Tokens from `first` on, as many as `out` holds, which is at most `block_tokens`.
    fn tokens(input: Input<'_>, first: usize, out: &mut [f32]) {
        scalar: scalar::attention, body: tokens_body
    }
}

per_isa! {
    /// The query heads of a single token that share key head `key_head`.
    fn one_token(input: Input<'_>, key_head: usize, out: &mut [f32]) {
        scalar: scalar::one_token, body: one_token_body
    }
}

/// How many tokens a call of `tokens` takes, so that their queries fill the lanes.
pub(super) fn block_tokens(isa: Isa, group: usize) -> usize {
    let lanes = if isa == Isa::Avx512 { 32 } else { 16 };
    (lanes / group).max(1)
}

#[inline(always)]
fn tokens_body<const FUSED: bool, const LANES: usize>(
    input: Input<'_>,
    first: usize,
    out: &mut [f32],
) {
    let heads = input.heads;
    let count = out.len() / (heads.queries * heads.dim);
    let mut state = State::<LANES>::new(heads.dim);
    // A group wider than the lanes is taken in several turns.
    let turn = heads.group().min(LANES / count);
    for key_head in 0..heads.keys {
        for start in (0..heads.group()).step_by(turn) {
            let used = turn.min(heads.group() - start);
            let head = key_head * heads.group() + start;
            let lanes = |lane: usize| (lane / used, head + lane % used);
            let rows = count * used;
            state.begin(input, first, rows, lanes);
            let seen = input.visible(first + count - 1);
            // Every lane sees a key of the first run: a block has fewer tokens than a run has keys.
            for from in (input.first(first)..seen).step_by(KEYS) {
                let keys = from..seen.min(from + KEYS);
                state.score::<FUSED>(input, keys.clone(), key_head);
                let token = |lane: usize| first + lanes(lane.min(rows - 1)).0;
                let visible = |lane| input.first(token(lane))..input.visible(token(lane));
                state.softmax(&keys, input.rule.cap, visible);
                state.add_values::<FUSED>(input, keys, key_head);
            }
            for lane in 0..rows {
                let (token, head) = lanes(lane);
                let place = (token * heads.queries + head) * heads.dim;
                state.finish(lane, &mut out[place..][..heads.dim]);
            }
        }
    }
}

/// The running softmax of one query per lane.
struct State<const LANES: usize> {
    /// Queries times the scale, `[dim][lane]`.
    queries: Vec<[f32; LANES]>,
    /// Weighted values so far, `[dim][lane]`.
    sums: Vec<[f32; LANES]>,
    /// Scores, then probabilities, of a block of keys.
    scores: [[f32; LANES]; KEYS],
    highest: [f32; LANES],
    total: [f32; LANES],
    /// What the sums so far are multiplied with, because the highest score rose.
    rescale: [f32; LANES],
}

impl<const LANES: usize> State<LANES> {
    #[inline(always)]
    fn new(dim: usize) -> Self {
        Self {
            queries: vec![[0.0; LANES]; dim],
            sums: vec![[0.0; LANES]; dim],
            scores: [[0.0; LANES]; KEYS],
            highest: [0.0; LANES],
            total: [0.0; LANES],
            rescale: [0.0; LANES],
        }
    }

    /// Takes the queries of `rows` lanes; the lanes beyond them are zero.
    #[inline(always)]
    fn begin(
        &mut self,
        input: Input<'_>,
        first: usize,
        rows: usize,
        lanes: impl Fn(usize) -> (usize, usize),
    ) {
        let scale = input.rule.scale;
        self.queries.fill([0.0; LANES]);
        for lane in 0..rows {
            let (token, head) = lanes(lane);
            let query = input.query(first + token, head);
            for (to, q) in self.queries.iter_mut().zip(query) {
                to[lane] = q * scale;
            }
        }
        self.sums.fill([0.0; LANES]);
        self.highest = [f32::NEG_INFINITY; LANES];
        self.total = [0.0; LANES];
    }

    #[inline(always)]
    fn score<const FUSED: bool>(
        &mut self,
        input: Input<'_>,
        keys: std::ops::Range<usize>,
        head: usize,
    ) {
        let mut tiles = self.scores.chunks_exact_mut(TILE);
        for (i, tile) in tiles.by_ref().take(keys.len() / TILE).enumerate() {
            let rows = std::array::from_fn(|t| input.key(keys.start + i * TILE + t, head));
            dots::<FUSED, LANES, TILE>(&self.queries, rows, tile);
        }
        for k in keys.len() / TILE * TILE..keys.len() {
            let row = input.key(keys.start + k, head);
            dots::<FUSED, LANES, 1>(&self.queries, [row], &mut self.scores[k..=k]);
        }
    }

    /// Turns the scores of `keys` into probabilities; lane l sees the positions `visible(l)`.
    #[inline(always)]
    fn softmax(
        &mut self,
        keys: &std::ops::Range<usize>,
        cap: Option<f32>,
        visible: impl Fn(usize) -> std::ops::Range<usize>,
    ) {
        let scores = &mut self.scores[..keys.len()];
        if let Some(cap) = cap {
            for score in scores.iter_mut() {
                for s in score {
                    *s = maths::cap(*s, cap);
                }
            }
        }
        for lane in 0..LANES {
            let seen = visible(lane);
            let until = seen.end.saturating_sub(keys.start);
            for score in scores.iter_mut().skip(until) {
                score[lane] = f32::NEG_INFINITY;
            }
            let behind = seen.start.saturating_sub(keys.start);
            for score in scores.iter_mut().take(behind) {
                score[lane] = f32::NEG_INFINITY;
            }
        }
        let mut highest = self.highest;
        for score in scores.iter() {
            for (h, s) in highest.iter_mut().zip(score) {
                *h = if *s > *h { *s } else { *h };
            }
        }
        let mut block = [0.0f32; LANES];
        for score in scores {
            for l in 0..LANES {
                score[l] = maths::exp(score[l] - highest[l]);
                block[l] += score[l];
            }
        }
        for l in 0..LANES {
            self.rescale[l] = maths::exp(self.highest[l] - highest[l]);
            self.total[l] = self.total[l] * self.rescale[l] + block[l];
        }
        self.highest = highest;
    }

    #[inline(always)]
    fn add_values<const FUSED: bool>(
        &mut self,
        input: Input<'_>,
        keys: std::ops::Range<usize>,
        head: usize,
    ) {
        let probabilities = &self.scores[..keys.len()];
        let heads = input.heads;
        let values = &input.values[(keys.start * heads.keys + head) * heads.dim..];
        let stride = heads.keys * heads.dim;
        let (tiles, rest) = self.sums.as_chunks_mut::<TILE>();
        let whole = tiles.len() * TILE;
        for (i, sums) in tiles.iter_mut().enumerate() {
            let values = &values[i * TILE..];
            weigh::<FUSED, LANES, TILE>(probabilities, values, stride, &self.rescale, sums);
        }
        for (i, sums) in rest.iter_mut().enumerate() {
            let sums = std::array::from_mut(sums);
            let values = &values[whole + i..];
            weigh::<FUSED, LANES, 1>(probabilities, values, stride, &self.rescale, sums);
        }
    }

    #[inline(always)]
    fn finish(&self, lane: usize, out: &mut [f32]) {
        for (o, s) in out.iter_mut().zip(&self.sums) {
            *o = s[lane] / self.total[lane];
        }
    }
}

/// `out[n][lane] = Σ_d keys[n][d] · queries[d][lane]`.
#[inline(always)]
fn dots<const FUSED: bool, const LANES: usize, const N: usize>(
    queries: &[[f32; LANES]],
    keys: [&[f32]; N],
    out: &mut [[f32; LANES]],
) {
    let mut sums = [[0.0f32; LANES]; N];
    for (d, query) in queries.iter().enumerate() {
        for n in 0..N {
            let key = keys[n][d];
            for l in 0..LANES {
                sums[n][l] = multiply_add::<FUSED>(key, query[l], sums[n][l]);
            }
        }
    }
    out.copy_from_slice(&sums);
}

/// `sums[n][lane] = sums[n][lane] · rescale[lane] + Σ_k values[k · stride + n] · p[k][lane]`.
#[inline(always)]
fn weigh<const FUSED: bool, const LANES: usize, const N: usize>(
    probabilities: &[[f32; LANES]],
    values: &[f32],
    stride: usize,
    rescale: &[f32; LANES],
    sums: &mut [[f32; LANES]; N],
) {
    let mut acc = *sums;
    for a in &mut acc {
        for l in 0..LANES {
            a[l] *= rescale[l];
        }
    }
    for (k, p) in probabilities.iter().enumerate() {
        let value = &values[k * stride..][..N];
        for n in 0..N {
            for l in 0..LANES {
                acc[n][l] = multiply_add::<FUSED>(value[n], p[l], acc[n][l]);
            }
        }
    }
    *sums = acc;
}
