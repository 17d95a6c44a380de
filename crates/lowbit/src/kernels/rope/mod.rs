//! Rotary embedding: each head's pair `(x_i, x_{i + d/2})` turned by the angle of its position.
//!
//! ```text
//! a = x[i], b = x[i + d/2]      x[i]       ← a · cos − b · sin
//! c = cos[token, i], s = sin …  x[i + d/2] ← b · cos + a · sin
//! ```
//! `x` is `[tokens, heads, d]`, the tables are `[tokens, d/2]`; `model/rotary.rs` fills them.
//! Bound: `|y − ref| ≤ 2 · ε · (|a · cos| + |b · sin|)` with f32's ε.

#[cfg(feature = "gpu")]
pub(crate) mod gpu;
mod scalar;
mod simd;

use crate::cpu::Cpu;

/// Values above which work is spread over threads.
const PARALLEL_FROM: usize = 1 << 17;

/// Rotates `x [tokens, heads · 2 · half]` in place by `cos` and `sin`, each `[tokens, half]`.
pub fn rope(cpu: &Cpu, x: &mut [f32], cos: &[f32], sin: &[f32], half: usize) {
    assert_eq!(cos.len(), sin.len(), "one sine per cosine");
    let tokens = cos.len() / half;
    if tokens == 0 {
        return;
    }
    assert!(
        x.len().is_multiple_of(tokens * 2 * half),
        "whole heads of {}",
        2 * half
    );
    let parallel = x.len() >= PARALLEL_FROM;
    cpu.run_chunks(x, x.len() / tokens, parallel, |token, heads| {
        let angles = token * half..(token + 1) * half;
        simd::rotate(cpu.isa, heads, &cos[angles.clone()], &sin[angles]);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{each_isa, random};

    fn check(cpu: &Cpu, (tokens, heads, half): (usize, usize, usize)) {
        let x = random(half as u64, tokens * heads * 2 * half, 3.0);
        let angles = random(5, tokens * half, 1.0);
        let cos: Vec<_> = angles.iter().map(|a| a.cos()).collect();
        let sin: Vec<_> = angles.iter().map(|a| a.sin()).collect();
        let (mut got, mut want) = (x.clone(), x.clone());
        rope(cpu, &mut got, &cos, &sin, half);
        for (t, heads) in want.chunks_mut(heads * 2 * half).enumerate() {
            let angles = t * half..(t + 1) * half;
            scalar::rotate(heads, &cos[angles.clone()], &sin[angles]);
        }
        for (i, (g, w)) in got.iter().zip(&want).enumerate() {
            let first = i / half % 2 == 0;
            let pair = if first { i + half } else { i - half };
            let bound = 2.0 * f32::EPSILON * (x[i].abs() + x[pair].abs());
            assert!((g - w).abs() <= bound, "{cpu:?} half={half}: {g} for {w}");
        }
    }

    #[test]
    fn every_isa_is_within_the_bound() {
        for cpu in each_isa() {
            for shape in [(1, 1, 1), (3, 2, 5), (2, 7, 32), (5, 3, 33)] {
                check(&cpu, shape);
            }
        }
    }
}
