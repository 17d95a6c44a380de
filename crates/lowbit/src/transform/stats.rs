//! What calibration keeps of the inputs of linears that share them.

use crate::cpu::Cpu;
use crate::round::hessian::Hessian;

/// Columns of one task.
const COLUMNS: usize = 64;

/// Second moments, ranges and mean sizes of the inputs, by channel.
#[derive(Debug)]
pub struct InputStats {
    /// Second moments.
    pub hessian: Hessian,
    /// Smallest input of each channel; infinite before the first.
    pub min: Vec<f32>,
    /// Largest input of each channel; minus infinity before the first.
    pub max: Vec<f32>,
    /// Σ|x| of each channel.
    pub sum_abs: Vec<f64>,
}

/// What the inputs of one call were, for a few neighbouring channels.
#[derive(Clone, Copy)]
struct Seen {
    min: [f32; COLUMNS],
    max: [f32; COLUMNS],
    sum: [f32; COLUMNS],
}

const UNSEEN: Seen = Seen {
    min: [f32::INFINITY; COLUMNS],
    max: [f32::NEG_INFINITY; COLUMNS],
    sum: [0.0; COLUMNS],
};

impl InputStats {
    /// No inputs yet; `n` is the width of the input.
    pub fn new(n: usize) -> Self {
        Self {
            hessian: Hessian::new(n),
            min: vec![f32::INFINITY; n],
            max: vec![f32::NEG_INFINITY; n],
            sum_abs: vec![0.0; n],
        }
    }

    /// Bytes that one of width `n` takes while inputs are added.
    pub const fn bytes(n: usize) -> u64 {
        Hessian::bytes(n) + 16 * n as u64
    }

    /// Adds inputs `[tokens, n]`, all finite. The sums depend on how inputs were cut into calls,
    /// never on threads.
    pub fn add(&mut self, cpu: &Cpu, x: &[f32]) {
        self.hessian.add(cpu, x);
        self.add_ranges(cpu, x);
    }

    /// The same without second moments, for whoever sums those elsewhere.
    pub fn add_ranges(&mut self, cpu: &Cpu, x: &[f32]) {
        let n = self.min.len();
        let mut seen = vec![UNSEEN; n.div_ceil(COLUMNS)];
        cpu.run_chunks(&mut seen, 1, x.len() > 1 << 14, |chunk, seen| {
            let (from, to) = (chunk * COLUMNS, n.min((chunk + 1) * COLUMNS));
            for token in x.chunks_exact(n) {
                seen[0].add(&token[from..to]);
            }
        });
        for (i, seen) in seen.iter().enumerate() {
            let to = COLUMNS.min(n - i * COLUMNS);
            for l in 0..to {
                let j = i * COLUMNS + l;
                self.min[j] = self.min[j].min(seen.min[l]);
                self.max[j] = self.max[j].max(seen.max[l]);
                self.sum_abs[j] += f64::from(seen.sum[l]);
            }
        }
    }

    /// Ends the sums; nothing can be added afterwards.
    pub fn finish(&mut self, cpu: &Cpu) {
        self.hessian.finish(cpu);
    }

    /// The same for inputs that are divided by `s`, one positive factor per channel.
    pub fn rescale(&mut self, s: &[f32]) {
        self.hessian.rescale(s);
        for (j, s) in s.iter().enumerate() {
            self.min[j] /= s;
            self.max[j] /= s;
            self.sum_abs[j] /= f64::from(*s);
        }
    }

    /// E[x²] of each channel, after `finish`.
    pub fn importance(&self) -> Vec<f32> {
        // H carries a factor 2 by convention.
        let diagonal = self.hessian.diagonal();
        diagonal.iter().map(|h| (h / 2.0) as f32).collect()
    }

    /// max|x| of each channel; 0 when nothing was seen.
    pub fn absmax(&self) -> Vec<f32> {
        let largest = |(min, max): (&f32, &f32)| if min > max { 0.0 } else { max.max(-min) };
        self.min.iter().zip(&self.max).map(largest).collect()
    }

    /// E|x| of each channel; 0 when nothing was seen.
    pub fn mean_abs(&self) -> Vec<f64> {
        let tokens = self.hessian.tokens().max(1) as f64;
        self.sum_abs.iter().map(|s| s / tokens).collect()
    }
}

impl Seen {
    #[inline(always)]
    fn add(&mut self, x: &[f32]) {
        let edges = self.min.iter_mut().zip(&mut self.max);
        for (((min, max), sum), x) in edges.zip(&mut self.sum).zip(x) {
            *min = if *x < *min { *x } else { *min };
            *max = if *x > *max { *x } else { *max };
            *sum += x.abs();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;

    #[test]
    fn statistics_are_those_of_the_inputs_and_follow_their_scale() {
        let n = 70;
        let x: Vec<f32> = (0..5 * n).map(|i| ((i * 37 % 101) as f32) - 40.0).collect();
        let cpu = Cpu::new(Isa::detect(), 2).unwrap();
        let mut stats = InputStats::new(n);
        assert_eq!(stats.absmax(), vec![0.0; n], "nothing was seen");
        stats.add(&cpu, &x[..2 * n]);
        stats.add(&cpu, &x[2 * n..]);
        stats.finish(&cpu);
        let s: Vec<f32> = (0..n).map(|j| if j % 2 == 0 { 2.0 } else { 0.5 }).collect();
        let scaled: Vec<f32> = x.iter().enumerate().map(|(i, x)| x / s[i % n]).collect();
        let mut wanted = InputStats::new(n);
        wanted.add(&cpu, &scaled);
        wanted.finish(&cpu);
        stats.rescale(&s);
        assert_eq!((&stats.min, &stats.max), (&wanted.min, &wanted.max));
        for j in 0..n {
            let column = || scaled.iter().skip(j).step_by(n).copied();
            assert_eq!(
                stats.absmax()[j],
                column().map(f32::abs).fold(0.0, f32::max)
            );
            let mean = column().map(|x| f64::from(x.abs())).sum::<f64>() / 5.0;
            assert!((stats.mean_abs()[j] - mean).abs() < 1e-5);
            let square = column().map(|x| x * x).sum::<f32>() / 5.0;
            assert!((stats.importance()[j] - square).abs() <= 1e-5 * square);
        }
    }
}
