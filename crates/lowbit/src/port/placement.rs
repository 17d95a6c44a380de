//! Which device holds what, and the engine that comes out.

use super::tally::Tally;
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
    bytes: u64,
    embed: Option<Arc<Weight>>,
    head: Option<Arc<Weight>>,
    norm: Vec<f32>,
    blocks: Vec<Block<Weight>>,
}

impl Placement {
    /// An empty model.
    pub(super) fn new(cpu: Cpu, compute: Compute) -> Self {
        Self {
            cpu,
            compute,
            tally: Tally::default(),
            bytes: 0,
            embed: None,
            head: None,
            norm: Vec::new(),
            blocks: Vec::new(),
        }
    }

    /// Bytes that the weights take, on all devices.
    pub(super) fn weight_bytes(&self) -> u64 {
        self.bytes
    }

    /// Places the next piece.
    pub(super) fn place(&mut self, piece: Piece) -> Result<()> {
        match piece {
            Piece::Embed(stored) => self.embed = Some(Arc::new(self.weight(stored)?)),
            Piece::Block(_, block) => {
                for (_, slotted) in &block.weights {
                    if let Slotted::Matrix { weight, .. } = slotted {
                        self.tally.add(weight);
                    }
                }
                let block = block.map(|stored| self.weight(stored))?;
                self.blocks.push(block);
            }
            Piece::Norm(norm) => self.norm = norm,
            Piece::Head(stored) => self.head = Some(Arc::new(self.weight(stored)?)),
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
    pub(super) fn finish(self, config: Config) -> Result<Engine> {
        let missing = || Error::new(Code::Internal, "the model has no embedding");
        let embed = self.embed.ok_or_else(missing)?;
        let model = Model {
            config,
            head: self.head.unwrap_or_else(|| Arc::clone(&embed)),
            embed,
            blocks: self.blocks,
            norm: self.norm,
        };
        Ok(Engine::new(model, self.cpu))
    }
}
