//! The CPU interpreter of a block's operations.

use super::Block;
use super::accelerator::{Machine, Products};
pub use super::ends::{embed, embed_from, final_norm, logits};
use super::experts::Mixture;
use super::latent;
use super::ops::{Op, Part, Slot};
use super::rows::add;
use super::scratch::index;
pub use super::scratch::{LayerCache, Scratch};
pub use super::watch::{Tap, Watch};
use crate::cpu::Cpu;
use crate::error::Result;
use crate::kernels::activate::activate;
use crate::kernels::attention::{Heads, Input, Rule, attention};
use crate::kernels::gelu_mul::gelu_mul;
use crate::kernels::matmul::Weight;
use crate::kernels::rms_norm::rms_norm;
use crate::kernels::rope::rope;
use crate::kernels::silu_mul::silu_mul;
use crate::maths;

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

/// `run_block` for calibration, which may want every expert to see every token, to end early, or to
/// have its products on an accelerator.
pub fn watch_block<'a>(
    on: impl Into<Machine<'a>>,
    scratch: &mut Scratch,
    block: &Block<Weight>,
    cache: &mut LayerCache,
    hidden: &mut [f32],
    mut watch: Option<Watch<'_>>,
) -> Result<()> {
    let Machine { cpu, products } = on.into();
    let mut pass = Pass {
        cpu,
        products,
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

pub(super) struct Pass<'a> {
    pub(super) cpu: &'a Cpu,
    pub(super) products: Option<&'a dyn Products>,
    pub(super) scratch: &'a mut Scratch,
    pub(super) block: &'a Block<Weight>,
    cache: &'a mut LayerCache,
    pub(super) hidden: &'a mut [f32],
}

impl Pass<'_> {
    /// One operation; false when the watch wants no more.
    fn step(&mut self, op: &Op, watch: &mut Option<Watch<'_>>) -> Result<bool> {
        match *op {
            Op::RmsNorm { from, to, weight } => self.rms_norm(from, to, weight),
            Op::LayerNorm { slot, weight, bias } => self.layer_norm(slot, weight, bias),
            Op::AddPositions { table, first } => self.add_positions(table, first)?,
            Op::AddTypes { table } => self.add_types(table)?,
            Op::Activate { slot, by } => activate(self.cpu, by, self.write(slot)),
            Op::Linear { from, outputs } => return self.linear(from, outputs, watch),
            Op::HeadNorm { slot, weight } => self.head_norm(slot, weight),
            Op::Split { from, to } => self.split(from, to),
            Op::Rope { local } => self.rope(local),
            Op::LatentHeads => self.latent_heads(),
            Op::CutAttended => self.cut_attended(),
            Op::Attention { .. } if !self.scratch.rule.causal => self.attend_within_texts(),
            Op::Attention { window } => self.attention(window),
            Op::SiluMul => self.gate_mul(silu_mul),
            Op::GeluMul => self.gate_mul(gelu_mul),
            Op::Scale { slot, by } => self.scale(slot, by),
            Op::Gate { slot, score } => self.gate(slot, score),
            Op::Add { from } => self.add(from),
            Op::Experts { from, to } => return self.experts(from, to, watch),
        }
        Ok(true)
    }

    pub(super) fn tokens(&self) -> usize {
        self.hidden.len() / self.scratch.width
    }

    pub(super) fn read(&self, slot: Slot) -> &[f32] {
        match slot {
            Slot::Hidden => self.hidden,
            _ => &self.scratch.slots[index(slot)],
        }
    }

    pub(super) fn write(&mut self, slot: Slot) -> &mut [f32] {
        match slot {
            Slot::Hidden => self.hidden,
            _ => &mut self.scratch.slots[index(slot)],
        }
    }

    fn rms_norm(&mut self, from: Slot, to: Slot, weight: Part) {
        if from != to {
            let mut normed = self.scratch.take(to, self.read(from).len());
            normed.copy_from_slice(self.read(from));
            self.scratch.put(to, normed);
        }
        let (eps, weight) = (self.scratch.eps, self.block.vector(weight));
        rms_norm(self.cpu, self.write(to), weight, eps);
    }

    fn experts(&mut self, from: Slot, to: Slot, watch: &mut Option<Watch<'_>>) -> Result<bool> {
        let experts = self.scratch.experts;
        let experts = experts.expect("a config with this operation has experts");
        let mut y = self.scratch.take(to, self.hidden.len());
        let mut buffers = std::mem::take(&mut self.scratch.buffers);
        let mixture = Mixture {
            machine: self.machine(),
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

    fn split(&mut self, from: Slot, to: &[Slot]) {
        let Heads { queries, keys, dim } = self.scratch.heads;
        let intermediate = self.scratch.intermediate;
        let (kv_rank, rope) = self.scratch.latent.map_or((0, 0), |l| (l.kv_rank, l.rope));
        let width = |slot| match slot {
            Slot::Q => queries * dim,
            Slot::K | Slot::V => keys * dim,
            Slot::KvLatent => kv_rank,
            Slot::KeyTurn => rope,
            _ => intermediate,
        };
        let (tokens, row): (_, usize) = (self.tokens(), to.iter().map(|s| width(*s)).sum());
        let mut at = 0;
        for slot in to {
            let mut part = self.scratch.take(*slot, tokens * width(*slot));
            let rows = self.read(from).chunks(row);
            for (part, row) in part.chunks_mut(width(*slot)).zip(rows) {
                part.copy_from_slice(&row[at..][..part.len()]);
            }
            at += width(*slot);
            self.scratch.put(*slot, part);
        }
    }

    fn rope(&mut self, local: bool) {
        let Heads { keys, dim, .. } = self.scratch.heads;
        let (first, count) = (self.cache.keys.len() / (keys * dim), self.tokens());
        let Scratch {
            rotary,
            local: other,
            turn,
            slots,
            ..
        } = &mut *self.scratch;
        let rotary = other.as_mut().filter(|_| local).unwrap_or(rotary);
        let (cos, sin) = rotary.tables(first, count);
        for slot in [Slot::Q, Slot::K] {
            rope(self.cpu, &mut slots[index(slot)], cos, sin, *turn);
        }
    }

    fn latent_heads(&mut self) {
        let tokens = self.tokens();
        let Scratch {
            heads,
            latent,
            rotary,
            turn,
            slots,
            ..
        } = &mut *self.scratch;
        let latent = latent.expect("a config with this operation has the sizes");
        let first = self.cache.keys.len() / (heads.keys * heads.dim);
        let (cos, sin) = rotary.tables(first, tokens);
        latent::heads(self.cpu, (latent, heads.queries), slots, (cos, sin, *turn));
    }

    fn cut_attended(&mut self) {
        let dim = self.scratch.heads.dim;
        let latent = self.scratch.latent;
        let value = latent
            .expect("a config with this operation has the sizes")
            .value;
        latent::cut(&mut self.scratch.slots[index(Slot::Attended)], dim, value);
    }

    fn attention(&mut self, window: Option<usize>) {
        let slots = &self.scratch.slots;
        let (keys, values) = (&slots[index(Slot::K)], &slots[index(Slot::V)]);
        self.cache.append(keys, values);
        let len = self.read(Slot::Q).len();
        let mut attended = self.scratch.take(Slot::Attended, len);
        let input = Input {
            q: self.read(Slot::Q),
            keys: &self.cache.keys,
            values: &self.cache.values,
            heads: self.scratch.heads,
            rule: Rule {
                window,
                ..self.scratch.rule
            },
        };
        attention(self.cpu, input, &mut attended);
        self.scratch.put(Slot::Attended, attended);
    }

    fn gate_mul(&mut self, kernel: fn(&Cpu, &mut [f32], &[f32])) {
        let mut gate = std::mem::take(&mut self.scratch.slots[index(Slot::Gate)]);
        kernel(self.cpu, &mut gate, self.read(Slot::Up));
        self.scratch.put(Slot::Gate, gate);
    }

    fn scale(&mut self, slot: Slot, by: f32) {
        for value in self.write(slot) {
            *value *= by;
        }
    }

    fn gate(&mut self, slot: Slot, score: Slot) {
        let scores = std::mem::take(&mut self.scratch.slots[index(score)]);
        let values = self.write(slot);
        let width = values.len() / scores.len();
        for (row, score) in values.chunks_mut(width).zip(&scores) {
            let gate = 1.0 / (1.0 + maths::exp(-score));
            for value in row {
                *value *= gate;
            }
        }
        self.scratch.put(score, scores);
    }

    fn add(&mut self, from: Slot) {
        add(self.hidden, &self.scratch.slots[index(from)]);
    }
}
