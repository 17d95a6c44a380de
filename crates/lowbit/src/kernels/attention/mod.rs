//! Attention of m new tokens over n cached positions, grouped queries.
//!
//! ```text
//! out[i, h] = Σ_k p[k] · V[k, h / group]       p = softmax over k of cap(scale · Q[i, h] · K[k, h / group])
//!                                             n − m + i − window < k ≤ n − m + i, or all k < n
//! cap(s) = c · tanh(s / c), or s               scale = 1 / √d, mostly
//!
//! q, out         [m, heads, d]                 group = heads / kv_heads queries share a key head
//! keys, values   [n, kv_heads, d]              the new tokens are the last m of n
//! ```
//! Scores, exponentials and sums are f32; the highest score is subtracted first.
//! Bound: `|y − ref| ≤ (log₂ d + log₂ n + 8) · ε · (1 + max_k Σ|q · k| · scale) · Σ p·|v|` with f32's
//! ε: a score's absolute error is its probability's relative one.

mod decode;
#[cfg(feature = "gpu")]
pub(crate) mod gpu;
mod scalar;
mod simd;

use crate::cpu::Cpu;

/// Sizes of the heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub queries: usize,
    /// Key and value heads; divides `queries`.
    pub keys: usize,
    /// Width of a head.
    pub dim: usize,
}

impl Heads {
    /// Query heads that share a key head.
    pub fn group(&self) -> usize {
        self.queries / self.keys
    }
}

/// How scores are made, and which positions count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// Scores are multiplied with it.
    pub scale: f32,
    /// Scores are squeezed into ± this by tanh (soft-capping).
    pub cap: Option<f32>,
    /// A token sees this many positions, itself included; at least 1.
    pub window: Option<usize>,
    /// A token sees nothing behind itself; else all positions, and there is no window.
    pub causal: bool,
}

impl Rule {
    /// Every earlier position, scores over √`dim`.
    pub fn plain(dim: usize) -> Self {
        Self {
            scale: 1.0 / (dim as f32).sqrt(),
            cap: None,
            window: None,
            causal: true,
        }
    }
}

/// What attention reads.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Queries of the new tokens, `[m, heads.queries, heads.dim]`.
    pub q: &'a [f32],
    /// Keys of all positions, `[n, heads.keys, heads.dim]`.
    pub keys: &'a [f32],
    /// Values of all positions, the same shape.
    pub values: &'a [f32],
    /// Sizes of the heads.
    pub heads: Heads,
    /// How scores are made.
    pub rule: Rule,
}

impl Input<'_> {
    fn tokens(&self) -> usize {
        self.q.len() / (self.heads.queries * self.heads.dim)
    }

    fn positions(&self) -> usize {
        self.keys.len() / (self.heads.keys * self.heads.dim)
    }

    /// End of the positions that new token `token` sees.
    fn visible(&self, token: usize) -> usize {
        if !self.rule.causal {
            return self.positions();
        }
        self.positions() - self.tokens() + token + 1
    }

    /// First position that new token `token` sees.
    fn first(&self, token: usize) -> usize {
        let window = self.rule.window.unwrap_or(usize::MAX);
        self.visible(token).saturating_sub(window)
    }

    /// Query head `head` of `token`.
    #[inline(always)]
    fn query(&self, token: usize, head: usize) -> &[f32] {
        &self.q[(token * self.heads.queries + head) * self.heads.dim..][..self.heads.dim]
    }

    /// Key head `head` at `position`.
    #[inline(always)]
    fn key(&self, position: usize, head: usize) -> &[f32] {
        &self.keys[(position * self.heads.keys + head) * self.heads.dim..][..self.heads.dim]
    }

    /// Value head `head` at `position`.
    #[inline(always)]
    fn value(&self, position: usize, head: usize) -> &[f32] {
        &self.values[(position * self.heads.keys + head) * self.heads.dim..][..self.heads.dim]
    }
}

/// Products above which work is spread over threads.
const PARALLEL_FROM: usize = 1 << 18;

