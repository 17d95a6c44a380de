//! The GPU's interpreter of a block's operations: each becomes a dispatch over bound buffers.

use super::bytes_from_f32;
use super::cache::LayerCache;
use super::device::Gpu;
use super::dispatch::{Dispatch, align};
use super::matrix::Matrix;
use super::support;
use crate::error::{Code, Error, Result};
use crate::kernels::attention::gpu as attention;
use crate::kernels::matmul::gpu::{Io, Product};
use crate::kernels::{add, rms_norm, rope, silu_mul};
use crate::model::config::Config;
use crate::model::ops::{Op, Part, Slot};
use crate::model::{Block, Stored};

/// Every slot, for the table of activation buffers.
const SLOTS: &[Slot] = &[
    Slot::Hidden,
    Slot::Normed,
    Slot::Q,
    Slot::K,
    Slot::V,
    Slot::Attended,
    Slot::Delta,
    Slot::Gate,
    Slot::Up,
];

/// Tokens of a prefill that are recorded into one command buffer.
const CHUNK: usize = 128;

/// Activations, tables and sizes that all blocks of a model share.
#[derive(Debug)]
pub(super) struct Room {
    /// Most tokens of one pass.
    pub(super) chunk: usize,
    /// Sizes of the heads.
    pub(super) heads: attention::Shape,
    /// Floats of a row of the residual stream, as the caller gives them.
    pub(super) hidden: usize,
    /// The pass's `Pass`, as the prelude declares it.
    pub(super) now: wgpu::Buffer,
    /// Cosines and sines of the pass's positions, `[chunk, head_dim / 2]` pairs.
    pub(super) turns: wgpu::Buffer,
    epsilon: f32,
    slots: Vec<(Slot, usize, wgpu::Buffer)>,
}

impl Room {
    /// Makes the activation buffers of a model; chunks shrink to what a binding holds.
    pub(super) fn new(gpu: &Gpu, config: &Config) -> Result<Self> {
        let heads = attention::Shape {
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
        };
        heads.check()?;
        support::check(config)?;
        let widths = SLOTS.iter().map(|s| align(width(config, *s)));
        let widest = widths.clone().max().unwrap_or(1);
        let limit = usize::try_from(gpu.info().max_binding).unwrap_or(usize::MAX);
        let chunk = (limit / (widest * 4)).clamp(1, CHUNK);
        let mut slots = Vec::new();
        for (slot, stride) in SLOTS.iter().zip(widths) {
            let buffer = gpu.storage("activations", (chunk * stride * 4) as u64)?;
            slots.push((*slot, stride, buffer));
        }
        Ok(Self {
            chunk,
            heads,
            hidden: config.hidden,
            now: gpu.uniform("pass", &[0; 4])?,
            turns: gpu.storage("turns", (chunk * config.head_dim * 4) as u64)?,
            epsilon: config.norm_eps,
            slots,
        })
    }

    /// The buffer of a slot and the floats of one of its rows.
    pub(super) fn slot(&self, slot: Slot) -> (&wgpu::Buffer, usize) {
        let found = self.slots.iter().find(|(s, _, _)| *s == slot);
        let (_, stride, buffer) = found.expect("the table holds every slot");
        (buffer, *stride)
    }

    fn buffer(&self, slot: Slot) -> &wgpu::Buffer {
        self.slot(slot).0
    }

    /// What a norm over whole rows of the residual stream runs over.
    pub(super) fn row_norm(&self) -> rms_norm::gpu::Shape {
        rms_norm::gpu::Shape {
            width: self.hidden,
            stride: align(self.hidden),
            heads: 1,
            epsilon: self.epsilon,
        }
    }
}

fn width(config: &Config, slot: Slot) -> usize {
    match slot {
        Slot::Hidden | Slot::Normed | Slot::Delta => config.hidden,
        Slot::Q | Slot::Attended => config.heads * config.head_dim,
        Slot::K | Slot::V => config.kv_heads * config.head_dim,
        Slot::Gate | Slot::Up => config.intermediate,
        // None of these has a kernel here: see `support.rs`.
        _ => 0,
    }
}

