//! Multi-head latent attention: queries, keys and values of heads from what a narrow vector gave.
//!
//! ```text
//! Q              [heads, nope + rope]     the last part of each head is rotated here
//! KeysAndValues  [heads, nope + value]    k and v, side by side
//! KeyTurn        [rope]                   rotated here, the same for every head
//! K              [heads, nope + rope]     (k, KeyTurn)
//! V              [heads, nope + rope]     (v, zeros)
//! ```
//! Values get the width of keys, so that the attention kernel has one width. The cache holds whole
//! heads, not the narrow vector: more memory, less work for each token.

use super::config::Latent;
use super::ops::Slot;
use super::scratch::index;
use crate::cpu::Cpu;
use crate::kernels::rope::{Turn, rope};

/// Makes Q, K and V of one pass, `[tokens, heads, nope + rope]`.
pub(super) fn heads(
    cpu: &Cpu,
    (latent, heads): (Latent, usize),
    slots: &mut [Vec<f32>],
    (cos, sin, turn): (&[f32], &[f32], Turn),
) {
    let Latent {
        nope,
        rope: turned,
        value,
        ..
    } = latent;
    let dim = nope + turned;
    let q = &mut slots[index(Slot::Q)];
    let mut parts: Vec<f32> = q
        .chunks(dim)
        .flat_map(|head| &head[nope..])
        .copied()
        .collect();
    rope(cpu, &mut parts, cos, sin, turn);
    for (head, part) in q.chunks_mut(dim).zip(parts.chunks(turned)) {
        head[nope..].copy_from_slice(part);
    }
    rope(cpu, &mut slots[index(Slot::KeyTurn)], cos, sin, turn);

    let len = slots[index(Slot::Q)].len();
    let mut keys = std::mem::take(&mut slots[index(Slot::K)]);
    let mut values = std::mem::take(&mut slots[index(Slot::V)]);
    keys.resize(len, 0.0);
    values.resize(len, 0.0);
    let both = slots[index(Slot::KeysAndValues)].chunks(nope + value);
    let out = keys.chunks_mut(dim).zip(values.chunks_mut(dim));
    for (i, ((key, values), both)) in out.zip(both).enumerate() {
        key[..nope].copy_from_slice(&both[..nope]);
        let token = i / heads * turned;
        key[nope..].copy_from_slice(&slots[index(Slot::KeyTurn)][token..][..turned]);
        values[..value].copy_from_slice(&both[nope..]);
        values[value..].fill(0.0);
    }
    slots[index(Slot::K)] = keys;
    slots[index(Slot::V)] = values;
}

/// Keeps the first `value` of each `dim` values.
pub(super) fn cut(attended: &mut Vec<f32>, dim: usize, value: usize) {
    let heads = attended.len() / dim;
    for head in 0..heads {
        attended.copy_within(head * dim..head * dim + value, head * value);
    }
    attended.truncate(heads * value);
}
