//! AWQ's clipping (arXiv 2306.00978, §4): large weights of a group give way where outputs gain.
//!
//! ```text
//! max|w| · (1 − i/20), i = 0 … 9      loss of a group = dᵀ·H_group·d,   d = w − Q(clamp(w))
//! ```
//! Groups are judged alone, by their own block of H, as the original does by their own inputs.

use super::Matrix;
use super::curvature::Curvature;
use super::score::rounded;
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
        let mut d = rounded(cpu, &clamped, cols, &self.scheme, &self.options)?;
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
    run.iter_mut().for_each(|w| *w = w.clamp(-most, most));
}
