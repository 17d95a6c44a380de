//! Host side of `top_k.wgsl`: the passes over one row of logits, and what they leave.

use crate::error::{Code, Error, Result};
use crate::gpu::{Binding, Dispatch, Gpu, Grid, Shader};
use crate::maths::ln_f64;
use crate::session::Top;

pub(crate) const TOP_K: Shader = Shader {
    file: "kernels/top_k/top_k.wgsl",
    text: include_str!("top_k.wgsl"),
    bindings: &[
        Binding::Uniform,
        Binding::Read,
        Binding::Read,
        Binding::Write,
        Binding::Write,
        Binding::Write,
    ],
    constants: &["FIRST", "LAST"],
};

/// Logits that one workgroup sorts.
const TILE: usize = 1024;

/// Most candidates that the kernel gives; each pass shrinks them eightfold.
pub(crate) const KEEP: usize = 128;

/// Bytes in front of the candidates in the result.
const HEAD_BYTES: usize = 16;

/// The passes over one row, and the buffer that holds the result.
#[derive(Debug)]
pub(crate) struct TopK {
    pub(crate) passes: Vec<Dispatch>,
    pub(crate) result: wgpu::Buffer,
    vocabulary: usize,
}

impl TopK {
    /// Passes over the first `vocabulary` floats of `logits`.
    pub(crate) fn new(gpu: &Gpu, vocabulary: usize, logits: &wgpu::Buffer) -> Result<Self> {
        let tiles = vocabulary.div_ceil(TILE);
        let pairs = |tiles: usize| (tiles * KEEP * 8) as u64;
        // A pass reads what the one before wrote, so two buffers take turns.
        let turns = [
            gpu.storage("top_k candidates", pairs(tiles))?,
            gpu.storage("top_k candidates", pairs(tiles))?,
        ];
        let sums = gpu.storage("top_k sums", tiles as u64 * 16)?;
        let result = gpu.storage("top_k result", (HEAD_BYTES + KEEP * 8) as u64)?;
        let mut passes = Vec::new();
        let mut count = vocabulary;
        loop {
            let groups = count.div_ceil(TILE);
            let params = gpu.uniform("top_k", &[count as u32, tiles as u32, 0, 0])?;
            let first = u32::from(passes.is_empty());
            let last = u32::from(groups == 1);
            let (from, to) = (&turns[passes.len() % 2], &turns[(passes.len() + 1) % 2]);
            let buffers = [&params, logits, from, to, &sums, &result];
            let pipeline = gpu.pipeline(&TOP_K, &[first, last]);
            let grid = Grid::Tiles {
                count: groups as u32,
                tokens: 1,
            };
            passes.push(Dispatch::new(gpu, pipeline, &buffers, grid));
            if last == 1 {
                break;
            }
            count = groups * KEEP;
        }
        Ok(Self {
            passes,
            result,
            vocabulary,
        })
    }

    /// Bytes of the result that hold `k` candidates.
    pub(crate) fn bytes(k: usize) -> u64 {
        (HEAD_BYTES + k * 8) as u64
    }

    /// Reads the result's bytes; `nonfinite-logits` when a logit was NaN.
    pub(crate) fn parse(&self, bytes: &[u8]) -> Result<Top> {
        let words: Vec<u32> = bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| u32::from_le_bytes(*b))
            .collect();
        let (highest, sum) = (f32::from_bits(words[0]), f32::from_bits(words[1]));
        if words[2] > 0 || !highest.is_finite() || !sum.is_finite() {
            let what = format!("{} of {} logits are NaN", words[2], self.vocabulary);
            return Err(Error::new(Code::NonfiniteLogits, what));
        }
        let (mut ids, mut logits) = (Vec::new(), Vec::new());
        for pair in words[HEAD_BYTES / 4..].as_chunks::<2>().0 {
            if (pair[1] as usize) < self.vocabulary {
                logits.push(f32::from_bits(pair[0]));
                ids.push(pair[1]);
            }
        }
        let log_sum = (f64::from(highest) + ln_f64(f64::from(sum))) as f32;
        Ok(Top {
            ids,
            logits,
            log_sum,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::bytes_from_f32;
    use crate::gpu::testing::Bench;
    use crate::kernels::testing::random;
    use crate::session::top;

    fn found(bench: &Bench, logits: &[f32], k: usize) -> Result<Top> {
        let buffer = bench.gpu.upload("logits", &bytes_from_f32(logits)).unwrap();
        let top = TopK::new(&bench.gpu, logits.len(), &buffer).unwrap();
        let bytes = bench.bytes(&top.result, |pass| {
            for dispatch in &top.passes {
                dispatch.record(pass, 1);
            }
        });
        top.parse(&bytes[..TopK::bytes(k) as usize])
    }

    #[test]
    fn candidates_are_the_cpus() {
        let Some(bench) = Bench::new("top_k") else {
            return;
        };
        for n in [1, 2, 127, 1023, 1024, 1025, 9000, 151_936] {
            let mut logits = random(n as u64, n, 20.0);
            // Ties across tiles, and a logit of −∞.
            for i in (0..n).step_by(911) {
                logits[i] = 19.5;
            }
            if n > 2 {
                logits[2] = f32::NEG_INFINITY;
            }
            for k in [1, 40, KEEP] {
                let found = found(&bench, &logits, k).unwrap();
                let wanted = top::select(&logits, k.min(n)).unwrap();
                let finite = wanted.logits.iter().filter(|l| l.is_finite()).count();
                assert_eq!(
                    found.ids[..finite],
                    wanted.ids[..finite],
                    "{n} logits, k {k}"
                );
                assert_eq!(
                    found.logits[..finite],
                    wanted.logits[..finite],
                    "{n} logits, k {k}"
                );
                let error = (found.log_sum - wanted.log_sum).abs();
                assert!(error <= 1e-5, "{n} logits: log sum is {error:e} off");
            }
        }
    }

    #[test]
    fn nan_and_infinity_are_errors() {
        let Some(bench) = Bench::new("top_k with NaN") else {
            return;
        };
        for bad in [f32::NAN, f32::INFINITY] {
            let mut logits = random(1, 3000, 1.0);
            logits[2500] = bad;
            let e = found(&bench, &logits, 5).unwrap_err();
            assert_eq!(e.code, Code::NonfiniteLogits);
        }
    }
}
