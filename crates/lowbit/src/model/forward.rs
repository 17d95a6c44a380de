//! The CPU interpreter of a block's operations.

use super::config::Config;
use super::ops::{Op, Part, Slot};
use super::rotary::Rotary;
use super::{Block, Model};
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::kernels::attention::{Heads, Input, attention};
use crate::kernels::matmul::{Weight, matmul};
use crate::kernels::rms_norm::rms_norm;
use crate::kernels::rope::rope;
use crate::kernels::silu_mul::silu_mul;

/// Keys and values of one block for one sequence, in f32: `[position, kv_heads · head_dim]`.
#[derive(Debug, Clone, Default)]
pub struct LayerCache {
    /// Keys after norm and rotation.
    pub keys: Vec<f32>,
    /// Values.
    pub values: Vec<f32>,
}

impl LayerCache {
    /// How many positions it holds in a given model.
    pub fn positions(&self, config: &Config) -> usize {
        self.keys.len() / (config.kv_heads * config.head_dim)
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
    heads: Heads,
    eps: f32,
    width: usize,
    rotary: Rotary,
    slots: Vec<Vec<f32>>,
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
            eps: config.norm_eps,
            width: config.hidden,
            rotary: Rotary::new(config),
            slots: vec![Vec::new(); BUFFERS.len()],
        }
    }

    /// Takes a buffer out, `len` long; its contents are what was left there.
    fn take(&mut self, slot: Slot, len: usize) -> Vec<f32> {
        let mut buffer = std::mem::take(&mut self.slots[index(slot)]);
        buffer.resize(len, 0.0);
        buffer
    }

    fn put(&mut self, slot: Slot, buffer: Vec<f32>) {
        self.slots[index(slot)] = buffer;
    }
}

fn index(slot: Slot) -> usize {
    let found = BUFFERS.iter().position(|s| *s == slot);
    found.expect("operations write the residual stream through Add only")
}

/// Sees the shared input `[tokens, width]` of linears before they run.
pub type Tap<'a> = &'a mut dyn FnMut(&[Part], &[f32]) -> Result<()>;

/// Runs one block over `hidden [tokens, hidden]`, in place; positions follow the cache's length.
///
/// Fails only if the tap does; values that are not finite are passed on for the caller to judge.
pub fn run_block(
    cpu: &Cpu,
    scratch: &mut Scratch,
    block: &Block<Weight>,
    cache: &mut LayerCache,
    hidden: &mut [f32],
    tap: Option<Tap<'_>>,
) -> Result<()> {
    let mut pass = Pass {
        cpu,
        scratch,
        block,
        cache,
        hidden,
    };
    match tap {
        None => pass.run(&mut |_, _| Ok(())),
        Some(tap) => pass.run(tap),
    }
}

struct Pass<'a> {
    cpu: &'a Cpu,
    scratch: &'a mut Scratch,
    block: &'a Block<Weight>,
    cache: &'a mut LayerCache,
    hidden: &'a mut [f32],
}

