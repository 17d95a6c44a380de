//! The CPU interpreter of a block's operations.

use super::Block;
use super::config::{Config, Experts};
pub use super::ends::{embed, embed_from, logits};
use super::experts::{ExpertBuffers, Mixture};
use super::ops::{Op, Part, Slot};
use super::rotary::Rotary;
pub use super::watch::{Tap, Watch};
use crate::cpu::Cpu;
use crate::error::Result;
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
    experts: Option<Experts>,
    buffers: ExpertBuffers,
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
            experts: config.experts,
            buffers: ExpertBuffers::default(),
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
    let watch = tap.map(|tap| Watch {
        tap,
        all_experts: false,
        until: None,
    });
    watch_block(cpu, scratch, block, cache, hidden, watch)
}

/// `run_block` for calibration, which may want every expert to see every token, or to end early.
pub fn watch_block(
    cpu: &Cpu,
    scratch: &mut Scratch,
    block: &Block<Weight>,
    cache: &mut LayerCache,
    hidden: &mut [f32],
    mut watch: Option<Watch<'_>>,
) -> Result<()> {
    let mut pass = Pass {
        cpu,
        scratch,
        block,
        cache,
        hidden,
    };
    for op in block.ops.iter() {
        if !pass.step(op, &mut watch)? {
            break;
        }
    }
    Ok(())
}

struct Pass<'a> {
    cpu: &'a Cpu,
    scratch: &'a mut Scratch,
    block: &'a Block<Weight>,
    cache: &'a mut LayerCache,
    hidden: &'a mut [f32],
}

impl Pass<'_> {
    /// One operation; false when the watch wants no more.
    fn step(&mut self, op: &Op, watch: &mut Option<Watch<'_>>) -> Result<bool> {
        match *op {
            Op::RmsNorm { from, to, weight } => self.rms_norm(from, to, weight),
            Op::Linear { from, outputs } => return self.linear(from, outputs, watch),
            Op::HeadNorm { slot, weight } => self.head_norm(slot, weight),
            Op::Rope => self.rope(),
            Op::Attention => self.attention(),
            Op::SiluMul => self.silu_mul(),
            Op::Add { from } => self.add(from),
            Op::Experts { from, to } => return self.experts(from, to, watch),
        }
        Ok(true)
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

    fn linear(
        &mut self,
        from: Slot,
        outputs: &[(Part, Slot)],
        watch: &mut Option<Watch<'_>>,
    ) -> Result<bool> {
        if let Some(watch) = watch {
            let parts: Vec<_> = outputs.iter().map(|(part, _)| *part).collect();
            if !watch.show(&parts, self.read(from))? {
                return Ok(false);
            }
        }
        for (part, to) in outputs {
            let (weight, bias) = self.block.matrix(*part);
            let mut y = self.scratch.take(*to, self.tokens() * weight.rows());
            matmul(self.cpu, self.read(from), weight, &mut y);
            add_bias(&mut y, bias);
            self.scratch.put(*to, y);
        }
        Ok(true)
    }

    fn experts(&mut self, from: Slot, to: Slot, watch: &mut Option<Watch<'_>>) -> Result<bool> {
        let experts = self.scratch.experts;
        let experts = experts.expect("a config with this operation has experts");
        let mut y = self.scratch.take(to, self.hidden.len());
        let mut buffers = std::mem::take(&mut self.scratch.buffers);
        let mixture = Mixture {
            cpu: self.cpu,
            block: self.block,
            experts,
            x: self.read(from),
            width: self.scratch.width,
        };
        let more = mixture.run(&mut buffers, &mut y, watch);
        self.scratch.buffers = buffers;
        self.scratch.put(to, y);
        more
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

/// Makes a buffer `len` long; its contents are of no use.
pub(super) fn resize(buffer: &mut Vec<f32>, len: usize) {
    buffer.resize(len, 0.0);
}

/// Adds a bias, if there is one, to every row.
pub(super) fn add_bias(y: &mut [f32], bias: Option<&[f32]>) {
    if let Some(bias) = bias {
        y.chunks_mut(bias.len()).for_each(|row| add(row, bias));
    }
}

fn add(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}
