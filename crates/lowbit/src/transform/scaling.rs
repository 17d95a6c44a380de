//! The search for the scales of one mapping.

use super::curvature::Curvature;
use super::mapping::Mapping;
use super::score::{self, Known, Piece, Rounding};
use super::stats::InputStats;
use super::{FloatBlock, Matrix, awq, smooth};
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::job::recipe::Transform;
use crate::model::ops::Part;
use crate::round::RoundOptions;
use crate::scheme::Scheme;

/// Multiply-adds of one step, per thread: some 50 ms.
const STEP_WORK: u64 = 1 << 31;
/// Rounding one weight is worth this many multiply-adds.
const ROUND_WORK: u64 = 64;

/// How the consumers of a mapping will be rounded.
#[derive(Debug, Clone)]
pub struct Target {
    /// One per consumer; none for those that stay as they are.
    pub schemes: Vec<Option<Scheme>>,
    /// Observer and type of scales.
    pub options: RoundOptions,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What channels are divided by, `[channels]`; all 1 when nothing better was found.
    pub scales: Vec<f32>,
    /// AWQ's ratio or SmoothQuant's strength; none for scales of 1.
    pub ratio: Option<f64>,
    /// Squared error of the consumers' outputs without scales, relative to the outputs.
    pub loss_before: f64,
    /// The same with these scales.
    pub loss_after: f64,
    /// Why the scales are 1, or are kept although the estimate speaks against them.
    pub flagged: Option<String>,
}

#[derive(Debug)]
struct Candidate {
    ratio: Option<f64>,
    scales: Vec<f32>,
    /// E[δ²] of each consumer's inputs.
    input_errors: Vec<f64>,
    /// Sum so far; not a number once a piece failed.
    loss: f64,
}

/// A search under way: every candidate is scored on every piece of every consumer.
#[derive(Debug)]
pub struct Scaling {
    consumers: Vec<Part>,
    target: Target,
    /// The first has scales of 1.
    candidates: Vec<Candidate>,
    /// Strengths that were asked for are used even if the estimate speaks against them.
    asked: bool,
    pieces: Vec<Piece>,
    curvature: Option<Curvature>,
    /// E[x²] of each channel.
    importance: Vec<f32>,
    energy: f64,
    next: usize,
}

impl Scaling {
    /// Starts a search for one mapping, whose consumers all read the inputs of `stats`.
    ///
    /// Patterns of `transform` are the caller's to resolve: of SmoothQuant, `strength` and `search`
    /// are read, of AWQ `duo` and `grid`. `nonfinite-activation` when the statistics are not
    /// finite; `option` for a rotation, which has no scales.
    pub fn new(
        transform: &Transform,
        mapping: &Mapping,
        block: &FloatBlock,
        stats: &InputStats,
        target: Target,
    ) -> Result<Self> {
        let matrices: Vec<_> = mapping
            .consumers
            .iter()
            .map(|p| block.matrix(*p).0)
            .collect();
        let schemes = || target.schemes.iter().enumerate();
        let rounded: Vec<_> = schemes()
            .filter_map(|(i, s)| Some((matrices[i], s.as_ref()?)))
            .collect();
        check_finite(stats)?;
        let found = if rounded.is_empty() {
            Vec::new()
        } else {
            candidates(transform, &rounded, stats)?
        };
        let mut scaling = Self {
            consumers: mapping.consumers.clone(),
            candidates: Vec::new(),
            asked: matches!(transform, Transform::SmoothQuant(s) if !s.search),
            pieces: schemes()
                .filter(|(_, s)| s.is_some())
                .flat_map(|(i, _)| score::pieces(i, matrices[i].rows, matrices[i].cols))
                .collect(),
            target,
            curvature: None,
            importance: stats.importance(),
            energy: 0.0,
            next: 0,
        };
        scaling.add(None, vec![1.0; stats.min.len()], stats);
        for (ratio, scales) in found {
            scaling.add(Some(ratio), scales, stats);
        }
        Ok(scaling)
    }

    fn add(&mut self, ratio: Option<f64>, scales: Vec<f32>, stats: &InputStats) {
        let usable = scales.iter().all(|s| *s > 0.0 && s.is_finite());
        let error = |scheme: &Option<Scheme>| {
            scheme
                .as_ref()
                .filter(|_| usable)
                .map_or(0.0, |scheme| score::input_error(stats, &scales, scheme))
        };
        self.candidates.push(Candidate {
            input_errors: self.target.schemes.iter().map(error).collect(),
            ratio,
            loss: if usable { 0.0 } else { f64::NAN },
            scales,
        });
    }

    /// Multiply-adds that are left, for progress.
    pub fn work(&self) -> u64 {
        let n = self.candidates[0].scales.len() as u64;
        let rows: usize = self.pieces.iter().map(|p| p.rows.len()).sum();
        let candidates = self.candidates.len() as u64;
        candidates * rows as u64 * n * (n / 2 + ROUND_WORK)
    }

    /// Works for about a tenth of a second; whether the search is finished.
    ///
    /// Fails when the weights as they are cannot be scored: `nonfinite-activation`, or what
    /// rounding them to nearest fails with. Candidates that cannot be scored drop out instead.
    pub fn step(&mut self, cpu: &Cpu, block: &FloatBlock, stats: &InputStats) -> Result<bool> {
        let total = self.pieces.len() * self.candidates.len();
        if self.next < total && self.curvature.is_none() {
            let inputs = 0..stats.min.len();
            self.curvature = Some(Curvature::new(cpu, &stats.hessian, inputs)?);
        }
        let mut work = 0;
        while self.next < total && work < STEP_WORK * cpu.threads() as u64 {
            work += self.score(cpu, block)?;
            self.next += 1;
        }
        if self.next == total {
            self.curvature = None;
        }
        Ok(self.next == total)
    }

