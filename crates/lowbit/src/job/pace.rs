//! How work is cut: pieces of files, chunks of activations, tokens per pass, units of progress.
//!
//! Everything here depends on the plan only, never on threads or time: where sums are cut decides
//! bytes.

use super::plan::Plan;
use crate::model::weights;
use crate::round::gptq::GptqOptions;
use crate::round::observer::Observer;

/// Bytes that one read or write moves at most.
pub(crate) const PIECE_BYTES: u64 = 16 << 20;
/// Activations that are in memory at a time, unless one sample alone is larger.
const CHUNK_BYTES: usize = 16 << 20;
/// Multiply-adds that one pass over a block should take at most.
const PASS_WORK: u64 = 1 << 33;
/// The same on an accelerator, which needs more at once to be busy: a tenth of a second at about a
/// teraflop.
const PASS_WORK_DEVICE: u64 = 1 << 36;
/// Whole samples that a thread takes one after another, at most: their inputs are held.
const SAMPLES_PER_THREAD: usize = 4;
/// Tokens of a pass, at least: below this, weights are read more than used.
const PASS_TOKENS: usize = 64;
/// Weights rounded per step by the min-max observer, and by the one that searches.
const SLICE_WEIGHTS: usize = 1 << 20;
const SLICE_WEIGHTS_SEARCHED: usize = 1 << 17;

/// Multiply-adds in a unit of progress.
const UNIT: u64 = 1 << 20;
/// Multiply-adds that take about as long as moving a byte.
const WORK_PER_BYTE: u64 = 16;
/// The same for rounding one weight.
const WORK_PER_WEIGHT: u64 = 64;

/// Samples per chunk of activations.
pub(super) fn samples_per_chunk(plan: &Plan) -> usize {
    let (samples, length) = plan.calibration.map_or((1, 1), |c| (c.samples, c.length));
    (CHUNK_BYTES / (4 * length * plan.model.hidden)).clamp(1, samples)
}

/// Tokens that pass through a block at a time.
pub(super) fn tokens_per_pass(plan: &Plan, block: usize) -> usize {
    let weights = block_weights(plan, block).max(1);
    let length = plan.calibration.map_or(1, |c| c.length);
    if plan.model.encoder.is_some() {
        // Its tokens see their whole text.
        return length;
    }
    let work = match plan.device {
        Some(_) => PASS_WORK_DEVICE,
        None => PASS_WORK,
    };
    let fit = ((work / weights) as usize).max(PASS_TOKENS);
    // A power of two, so that kernels see whole tiles.
    (1usize << fit.ilog2()).min(length)
}

/// Samples of small models that pass side by side before the caller hears of it; results do not
/// depend on how many.
pub(super) fn samples_at_once(plan: &Plan, block: usize, threads: usize) -> usize {
    let length = plan.calibration.map_or(1, |c| c.length) as u64;
    let fit = PASS_WORK / (block_weights(plan, block) * length).max(1);
    (fit as usize).clamp(1, SAMPLES_PER_THREAD) * threads
}

/// Rows of a matrix that are rounded to nearest at a time.
pub(crate) fn rows_per_slice(cols: usize, observer: Observer) -> usize {
    let weights = match observer {
        Observer::MinMax => SLICE_WEIGHTS,
        Observer::Mse | Observer::ImatrixMse => SLICE_WEIGHTS_SEARCHED,
    };
    (weights / cols.max(1)).max(1)
}

/// Weights of the linears of a block.
pub(super) fn block_weights(plan: &Plan, block: usize) -> u64 {
    let linears = weights::linears(&plan.model, block);
    linears.iter().map(|l| (l.rows * l.cols) as u64).sum()
}

/// Progress of moving bytes.
pub(crate) fn bytes_work(bytes: u64) -> u64 {
    bytes * WORK_PER_BYTE
}

/// Progress of one pass of `tokens` tokens through a block.
pub(super) fn pass_work(plan: &Plan, block: usize, tokens: usize) -> u64 {
    tokens as u64 * block_weights(plan, block)
}

/// Progress of adding `tokens` inputs to a Hessian of width `n`.
pub(super) fn gram_work(n: usize, tokens: usize) -> u64 {
    tokens as u64 * (n as u64 * n as u64 / 2)
}

/// Progress of factoring a Hessian of width `n`.
pub(super) fn factor_work(n: usize) -> u64 {
    (n as u64).pow(3) / 6 + n as u64 * n as u64
}

/// Progress of rounding a matrix with a factor, and to nearest.
pub(crate) fn round_work(rows: usize, cols: usize, with_factor: bool) -> u64 {
    let weights = rows as u64 * cols as u64;
    // Half a product with the factor, and one with H for the start and each round of refinement.
    let products = 2 * (GptqOptions::default().refine as u64 + 1) + 1;
    let update = u64::from(with_factor) * products * cols as u64 / 2;
    weights * (update + WORK_PER_WEIGHT)
}

/// Work in the units that `Progress` counts.
pub(crate) fn units(work: u64) -> u64 {
    work.div_ceil(UNIT)
}
