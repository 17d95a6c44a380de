//! Which device holds what, and the engine that comes out.

use super::device::Chosen;
use super::tally::{Tally, stored_bytes};
use crate::cpu::{Compute, Cpu};
use crate::error::{Code, Error, Result};
use crate::kernels::matmul::Weight;
use crate::model::config::Config;
use crate::model::load::Piece;
use crate::model::{Block, Model, Slotted, Stored};
use crate::session::Engine;
use std::sync::Arc;

/// Pieces of a model as they arrive, each already in the form its device reads.
#[derive(Debug)]
pub(super) struct Placement {
    /// Instruction set and threads.
    pub(super) cpu: Cpu,
    /// How the CPU multiplies quantized matrices.
    pub(super) compute: Compute,
    /// What the decoder's matrices take.
    pub(super) tally: Tally,
    /// The GPU, when it takes the last blocks and the head.
    pub(super) gpu: Option<Chosen>,
    /// Blocks that stay on the CPU.
    pub(super) cpu_layers: usize,
    bytes: u64,
    embed: Option<Arc<Weight>>,
    /// The embedding as stored, while a GPU waits for it as its head.
    tied: Option<Stored>,
    head: Option<Arc<Weight>>,
    norm: Vec<f32>,
    tail: Option<Block<Weight>>,
    blocks: Vec<Block<Weight>>,
}

impl Placement {
    /// An empty model; without a GPU every block is the CPU's.
    pub(super) fn new(cpu: Cpu, compute: Compute) -> Self {
        Self {
            cpu,
            compute,
            tally: Tally::default(),
            gpu: None,
            cpu_layers: usize::MAX,
            bytes: 0,
            embed: None,
            tied: None,
            head: None,
            norm: Vec::new(),
            tail: None,
            blocks: Vec::new(),
        }
    }

    /// Gives the blocks from `cpu_layers` on, and the head, to a GPU.
    pub(super) fn offload(&mut self, gpu: Chosen, cpu_layers: usize) {
        self.gpu = Some(gpu);
        self.cpu_layers = cpu_layers;
    }

    /// Bytes that the weights take, on all devices.
    pub(super) fn weight_bytes(&self) -> u64 {
        self.bytes
    }

    /// Places the next piece; `tied` says that the embedding is the head.
    pub(super) fn place(&mut self, piece: Piece, tied: bool) -> Result<()> {
        match piece {
            Piece::Embed(stored) => {
                self.tied = (tied && self.gpu.is_some()).then(|| stored.clone());
                self.embed = Some(Arc::new(self.weight(stored)?));
            }
            Piece::Block(index, block) => self.place_block(index, block)?,
            Piece::Norm(norm) => {
                self.norm = norm;
                if let Some(head) = self.tied.take() {
                    self.place_head(head)?;
                }
            }
            Piece::Head(stored) => self.place_head(stored)?,
            Piece::Tail(block) => self.tail = Some(block.map(|stored| self.weight(stored))?),
        }
        Ok(())
    }

    fn place_block(&mut self, index: usize, block: Block<Stored>) -> Result<()> {
        let mut bytes = 0;
        for (_, slotted) in &block.weights {
            if let Slotted::Matrix { weight, .. } = slotted {
                self.tally.add(weight);
                bytes += stored_bytes(weight);
            }
        }
        if index < self.cpu_layers {
            let block = block.map(|stored| self.weight(stored))?;
            self.blocks.push(block);
        } else if let Some(gpu) = &mut self.gpu {
            gpu.model.push_block(block)?;
            self.bytes += bytes;
        }
        Ok(())
    }

    fn place_head(&mut self, stored: Stored) -> Result<()> {
        let bytes = stored_bytes(&stored);
        match &mut self.gpu {
            Some(gpu) => {
                gpu.model.set_head(&self.norm, stored)?;
                self.bytes += bytes;
            }
            None => self.head = Some(Arc::new(self.weight(stored)?)),
        }
        Ok(())
    }

    fn weight(&mut self, stored: Stored) -> Result<Weight> {
        let weight = match stored {
            Stored::Dense(tensor) => Weight::dense(tensor.view()?)?,
            Stored::Quantized(matrix) => Weight::packed(&matrix, self.compute, self.cpu.isa)?,
        };
        self.bytes += weight.bytes() as u64;
        Ok(weight)
    }

    /// The engine, once every piece has come.
    ///
    /// `tied` says that the embedding is the head.
    pub(super) fn finish(self, config: Config, tied: bool) -> Result<Engine> {
        let missing = || Error::new(Code::Internal, "the model has no embedding");
        let embed = self.embed.ok_or_else(missing)?;
        let model = Model {
            config,
            head: self.head.or_else(|| tied.then(|| Arc::clone(&embed))),
            tail: self.tail,
            embed,
            blocks: self.blocks,
            norm: self.norm,
        };
        Ok(Engine::new(model, self.cpu, self.gpu.map(|g| g.model)))
    }
}