impl Pass<'_> {
    fn run(&mut self, tap: Tap<'_>) -> Result<()> {
        for op in self.block.ops.iter() {
            match *op {
                Op::RmsNorm { from, to, weight } => self.rms_norm(from, to, weight),
                Op::Linear { from, outputs } => self.linear(from, outputs, tap)?,
                Op::HeadNorm { slot, weight } => self.head_norm(slot, weight),
                Op::Rope => self.rope(),
                Op::Attention => self.attention(),
                Op::SiluMul => self.silu_mul(),
                Op::Add { from } => self.add(from),
            }
        }
        Ok(())
    }

    fn tokens(&self) -> usize {
        self.hidden.len() / self.scratch.width
    }

    fn read(&self, slot: Slot) -> &[f32] {
        match slot {
            Slot::Hidden => self.hidden,
            _ => &self.scratch.slots[index(slot)],
        }
    }

    fn rms_norm(&mut self, from: Slot, to: Slot, weight: Part) {
        let mut normed = self.scratch.take(to, self.read(from).len());
        normed.copy_from_slice(self.read(from));
        let weight = self.block.vector(weight);
        rms_norm(self.cpu, &mut normed, weight, self.scratch.eps);
        self.scratch.put(to, normed);
    }

    fn linear(&mut self, from: Slot, outputs: &[(Part, Slot)], tap: Tap<'_>) -> Result<()> {
        let parts: Vec<_> = outputs.iter().map(|(part, _)| *part).collect();
        tap(&parts, self.read(from))?;
        for (part, to) in outputs {
            let (weight, bias) = self.block.matrix(*part);
            let mut y = self.scratch.take(*to, self.tokens() * weight.rows());
            matmul(self.cpu, self.read(from), weight, &mut y);
            if let Some(bias) = bias {
                y.chunks_mut(bias.len()).for_each(|row| add(row, bias));
            }
            self.scratch.put(*to, y);
        }
        Ok(())
    }

    fn head_norm(&mut self, slot: Slot, weight: Part) {
        let heads = &mut self.scratch.slots[index(slot)];
        rms_norm(self.cpu, heads, self.block.vector(weight), self.scratch.eps);
    }

    fn rope(&mut self) {
        let Heads { keys, dim, .. } = self.scratch.heads;
        let (first, count) = (self.cache.keys.len() / (keys * dim), self.tokens());
        let (cos, sin) = self.scratch.rotary.tables(first, count);
        for slot in [Slot::Q, Slot::K] {
            let heads = &mut self.scratch.slots[index(slot)];
            rope(self.cpu, heads, cos, sin, dim / 2);
        }
    }

    fn attention(&mut self) {
        let slots = &self.scratch.slots;
        self.cache.keys.extend_from_slice(&slots[index(Slot::K)]);
        self.cache.values.extend_from_slice(&slots[index(Slot::V)]);
        let len = self.read(Slot::Q).len();
        let mut attended = self.scratch.take(Slot::Attended, len);
        let input = Input {
            q: self.read(Slot::Q),
            keys: &self.cache.keys,
            values: &self.cache.values,
            heads: self.scratch.heads,
        };
        attention(self.cpu, input, &mut attended);
        self.scratch.put(Slot::Attended, attended);
    }

    fn silu_mul(&mut self) {
        let mut gate = std::mem::take(&mut self.scratch.slots[index(Slot::Gate)]);
        silu_mul(self.cpu, &mut gate, self.read(Slot::Up));
        self.scratch.put(Slot::Gate, gate);
    }

    fn add(&mut self, from: Slot) {
        add(self.hidden, &self.scratch.slots[index(from)]);
    }
}

fn add(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

/// Embedding rows of `tokens`, `[tokens, hidden]`; `option` for an id outside the vocabulary.
pub fn embed(model: &Model, tokens: &[u32]) -> Result<Vec<f32>> {
    embed_from(&model.embed, tokens)
}

/// Embedding rows of `tokens` from the matrix alone, for callers that hold no whole model.
pub fn embed_from(embedding: &Weight, tokens: &[u32]) -> Result<Vec<f32>> {
    let (rows, cols) = (embedding.rows(), embedding.cols());
    let mut hidden = vec![0.0; tokens.len() * cols];
    for (token, out) in tokens.iter().zip(hidden.chunks_mut(cols)) {
        if *token as usize >= rows {
            let what = format!("token {token} is outside the vocabulary of {rows}");
            return Err(Error::new(Code::Option, what));
        }
        embedding.row(*token as usize, out)?;
    }
    Ok(hidden)
}

/// Final norm and head: `[tokens, hidden]` → `[tokens, vocabulary]`.
pub fn logits(cpu: &Cpu, model: &Model, hidden: &[f32]) -> Result<Vec<f32>> {
    let mut normed = hidden.to_vec();
    rms_norm(cpu, &mut normed, &model.norm, model.config.norm_eps);
    let tokens = hidden.len() / model.config.hidden;
    let mut logits = vec![0.0; tokens * model.head.rows()];
    matmul(cpu, &normed, &model.head, &mut logits);
    Ok(logits)
}
