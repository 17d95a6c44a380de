//! The keys and values of one sequence, on whichever device their block lives.

use super::device::GpuCache;
use crate::error::{Code, Error, Result};
use crate::kv_cache::Rounding;
use crate::model::config::Config;
use crate::model::forward::{LayerCache, Scratch};
use std::sync::Arc;

/// What a sequence has seen: keys and values per block.
#[derive(Debug)]
pub struct Cache {
    /// Blocks on the CPU.
    pub(super) layers: Vec<LayerCache>,
    /// Activations of a pass, kept from one to the next.
    pub(super) scratch: Scratch,
    /// Blocks on the GPU.
    pub(super) gpu: Option<GpuCache>,
    width: usize,
    len: usize,
    capacity: usize,
}

impl Cache {
    /// An empty cache of `layers` blocks on the CPU for at most `capacity` tokens.
    pub(super) fn new(config: &Config, layers: usize, capacity: usize) -> Self {
        Self {
            layers: vec![LayerCache::default(); layers],
            scratch: Scratch::new(config),
            gpu: None,
            width: config.kv_heads * config.head_dim,
            len: 0,
            capacity: capacity.min(config.context),
        }
    }

    /// Rounds what blocks append, each by its own; without any, keys and values stay as they are.
    pub(super) fn round(&mut self, roundings: &[Arc<Rounding>]) {
        for (layer, rounding) in self.layers.iter_mut().zip(roundings) {
            layer.rounding = Some(Arc::clone(rounding));
        }
    }

    /// Tokens seen.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was seen yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most tokens that fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Makes room for `tokens` more; `context` beyond the capacity, `out-of-memory` if refused.
    pub(super) fn reserve(&mut self, tokens: usize) -> Result<()> {
        let wanted = self.len.saturating_add(tokens);
        if wanted > self.capacity {
            let what = format!("{wanted} tokens do not fit into {}", self.capacity);
            return Err(Error::new(Code::Context, what).remedy("shorten the prompt or the output"));
        }
        let floats = tokens.saturating_mul(self.width);
        for layer in &mut self.layers {
            for side in [&mut layer.keys, &mut layer.values] {
                side.try_reserve(floats).map_err(|_| {
                    let what = format!("no room for {} bytes of keys and values", 4 * floats);
                    Error::new(Code::OutOfMemory, what)
                })?;
            }
        }
        Ok(())
    }

    /// Counts `tokens` that every block has now appended.
    pub(super) fn advance(&mut self, tokens: usize) {
        self.len += tokens;
    }

    /// Takes back what blocks appended in a pass that failed.
    pub(super) fn restore(&mut self) {
        let floats = self.len * self.width;
        for layer in &mut self.layers {
            layer.keys.truncate(floats);
            layer.values.truncate(floats);
        }
        if let Some(gpu) = &mut self.gpu {
            gpu.truncate(self.len);
        }
    }
}