/// Writes `out [m, heads.queries, heads.dim]`.
pub fn attention(cpu: &Cpu, input: Input<'_>, out: &mut [f32]) {
    let Heads { queries, keys, dim } = input.heads;
    assert_eq!(input.keys.len(), input.values.len(), "one value per key");
    assert_eq!(input.q.len(), out.len(), "one output per query");
    assert!(
        queries.is_multiple_of(keys) && input.positions() >= input.tokens(),
        "{:?} with {} tokens of {} positions",
        input.heads,
        input.tokens(),
        input.positions()
    );
    assert!(
        input.rule.window != Some(0) && (input.rule.causal || input.rule.window.is_none()),
        "a token sees itself, and a window looks back"
    );
    let parallel = out.len() * input.positions() >= PARALLEL_FROM;
    if input.tokens() == 1 {
        let group = input.heads.group();
        cpu.run_chunks(out, group * dim, parallel, |head, out| {
            simd::one_token(cpu.isa, input, head, out);
        });
        return;
    }
    let block = simd::block_tokens(cpu.isa, input.heads.group());
    cpu.run_chunks(out, block * queries * dim, parallel, |i, out| {
        simd::tokens(cpu.isa, input, i * block, out);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{each_isa, random};

    fn check(cpu: &Cpu, heads: Heads, m: usize, n: usize, (size, rule): (f32, Rule)) {
        let q = random(n as u64, m * heads.queries * heads.dim, size);
        let keys = random(2, n * heads.keys * heads.dim, size);
        let values = random(3, n * heads.keys * heads.dim, 1.0);
        let input = Input {
            q: &q,
            keys: &keys,
            values: &values,
            heads,
            rule,
        };
        let (mut got, mut want) = (vec![f32::NAN; q.len()], vec![0.0; q.len()]);
        attention(cpu, input, &mut got);
        scalar::attention(input, 0, &mut want);
        let widest = scalar::widest_score(input);
        let c = (heads.dim as f32).log2() + (n as f32).log2() + 8.0;
        // Values are below 1, so Σ p·|v| is too.
        let bound = c * f32::EPSILON * (1.0 + widest);
        let worst = got.iter().zip(&want).map(|(g, w)| (g - w).abs());
        let worst = worst.fold(0.0, |a: f32, b| if b > a || b.is_nan() { b } else { a });
        assert!(
            worst <= bound,
            "{cpu:?} {heads:?} {rule:?} m={m} n={n}: {worst} over {bound}"
        );
    }

    #[test]
    fn every_isa_is_within_the_bound() {
        let shapes = [
            (1, 1, 2, 1, 1),
            (3, 1, 7, 1, 9),
            (4, 2, 64, 1, 129),
            (2, 2, 33, 2, 2),
            (6, 3, 10, 7, 31),
            (4, 2, 64, 128, 128),
            (8, 1, 128, 9, 257),
            (5, 5, 16, 65, 65),
            (40, 1, 8, 3, 5),
        ];
        for cpu in each_isa() {
            for (queries, keys, dim, m, n) in shapes {
                let heads = Heads { queries, keys, dim };
                for size in [0.1, 1.0, 8.0] {
                    check(&cpu, heads, m, n, (size, Rule::plain(dim)));
                    let causal = false;
                    let both_ways = Rule {
                        causal,
                        ..Rule::plain(dim)
                    };
                    check(&cpu, heads, m, n, (size, both_ways));
                }
                for (window, cap) in [(1, None), (3, Some(2.0)), (64, None), (70, Some(50.0))] {
                    let (scale, window, causal) = (0.3, Some(window), true);
                    let rule = Rule {
                        scale,
                        cap,
                        window,
                        causal,
                    };
                    check(&cpu, heads, m, n, (1.0, rule));
                }
            }
        }
    }

    #[test]
    fn nan_is_kept() {
        let heads = Heads {
            queries: 2,
            keys: 1,
            dim: 4,
        };
        for cpu in each_isa() {
            for m in [1, 3] {
                let mut keys = random(1, 3 * 4, 1.0);
                keys[1] = f32::NAN;
                let (q, values) = (random(2, m * 8, 1.0), random(3, 12, 1.0));
                let mut out = vec![0.0; m * 8];
                let input = Input {
                    q: &q,
                    keys: &keys,
                    values: &values,
                    heads,
                    rule: Rule::plain(4),
                };
                attention(&cpu, input, &mut out);
                assert!(out.iter().all(|x| x.is_nan()), "{cpu:?} m={m}: {out:?}");
            }
        }
    }

    #[test]
    fn what_is_behind_the_window_counts_for_nothing() {
        let heads = Heads {
            queries: 2,
            keys: 1,
            dim: 4,
        };
        for cpu in each_isa() {
            for m in [1, 3] {
                let (mut keys, mut values) = (random(1, 9 * 4, 1.0), random(3, 36, 1.0));
                let q = random(2, m * 8, 1.0);
                let rule = Rule {
                    window: Some(2),
                    ..Rule::plain(4)
                };
                let run = |keys: &[f32], values: &[f32]| {
                    let (q, mut out) = (&q, vec![0.0; m * 8]);
                    let input = Input {
                        q,
                        keys,
                        values,
                        heads,
                        rule,
                    };
                    attention(&cpu, input, &mut out);
                    out
                };
                let before = run(&keys, &values);
                // The first new token of three sees positions 5 and 6.
                keys[..4 * (8 - m)].fill(f32::NAN);
                values[..4 * (8 - m)].fill(1e30);
                assert_eq!(run(&keys, &values), before, "{cpu:?} m={m}");
            }
        }
    }
}