/// One step of a block, ready to be recorded.
#[derive(Debug)]
pub(super) enum Planned {
    /// A kernel over buffers of the model.
    Kernel(Dispatch),
    /// A matrix product.
    Product(Product),
    /// Append and attention over the cache of the pass.
    Attention,
}

impl Planned {
    /// Records the step; `layer` is the cache of its block.
    pub(super) fn record(&self, pass: &mut wgpu::ComputePass<'_>, tokens: u32, layer: &LayerCache) {
        match self {
            Self::Kernel(dispatch) => dispatch.record(pass, tokens),
            Self::Product(product) => product.record(pass, tokens),
            Self::Attention => {
                layer.append.record(pass, tokens);
                layer.attend.record(pass, tokens);
            }
        }
    }
}

/// Uploads a block's weights and binds its operations.
pub(super) fn plan(gpu: &Gpu, room: &Room, block: &Block<Stored>) -> Result<Vec<Planned>> {
    let mut planned = Vec::new();
    let mut ops = block.ops.iter().copied().peekable();
    while let Some(op) = ops.next() {
        match op {
            Op::Linear { from, outputs } => {
                // A product whose only output is then added to the residual stream adds itself.
                let added = match (outputs, ops.peek()) {
                    ([(_, to)], Some(Op::Add { from })) => to == from && *to == Slot::Delta,
                    _ => false,
                };
                if added {
                    ops.next();
                }
                for (part, to) in outputs {
                    let to = if added { Slot::Hidden } else { *to };
                    let product = linear(gpu, room, block, *part, (from, to, added))?;
                    planned.push(Planned::Product(product));
                }
            }
            Op::Attention { .. } => planned.push(Planned::Attention),
            other => planned.push(Planned::Kernel(kernel(gpu, room, block, other)?)),
        }
    }
    Ok(planned)
}

fn linear(
    gpu: &Gpu,
    room: &Room,
    block: &Block<Stored>,
    part: Part,
    (from, to, accumulate): (Slot, Slot, bool),
) -> Result<Product> {
    let (stored, bias) = block.matrix(part);
    let matrix = Matrix::upload(gpu, stored, bias).map_err(|e| e.at(format!("{part:?}")))?;
    let (from, from_stride) = room.slot(from);
    let (to, to_stride) = room.slot(to);
    let io = Io {
        from,
        from_stride,
        to,
        to_stride,
        accumulate,
    };
    let gathered = |width: usize| gpu.storage("gathered", (room.chunk * width * 4) as u64);
    Product::new(gpu, &matrix, &room.now, io, gathered)
}

fn kernel(gpu: &Gpu, room: &Room, block: &Block<Stored>, op: Op) -> Result<Dispatch> {
    let vector = |part: Part| gpu.upload("norm", &bytes_from_f32(block.vector(part)));
    let heads = room.heads;
    match op {
        Op::RmsNorm { from, to, weight } => {
            let io = [room.buffer(from), room.buffer(to)];
            rms_norm::gpu::rms_norm(gpu, room.row_norm(), &room.now, &vector(weight)?, io)
        }
        Op::HeadNorm { slot, weight } => {
            let (values, stride) = room.slot(slot);
            let count = if slot == Slot::Q {
                heads.heads
            } else {
                heads.kv_heads
            };
            let shape = rms_norm::gpu::Shape {
                width: heads.head_dim,
                stride,
                heads: count,
                epsilon: room.epsilon,
            };
            rms_norm::gpu::head_norm(gpu, shape, &room.now, &vector(weight)?, values)
        }
        Op::Rope { .. } => {
            let qk = [room.buffer(Slot::Q), room.buffer(Slot::K)];
            rope::gpu::rope(gpu, heads, &room.now, &room.turns, qk)
        }
        Op::SiluMul => {
            let (gate, stride) = room.slot(Slot::Gate);
            silu_mul::gpu::silu_mul(gpu, stride, &room.now, room.buffer(Slot::Up), gate)
        }
        Op::Add { from } => {
            let (from, stride) = room.slot(from);
            add::gpu::add(gpu, stride, &room.now, from, room.buffer(Slot::Hidden))
        }
        // `support.rs` has refused the block before.
        other => Err(Error::new(
            Code::Internal,
            format!("{other:?} is not a kernel"),
        )),
    }
}
