//! Rotary embedding: each head's pair `(x_i, x_{i + d/2})` turned by the angle of its position.
//!
//! ```text
//! a = x[i], b = x[i + d/2]      x[i]       ← a · cos − b · sin
//! c = cos[token, i], s = sin …  x[i + d/2] ← b · cos + a · sin
//! ```
//! `x` is `[tokens, heads, d]`, the tables are `[tokens, d/2]`; `model/rotary.rs` fills them. Some
//! families turn only the first part of a head, or pair neighbours: see [`Turn`].
//! Bound: `|y − ref| ≤ 2 · ε · (|a · cos| + |b · sin|)` with f32's ε.

#[cfg(feature = "gpu")]
pub(crate) mod gpu;
mod scalar;
mod simd;

use crate::cpu::Cpu;

/// Values above which work is spread over threads.
const PARALLEL_FROM: usize = 1 << 17;

/// Which values of a head are pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Width of a head; at least `2 · half`.
    pub dim: usize,
    /// Pairs that are turned; the values behind them stay.
    pub half: usize,
    /// Pairs are `(x[2i], x[2i + 1])` instead of `(x[i], x[i + half])`.
    pub interleaved: bool,
}

impl Turn {
    /// Whole heads of `2 · half` values, paired by halves.
    pub fn whole(half: usize) -> Self {
        Self {
            dim: 2 * half,
            half,
            interleaved: false,
        }
    }
}

/// Rotates `x [tokens, heads · turn.dim]` in place by `cos` and `sin`, each `[tokens, turn.half]`.
pub fn rope(cpu: &Cpu, x: &mut [f32], cos: &[f32], sin: &[f32], turn: Turn) {
    let half = turn.half;
    assert_eq!(cos.len(), sin.len(), "one sine per cosine");
    let tokens = cos.len() / half;
    if tokens == 0 {
        return;
    }
    assert!(
        2 * half <= turn.dim && x.len().is_multiple_of(tokens * turn.dim),
        "whole heads of {turn:?}"
    );
    let parallel = x.len() >= PARALLEL_FROM;
    cpu.run_chunks(x, x.len() / tokens, parallel, |token, heads| {
        let angles = token * half..(token + 1) * half;
        simd::rotate(cpu.isa, heads, &cos[angles.clone()], &sin[angles], turn);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{each_isa, random};

    fn check(cpu: &Cpu, (tokens, heads): (usize, usize), turn: Turn) {
        let Turn { dim, half, .. } = turn;
        let x = random(half as u64, tokens * heads * dim, 3.0);
        let angles = random(5, tokens * half, 1.0);
        let cos: Vec<_> = angles.iter().map(|a| a.cos()).collect();
        let sin: Vec<_> = angles.iter().map(|a| a.sin()).collect();
        let (mut got, mut want) = (x.clone(), x.clone());
        rope(cpu, &mut got, &cos, &sin, turn);
        for (t, heads) in want.chunks_mut(heads * dim).enumerate() {
            let angles = t * half..(t + 1) * half;
            scalar::rotate(heads, &cos[angles.clone()], &sin[angles], turn);
        }
        for (i, (g, w)) in got.iter().zip(&want).enumerate() {
            let at = i % dim;
            let pair = match turn.interleaved {
                _ if at >= 2 * half => {
                    assert_eq!(*g, x[i], "{cpu:?} {turn:?}: behind the turned part");
                    continue;
                }
                true => i ^ 1,
                false if at < half => i + half,
                false => i - half,
            };
            let bound = 2.0 * f32::EPSILON * (x[i].abs() + x[pair].abs());
            assert!((g - w).abs() <= bound, "{cpu:?} {turn:?}: {g} for {w}");
        }
    }

    #[test]
    fn every_isa_is_within_the_bound() {
        for cpu in each_isa() {
            for (tokens, heads, half) in [(1, 1, 1), (3, 2, 5), (2, 7, 32), (5, 3, 33)] {
                for (interleaved, rest) in [(false, 0), (false, 6), (true, 0), (true, 4)] {
                    let dim = 2 * half + rest;
                    let turn = Turn {
                        dim,
                        half,
                        interleaved,
                    };
                    check(&cpu, (tokens, heads), turn);
                }
            }
        }
    }

    #[test]
    fn pairs_are_the_halves_or_the_neighbours() {
        let turned = |interleaved| {
            let mut x = [1.0, 2.0, 3.0, 4.0, 5.0];
            let turn = Turn {
                dim: 5,
                half: 2,
                interleaved,
            };
            // A quarter turn takes (a, b) to (−b, a); the second pair stays.
            rope(&Cpu::single(), &mut x, &[0.0, 1.0], &[1.0, 0.0], turn);
            x
        };
        assert_eq!(turned(false), [-3.0, 2.0, 1.0, 4.0, 5.0]);
        assert_eq!(turned(true), [-2.0, 1.0, 3.0, 4.0, 5.0]);
    }
}
