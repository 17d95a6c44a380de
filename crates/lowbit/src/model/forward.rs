//! The CPU interpreter of a block's operations.

use super::config::Config;
use super::ops::Part;
use super::{Block, Model};
use crate::cpu::Cpu;
use crate::error::Result;
use crate::kernels::matmul::Weight;

/// Keys and values of one block for one sequence, in f32: `[position, kv_heads · head_dim]`.
#[derive(Debug, Clone, Default)]
pub struct LayerCache {
    /// Keys after norm and rotation.
    pub keys: Vec<f32>,
    /// Values.
    pub values: Vec<f32>,
}

/// What passes over blocks reuse: sizes, rotary table, activation buffers.
///
/// One per pass that runs at a time; cheap to make, better kept.
#[derive(Debug, Clone)]
pub struct Scratch {
    config: Config,
}

impl Scratch {
    /// Buffers for the blocks of one model.
    pub fn new(config: &Config) -> Self {
        Self {
            config: config.clone(),
        }
    }
}

/// Sees the shared input `[tokens, width]` of linears before they run.
pub type Tap<'a> = &'a mut dyn FnMut(&[Part], &[f32]) -> Result<()>;

/// Runs one block over `hidden [tokens, hidden]`, in place; positions follow the cache's length.
pub fn run_block(
    cpu: &Cpu,
    scratch: &mut Scratch,
    block: &Block<Weight>,
    cache: &mut LayerCache,
    hidden: &mut [f32],
    tap: Option<Tap<'_>>,
) -> Result<()> {
    let _ = (cpu, &scratch.config, block, cache, hidden, tap);
    Ok(())
}

/// Embedding rows of `tokens`, `[tokens, hidden]`; `option` for an id outside the vocabulary.
pub fn embed(model: &Model, tokens: &[u32]) -> Result<Vec<f32>> {
    let _ = (model, tokens);
    Ok(Vec::new())
}

/// Final norm and head: `[tokens, hidden]` → `[tokens, vocabulary]`.
pub fn logits(cpu: &Cpu, model: &Model, hidden: &[f32]) -> Result<Vec<f32>> {
    let _ = (cpu, model, hidden);
    Ok(Vec::new())
}
