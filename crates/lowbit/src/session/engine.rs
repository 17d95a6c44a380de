//! One model on its devices: embedding and first blocks on the CPU, the rest where it was placed.

use super::device::GpuModel;
use super::{Cache, Output, Want, top};
use crate::cpu::{Cpu, Isa};
use crate::error::{Code, Error, Result};
use crate::kv_cache::Rounding;
use crate::model::Model;
use crate::model::config::Config;
use crate::model::forward;
use std::sync::Arc;

/// Multiply-adds that one step of a prefill may take: about 100 ms on two slow cores, or on the
/// one thread of a browser. Threads do not count, so that they do not decide where sums are cut.
const fn step_work(isa: Isa) -> usize {
    match isa {
        Isa::Scalar => 100_000_000,
        Isa::Simd128 => 500_000_000,
        Isa::Neon | Isa::Avx2 | Isa::Avx512 => 4_000_000_000,
    }
}

/// A model that sequences run on; it is shared, their caches are not.
#[derive(Debug)]
pub struct Engine {
    /// The part that runs on the CPU; `head` is only used when no GPU holds it.
    pub model: Model,
    /// Instruction set and threads.
    pub cpu: Cpu,
    /// The last blocks and the head, when a GPU holds them.
    pub gpu: Option<GpuModel>,
    /// How the cache of each block on the CPU rounds keys and values; empty to keep them.
    pub roundings: Vec<Arc<Rounding>>,
}

impl Engine {
    /// A model; without a GPU all its blocks are on the CPU.
    pub fn new(model: Model, cpu: Cpu, gpu: Option<GpuModel>) -> Self {
        Self {
            model,
            cpu,
            gpu,
            roundings: Vec::new(),
        }
    }

    /// The same with keys and values rounded as they enter the cache, one rounding per block.
    #[must_use]
    pub fn with_roundings(mut self, roundings: Vec<Arc<Rounding>>) -> Self {
        self.roundings = roundings;
        self
    }

    /// The configuration of the model.
    pub fn config(&self) -> &Config {
        &self.model.config
    }

    /// An empty cache for at most `capacity` tokens, limited by the model's context and by what a
    /// GPU can bind.
    pub fn new_cache(&self, capacity: usize) -> Result<Cache> {
        let limit = self.gpu.as_ref().map_or(usize::MAX, GpuModel::context_max);
        let capacity = capacity.min(limit);
        let mut cache = Cache::new(self.config(), self.model.blocks.len(), capacity);
        cache.round(&self.roundings);
        if let Some(gpu) = &self.gpu {
            cache.gpu = Some(gpu.new_cache(cache.capacity())?);
        }
        Ok(cache)
    }

    /// Tokens that one step of a prefill takes, so that progress and aborts come through.
    pub fn step_tokens(&self) -> usize {
        let c = self.config();
        let mlp = match c.experts {
            Some(e) => e.per_token * e.width + e.shared,
            None => c.intermediate,
        };
        let block = c.hidden * ((2 * c.heads + 2 * c.kv_heads) * c.head_dim + 3 * mlp);
        (step_work(self.cpu.isa) / (c.layers * block).max(1)).clamp(8, 256)
    }

    /// Runs `tokens` behind what `cache` holds; on an error the cache is as it was.
    ///
    /// `context` when they do not fit, `option` when an id is outside the vocabulary.
    pub async fn forward(&self, cache: &mut Cache, tokens: &[u32], want: Want) -> Result<Output> {
        self.check(tokens)?;
        cache.reserve(tokens.len())?;
        let output = self.run(cache, tokens, want).await;
        match &output {
            Ok(_) => cache.advance(tokens.len()),
            Err(_) => cache.restore(),
        }
        output
    }

    fn check(&self, tokens: &[u32]) -> Result<()> {
        let vocabulary = self.config().vocabulary;
        if tokens.is_empty() {
            return Err(Error::new(Code::Option, "no tokens to run"));
        }
        match tokens.iter().find(|t| **t as usize >= vocabulary) {
            Some(t) => Err(Error::new(
                Code::Option,
                format!("token {t} is outside the model's vocabulary of {vocabulary}"),
            )
            .remedy("use the tokenizer that came with the model")),
            None => Ok(()),
        }
    }

    /// States of tokens behind the blocks that the CPU has, `[tokens, hidden]`.
    pub(super) fn blocks(&self, cache: &mut Cache, tokens: &[u32]) -> Result<Vec<f32>> {
        let mut hidden = forward::embed(&self.model, tokens)?;
        let Cache {
            layers, scratch, ..
        } = cache;
        for (block, layer) in self.model.blocks.iter().zip(layers) {
            forward::run_block(&self.cpu, scratch, block, layer, &mut hidden, None)?;
        }
        Ok(hidden)
    }

    async fn run(&self, cache: &mut Cache, tokens: &[u32], want: Want) -> Result<Output> {
        let hidden = self.blocks(cache, tokens)?;
        if let (Some(gpu), Some(cache)) = (&self.gpu, &mut cache.gpu) {
            return gpu.forward(cache, &hidden, want).await;
        }
        self.head(&hidden, want)
    }

    fn head(&self, hidden: &[f32], want: Want) -> Result<Output> {
        let last = &hidden[hidden.len() - self.config().hidden..];
        let logits = |hidden| forward::logits(&self.cpu, &self.model, hidden);
        match want {
            Want::Nothing => Ok(Output::Nothing),
            Want::Top(k) => Ok(Output::Top(top::select(&logits(last)?, k)?)),
            Want::Last => Ok(Output::Logits(logits(last)?)),
            Want::All => Ok(Output::Logits(logits(hidden)?)),
        }
    }
}
