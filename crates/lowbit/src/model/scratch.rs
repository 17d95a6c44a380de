//! What passes keep: keys and values of a sequence, buffers and tables of a model.

use super::config::{Config, Experts, Latent};
use super::encoder::Text;
use super::experts::ExpertBuffers;
use super::ops::Slot;
use super::rotary::Rotary;
use crate::kernels::attention::{Heads, Rule};
use crate::kernels::rope::Turn;
use crate::kv_cache::Rounding;
use std::sync::Arc;

/// Keys and values of one block for one sequence, in f32: `[position, kv_heads · head_dim]`.
#[derive(Debug, Clone, Default)]
pub struct LayerCache {
    /// Keys after norm and rotation.
    pub keys: Vec<f32>,
    /// Values.
    pub values: Vec<f32>,
    /// How both are rounded when they come; none to keep them as they are.
    pub rounding: Option<Arc<Rounding>>,
}

impl LayerCache {
    /// How many positions it holds in a given model.
    pub fn positions(&self, config: &Config) -> usize {
        self.keys.len() / (config.kv_heads * config.head_dim)
    }

    /// Appends keys and values of some positions, as it holds them.
    pub(super) fn append(&mut self, keys: &[f32], values: &[f32]) {
        let first = self.keys.len();
        self.keys.extend_from_slice(keys);
        self.values.extend_from_slice(values);
        if let Some(rounding) = &self.rounding {
            rounding.keys(&mut self.keys[first..]);
            rounding.values(&mut self.values[first..]);
        }
    }

    /// Forgets every position from `positions` on; the memory is kept.
    pub fn truncate(&mut self, config: &Config, positions: usize) {
        let len = positions * config.kv_heads * config.head_dim;
        self.keys.truncate(len);
        self.values.truncate(len);
    }
}

/// What passes over blocks reuse: sizes, rotary tables, activation buffers.
///
/// One per pass that runs at a time; cheap to make, better kept.
#[derive(Debug, Clone)]
pub struct Scratch {
    pub(super) heads: Heads,
    pub(super) rule: Rule,
    pub(super) turn: Turn,
    pub(super) eps: f32,
    pub(super) width: usize,
    pub(super) intermediate: usize,
    pub(super) rotary: Rotary,
    pub(super) local: Option<Rotary>,
    pub(super) slots: Vec<Vec<f32>>,
    pub(super) experts: Option<Experts>,
    pub(super) latent: Option<Latent>,
    pub(super) buffers: ExpertBuffers,
    /// The texts of an encoder's pass, one after another; without any, all tokens are one text.
    pub texts: Vec<Text>,
}

/// Slots with a buffer of their own: all but the residual stream, which is the caller's.
const BUFFERS: &[Slot] = &[
    Slot::Normed,
    Slot::Q,
    Slot::K,
    Slot::V,
    Slot::Attended,
    Slot::Delta,
    Slot::Gate,
    Slot::Up,
    Slot::Qkv,
    Slot::GateUp,
    Slot::QueryLatent,
    Slot::KvLatentAndTurn,
    Slot::KvLatent,
    Slot::KeyTurn,
    Slot::KeysAndValues,
    Slot::Score,
    Slot::Labels,
];

impl Scratch {
    /// Buffers for the blocks of one model; they grow to what passes need.
    pub fn new(config: &Config) -> Self {
        Self {
            heads: Heads {
                queries: config.heads,
                keys: config.kv_heads,
                dim: config.head_dim,
            },
            rule: Rule {
                scale: config.factors.attention,
                cap: config.factors.attention_cap,
                window: None,
                causal: config.encoder.is_none(),
            },
            turn: Turn {
                dim: config.latent.map_or(config.head_dim, |l| l.rope),
                half: config.rotary / 2,
                interleaved: config.arch().rope.interleaved,
            },
            eps: config.norm_eps,
            width: config.hidden,
            intermediate: config.intermediate,
            rotary: Rotary::new(config),
            local: Rotary::local(config),
            slots: vec![Vec::new(); BUFFERS.len()],
            experts: config.experts,
            latent: config.latent,
            buffers: ExpertBuffers::default(),
            texts: Vec::new(),
        }
    }

    /// Takes a buffer out, `len` long; its contents are what was left there.
    pub(super) fn take(&mut self, slot: Slot, len: usize) -> Vec<f32> {
        let mut buffer = std::mem::take(&mut self.slots[index(slot)]);
        buffer.resize(len, 0.0);
        buffer
    }

    pub(super) fn put(&mut self, slot: Slot, buffer: Vec<f32>) {
        self.slots[index(slot)] = buffer;
    }
}

/// The place of a slot among `Scratch::slots`.
pub(super) fn index(slot: Slot) -> usize {
    let found = BUFFERS.iter().position(|s| *s == slot);
    found.expect("operations write the residual stream through Add only")
}
