//! What a probe does with the blocks and activations that it holds.

use super::super::plan::Plan;
use super::measured_tokens;
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::kernels::matmul::Weight;
use crate::model::config::Config;
use crate::model::forward::{LayerCache, Scratch, run_block};
use crate::model::ops::Part;
use crate::model::{Block, Slotted};

/// Puts a weight in the place of another, which it gives back.
pub(super) fn replace(block: &mut Block<Weight>, part: Part, by: Weight) -> Result<Weight> {
    match block.weights.iter_mut().find(|(p, _)| *p == part) {
        Some((_, Slotted::Matrix { weight, .. })) => Ok(std::mem::replace(weight, by)),
        _ => Err(no_block()),
    }
}

/// Runs the measured tokens through a block, sample by sample.
pub(super) fn carry(
    cpu: &Cpu,
    plan: &Plan,
    block: &Block<Weight>,
    hidden: &mut [f32],
) -> Result<()> {
    let model: &Config = &plan.model;
    let (_, length) = measured_tokens(plan);
    let mut scratch = Scratch::new(model);
    for sample in hidden.chunks_mut(length * model.hidden) {
        let mut cache = LayerCache::default();
        run_block(cpu, &mut scratch, block, &mut cache, sample, None)?;
    }
    Ok(())
}

pub(super) fn no_block() -> Error {
    Error::new(Code::Internal, "the survey lost its block")
}
