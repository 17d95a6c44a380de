//! The specification of attention: f64, one query head at a time.

use super::Input;
use crate::maths;

/// Tokens from `first` on, as many as `out` holds.
pub(super) fn attention(input: Input<'_>, first: usize, out: &mut [f32]) {
    let heads = input.heads;
    for (i, out) in out.chunks_mut(heads.queries * heads.dim).enumerate() {
        for (head, out) in out.chunks_mut(heads.dim).enumerate() {
            one_head(input, first + i, head, out);
        }
    }
}

/// The query heads of a single token that share key head `key_head`.
pub(super) fn one_token(input: Input<'_>, key_head: usize, out: &mut [f32]) {
    let group = input.heads.group();
    for (i, out) in out.chunks_mut(input.heads.dim).enumerate() {
        one_head(input, 0, key_head * group + i, out);
    }
}

fn one_head(input: Input<'_>, token: usize, head: usize, out: &mut [f32]) {
    let key_head = head / input.heads.group();
    let (scale, first) = (f64::from(input.rule.scale), input.first(token));
    let mut probabilities = Vec::new();
    for k in first..input.visible(token) {
        let pairs = input.query(token, head).iter().zip(input.key(k, key_head));
        let dot: f64 = pairs.map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
        probabilities.push(match input.rule.cap.map(f64::from) {
            Some(cap) => cap * maths::tanh_f64(dot * scale / cap),
            None => dot * scale,
        });
    }
    let highest = probabilities
        .iter()
        .copied()
        .fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for p in &mut probabilities {
        *p = maths::exp_f64(*p - highest);
        sum += *p;
    }
    for (j, out) in out.iter_mut().enumerate() {
        let values = (first..).map(|k| f64::from(input.value(k, key_head)[j]));
        let weighted: f64 = probabilities.iter().zip(values).map(|(p, v)| p * v).sum();
        *out = (weighted / sum) as f32;
    }
}

/// `max Σ|q · k| · scale` over all pairs: what the bound is stated in.
#[cfg(test)]
pub(super) fn widest_score(input: Input<'_>) -> f32 {
    let mut widest = 0.0f32;
    for token in 0..input.tokens() {
        for head in 0..input.heads.queries {
            for k in 0..input.visible(token) {
                let key = input.key(k, head / input.heads.group());
                let pairs = input.query(token, head).iter().zip(key);
                widest = widest.max(pairs.map(|(q, k)| (q * k).abs()).sum());
            }
        }
    }
    widest * input.rule.scale
}
