//! Attention of a single token: few queries, so lanes run along the head and along the positions.
//!
//! Reading keys and values is what takes the time; each run of them is used by all queries of its
//! group while it is near.

use super::Input;
use super::simd::KEYS;
use crate::kernels::simd::multiply_add;
use crate::maths;

/// The query heads that share key head `key_head`; compiled per instruction set by `simd.rs`.
#[inline(always)]
pub(super) fn one_token_body<const FUSED: bool, const LANES: usize>(
    input: Input<'_>,
    key_head: usize,
    out: &mut [f32],
) {
    let (dim, group, first) = (input.heads.dim, input.heads.group(), input.first(0));
    let positions = input.positions() - first;
    let mut scores = vec![0.0f32; group * positions];
    for k in 0..positions {
        let key = input.key(first + k, key_head);
        for g in 0..group {
            let query = input.query(0, key_head * group + g);
            scores[g * positions + k] = dot::<FUSED>(query, key) * input.rule.scale;
        }
    }
    if let Some(cap) = input.rule.cap {
        for s in &mut scores {
            *s = maths::cap(*s, cap);
        }
    }
    for scores in scores.chunks_mut(positions) {
        let highest = scores
            .iter()
            .fold(f32::NEG_INFINITY, |h, s| if *s > h { *s } else { h });
        for s in scores.iter_mut() {
            *s = maths::exp(*s - highest);
        }
        let inverse = 1.0 / total(scores);
        for s in scores.iter_mut() {
            *s *= inverse;
        }
    }
    out.fill(0.0);
    // A run of values is used by the whole group while it is in the nearest cache.
    for from in (0..positions).step_by(KEYS) {
        let until = positions.min(from + KEYS);
        let values = &input.values[((first + from) * input.heads.keys + key_head) * dim..];
        for (out, scores) in out.chunks_mut(dim).zip(scores.chunks(positions)) {
            let probabilities = &scores[from..until];
            weigh_one::<FUSED, LANES>(probabilities, values, input.heads.keys * dim, out);
        }
    }
}

/// `out[d] += Σ_k p[k] · values[k · stride + d]`.
#[inline(always)]
fn weigh_one<const FUSED: bool, const LANES: usize>(
    probabilities: &[f32],
    values: &[f32],
    stride: usize,
    out: &mut [f32],
) {
    let (whole, rest) = out.as_chunks_mut::<LANES>();
    let done = whole.len() * LANES;
    for (i, out) in whole.iter_mut().enumerate() {
        let mut sums = *out;
        for (p, value) in probabilities.iter().zip(values[i * LANES..].chunks(stride)) {
            for (s, v) in sums.iter_mut().zip(&value[..LANES]) {
                *s = multiply_add::<FUSED>(*p, *v, *s);
            }
        }
        *out = sums;
    }
    for (d, out) in rest.iter_mut().enumerate() {
        for (k, p) in probabilities.iter().enumerate() {
            *out = multiply_add::<FUSED>(*p, values[k * stride + done + d], *out);
        }
    }
}

#[inline(always)]
fn dot<const FUSED: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    let (whole_a, rest_a) = a.as_chunks::<16>();
    let (whole_b, rest_b) = b.as_chunks::<16>();
    for (a, b) in whole_a.iter().zip(whole_b) {
        for l in 0..16 {
            sums[l] = multiply_add::<FUSED>(a[l], b[l], sums[l]);
        }
    }
    if !rest_a.is_empty() {
        for (s, (a, b)) in sums.iter_mut().zip(rest_a.iter().zip(rest_b)) {
            *s = multiply_add::<FUSED>(*a, *b, *s);
        }
    }
    fold(sums)
}

#[inline(always)]
fn total(values: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    for chunk in values.chunks(16) {
        for (s, v) in sums.iter_mut().zip(chunk) {
            *s += v;
        }
    }
    fold(sums)
}

#[inline(always)]
fn fold(mut sums: [f32; 16]) -> f32 {
    for width in [8, 4, 2, 1] {
        for l in 0..width {
            sums[l] += sums[l + width];
        }
    }
    sums[0]
}