    /// Scores one candidate on one piece; gives the work it was.
    fn score(&mut self, cpu: &Cpu, block: &FloatBlock) -> Result<u64> {
        let Some(curvature) = &self.curvature else {
            return Ok(0);
        };
        let index = self.next / self.pieces.len();
        let piece = &self.pieces[self.next % self.pieces.len()];
        let candidate = &mut self.candidates[index];
        let (Some(scheme), true) = (
            &self.target.schemes[piece.consumer],
            candidate.loss.is_finite(),
        ) else {
            return Ok(0);
        };
        let matrix: &Matrix = block.matrix(self.consumers[piece.consumer]).0;
        let w = score::rows(matrix, piece);
        let rounding = Rounding {
            scheme,
            options: &self.target.options,
        };
        let known = Known {
            curvature,
            importance: &self.importance,
            input_error: candidate.input_errors[piece.consumer],
        };
        let input = (w, matrix.cols);
        let loss = score::loss(cpu, known, input, &candidate.scales, rounding);
        if index == 0 {
            self.energy += piece.weight * score::energy(cpu, curvature, w);
            let loss = loss?;
            if !(loss.is_finite() && self.energy.is_finite()) {
                let part = self.consumers[piece.consumer];
                let what = format!("the output error of {part:?} is {loss}");
                return Err(Error::new(Code::NonfiniteActivation, what)
                    .remedy("check the calibration text and the checkpoint"));
            }
            candidate.loss += piece.weight * loss;
        } else {
            candidate.loss += piece.weight * loss.unwrap_or(f64::NAN);
        }
        let n = matrix.cols as u64;
        Ok(piece.rows.len() as u64 * n * (n / 2 + ROUND_WORK))
    }

    /// The best candidate, after the last step.
    pub fn finish(self) -> Outcome {
        let before = self.candidates[0].loss;
        let relative = |loss: f64| {
            if self.energy > 0.0 {
                loss / self.energy
            } else {
                0.0
            }
        };
        let usable = || self.candidates.iter().filter(|c| c.loss.is_finite());
        let best = usable().min_by(|a, b| a.loss.total_cmp(&b.loss));
        let other = usable().nth(1).filter(|_| self.asked);
        let chosen = other.or(best).unwrap_or(&self.candidates[0]);
        let flagged = if self.pieces.is_empty() {
            Some("no consumer is quantized".into())
        } else if chosen.loss > before {
            Some("the estimate is better without scales".into())
        } else if chosen.ratio.is_none() {
            let failed = self.candidates.len() - usable().count();
            let tried = self.candidates.len() - 1;
            Some(format!(
                "none of {tried} candidates is better than scales of 1, {failed} not finite"
            ))
        } else {
            None
        };
        Outcome {
            scales: chosen.scales.clone(),
            ratio: chosen.ratio,
            loss_before: relative(before),
            loss_after: relative(chosen.loss),
            flagged,
        }
    }
}

/// Ratios and scales to try, for the consumers that are rounded.
fn candidates(
    transform: &Transform,
    rounded: &[(&Matrix, &Scheme)],
    stats: &InputStats,
) -> Result<Vec<(f64, Vec<f32>)>> {
    match transform {
        Transform::Awq(options) => {
            let group = |(m, s): &(&Matrix, &Scheme)| s.group_cols(m.cols).unwrap_or(m.cols);
            let grouped: Vec<_> = rounded.iter().map(|r| (r.0, group(r))).collect();
            let (x, w) = (stats.mean_abs(), awq::relative_weights(&grouped));
            let ratios = (0..options.grid).map(|i| i as f64 / options.grid as f64);
            Ok(ratios
                .map(|r| (r, awq::scales(&x, &w, r, options.duo)))
                .collect())
        }
        Transform::SmoothQuant(options) => {
            let matrices: Vec<_> = rounded.iter().map(|r| r.0).collect();
            let (x, w) = (stats.absmax(), smooth::largest_weights(&matrices));
            let step = 1.0 / smooth::STRENGTHS as f64;
            let strengths: Vec<f64> = if options.search {
                (0..=smooth::STRENGTHS).map(|i| i as f64 * step).collect()
            } else {
                vec![options.strength]
            };
            let scales = |a: f64| (a, smooth::scales(&x, &w, a));
            Ok(strengths.into_iter().map(scales).collect())
        }
        Transform::Rotate(_) => Err(Error::new(Code::Option, "a rotation has no scales")),
    }
}

/// `nonfinite-activation` with the first channel whose statistics are NaN or infinite.
fn check_finite(stats: &InputStats) -> Result<()> {
    let (sums, importance) = (&stats.sum_abs, stats.importance());
    let bad = |j: &usize| !(sums[*j].is_finite() && importance[*j].is_finite());
    match (0..sums.len()).find(bad) {
        None => Ok(()),
        Some(j) => {
            let what = format!("the inputs of channel {j} are not finite");
            Err(Error::new(Code::NonfiniteActivation, what))
        }
    }
}
