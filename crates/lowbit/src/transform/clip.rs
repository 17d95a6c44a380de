//! AWQ's clipping (arXiv 2306.00978, §4): large weights of a group give way where outputs gain.
//!
//! ```text
//! max|w| · (1 − i/20), i = 0 … 9      loss of a group = dᵀ·H_group·d,   d = w − Q(clamp(w))
//! ```
//! Groups are judged alone, by their own block of H, as the original does by their own inputs.

use super::Matrix;
use super::curvature::Curvature;
use super::score::{Rounding, rounded};
use super::stats::InputStats;
use crate::cpu::Cpu;
use crate::error::Result;
use crate::model::ops::Part;
use crate::round::RoundOptions;
use crate::scheme::Scheme;

/// Steps of the grid of ranges.
const GRID: usize = 20;
/// Ranges tried, from the whole one down to half of it.
const TRIED: usize = 10;
/// Weights of one step.
const STEP_WEIGHTS: usize = 1 << 20;

/// The clipping of one matrix under way.
#[derive(Debug)]
pub struct Clipping {
    scheme: Scheme,
    options: RoundOptions,
    group: usize,
    curvatures: Vec<Curvature>,
    /// E[x²] of each column.
    importance: Vec<f32>,
    next: usize,
    losses: (f64, f64),
}

/// Whether clipping leaves a part alone: queries and keys, whose product is softmax's input.
pub fn skips(part: Part) -> bool {
    matches!(part, Part::Q | Part::K)
}

impl Clipping {
    /// Starts on a matrix with `cols` inputs, whose statistics are `stats`.
    pub fn new(
        cpu: &Cpu,
        cols: usize,
        stats: &InputStats,
        scheme: Scheme,
        options: RoundOptions,
    ) -> Result<Self> {
        let group = scheme.group_cols(cols)?;
        let ranges = (0..cols / group).map(|g| g * group..(g + 1) * group);
        let curvature = |inputs| Curvature::new(cpu, &stats.hessian, inputs);
        Ok(Self {
            scheme,
            options,
            group,
            curvatures: ranges.map(curvature).collect::<Result<_>>()?,
            importance: stats.importance(),
            next: 0,
            losses: (0.0, 0.0),
        })
    }

    /// Clips some rows of the matrix; whether those were the last.
    pub fn step(&mut self, cpu: &Cpu, matrix: &mut Matrix) -> Result<bool> {
        let cols = matrix.cols;
        let rows = STEP_WEIGHTS.div_ceil(cols).min(matrix.rows - self.next);
        let values = &mut matrix.values[self.next * cols..][..rows * cols];
        let groups = cols / self.group;
        let mut best = vec![(0usize, f64::INFINITY); rows * groups];
        for step in 0..TRIED {
            let losses = self.losses_of(cpu, values, cols, step)?;
            for (best, loss) in best.iter_mut().zip(losses) {
                self.losses.0 += if step == 0 { loss } else { 0.0 };
                if loss < best.1 {
                    *best = (step, loss);
                }
            }
        }
        let runs = values.chunks_exact_mut(self.group);
        for (run, (step, loss)) in runs.zip(best) {
            self.losses.1 += loss;
            clamp(run, step);
        }
        self.next += rows;
        Ok(self.next == matrix.rows)
    }

    /// Squared output error before and after, summed over groups.
    pub fn losses(&self) -> (f64, f64) {
        self.losses
    }

    /// The loss of each group of some rows, `[rows, groups]`, with its range shrunk.
    fn losses_of(&self, cpu: &Cpu, values: &[f32], cols: usize, step: usize) -> Result<Vec<f64>> {
        let mut clamped = values.to_vec();
        clamped
            .chunks_exact_mut(self.group)
            .for_each(|run| clamp(run, step));
        let rounding = Rounding {
            scheme: &self.scheme,
            options: &self.options,
        };
        let mut d = rounded(cpu, (&clamped, cols), &self.importance, rounding)?;
        d.iter_mut().zip(values).for_each(|(q, w)| *q -= w);
        let groups = self.curvatures.len();
        let mut losses = vec![0.0; d.len() / self.group];
        for (g, curvature) in self.curvatures.iter().enumerate() {
            let of_group: Vec<f32> = d
                .chunks_exact(cols)
                .flat_map(|row| &row[g * self.group..][..self.group])
                .copied()
                .collect();
            let found = curvature.rows(cpu, &of_group);
            for (loss, found) in losses[g..].iter_mut().step_by(groups).zip(found) {
                *loss = found;
            }
        }
        Ok(losses)
    }
}

/// Shrinks the range of a group by `step` of the grid.
fn clamp(run: &mut [f32], step: usize) {
    if step == 0 {
        return;
    }
    let largest = run.iter().fold(0.0f32, |m, w| m.max(w.abs()));
    let most = largest * (1.0 - step as f32 / GRID as f32);
    for w in run.iter_mut() {
        *w = w.clamp(-most, most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::round::gptq::GptqOptions;
    use crate::round::observer::Observer;
    use crate::scheme::Group;
    use crate::session::random::Pcg32;
    use crate::tensor::Dtype;

    #[test]
    fn ranges_shrink_where_outputs_gain_and_only_there() {
        let (rows, cols, tokens) = (5, 64, 200);
        let cpu = Cpu::single();
        let mut random = Pcg32::new(9, 9);
        let mut draw = || random.next_f64() as f32 - 0.5;
        let mut values: Vec<f32> = (0..rows * cols).map(|_| draw()).collect();
        // A large weight in the first group, whose input is nearly silent.
        let mut x: Vec<f32> = (0..tokens * cols).map(|_| draw()).collect();
        x.iter_mut().step_by(cols).for_each(|x| *x *= 1e-3);
        values.iter_mut().step_by(cols).for_each(|w| *w = 2.0);
        let mut stats = InputStats::new(cols);
        stats.add(&cpu, &x);
        stats.finish(&cpu);
        let before = Matrix { rows, cols, values };
        let mut clipped = before.clone();
        let scheme = Scheme::weights(3, Group::Run(32), true);
        let options = RoundOptions {
            observer: Observer::MinMax,
            scale_dtype: Dtype::F32,
            gptq: GptqOptions::default(),
        };
        let mut clipping = Clipping::new(&cpu, cols, &stats, scheme, options).unwrap();
        assert!(clipping.step(&cpu, &mut clipped).unwrap());
        let (whole, shrunk) = clipping.losses();
        assert!(shrunk < 0.5 * whole, "{shrunk} of {whole}");
        for (row, source) in clipped.values.chunks(cols).zip(before.values.chunks(cols)) {
            assert!(row[0] < source[0], "the large weight gives way");
            let same = row.iter().zip(source).skip(1).take(31);
            assert!(same.into_iter().all(|(a, b)| a == b), "small weights stay");
        }
    }
}
