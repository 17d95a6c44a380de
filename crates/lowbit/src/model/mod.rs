//! Architectures as data and the one forward pass that they share.

pub mod accelerator;
pub mod arch;
mod archs;
pub mod blocks;
pub mod cached;
pub mod config;
mod dims;
pub mod encoder;
mod ends;
mod experts;
mod fields;
pub mod forward;
pub mod guess;
pub mod head;
mod item;
pub mod joined;
mod keys;
mod latent;
mod linear;
pub mod load;
pub mod ops;
pub mod rotary;
mod routing;
mod rows;
mod scratch;
mod watch;
pub mod weights;

use crate::error::Result;
use crate::kernels::matmul::Weight;
use crate::matrix::QuantizedMatrix;
use crate::tensor::Tensor;
use config::Config;
use ops::{Op, Part};
use std::sync::Arc;

/// One linear, norm or embedding of a block: the matrix or vector and an optional bias.
#[derive(Debug, Clone)]
pub enum Slotted<T> {
    /// A matrix that inputs are multiplied with.
    Matrix {
        /// The weight.
        weight: T,
        /// Added to each output.
        bias: Option<Vec<f32>>,
    },
    /// A vector: norms.
    Vector(Vec<f32>),
}

/// One block: the operations of its architecture over its weights.
///
/// `T` is the form of a matrix: `Weight` on the CPU, buffers on a GPU.
#[derive(Debug, Clone)]
pub struct Block<T> {
    /// What to do, in order.
    pub ops: Arc<[Op]>,
    /// The weights that the operations name, in the order of the architecture's rows.
    pub weights: Vec<(Part, Slotted<T>)>,
}

impl<T> Block<T> {
    /// The matrix of a part; the loader guarantees that every op's parts are there.
    pub fn matrix(&self, part: Part) -> (&T, Option<&[f32]>) {
        match self.find(part) {
            Slotted::Matrix { weight, bias } => (weight, bias.as_deref()),
            Slotted::Vector(_) => unreachable!("{part:?} is a vector"),
        }
    }

    /// The vector of a part.
    pub fn vector(&self, part: Part) -> &[f32] {
        match self.find(part) {
            Slotted::Vector(v) => v,
            Slotted::Matrix { .. } => unreachable!("{part:?} is a matrix"),
        }
    }

    fn find(&self, part: Part) -> &Slotted<T> {
        let found = self.weights.iter().find(|(p, _)| *p == part);
        &found
            .unwrap_or_else(|| unreachable!("{part:?} was loaded"))
            .1
    }
}

/// A matrix as the checkpoint holds it, before it is placed on a device.
#[derive(Debug, Clone)]
pub enum Stored {
    /// F32, F16 or BF16.
    Dense(Tensor),
    /// Decoded from its layout, still in its own bits.
    Quantized(QuantizedMatrix),
}

impl<T> Block<T> {
    /// The same block with every matrix turned into another form: packing, uploading.
    pub fn map<U>(self, mut place: impl FnMut(T) -> Result<U>) -> Result<Block<U>> {
        let mut weights = Vec::with_capacity(self.weights.len());
        for (part, slotted) in self.weights {
            weights.push((
                part,
                match slotted {
                    Slotted::Matrix { weight, bias } => Slotted::Matrix {
                        weight: place(weight)?,
                        bias,
                    },
                    Slotted::Vector(v) => Slotted::Vector(v),
                },
            ));
        }
        Ok(Block {
            ops: self.ops,
            weights,
        })
    }
}

/// A model ready to run on the CPU, or its CPU part when a GPU holds the rest.
#[derive(Debug)]
pub struct Model {
    /// The checked configuration.
    pub config: Config,
    /// Token embedding, `[vocabulary, hidden]`.
    pub embed: Arc<Weight>,
    /// Blocks.
    pub blocks: Vec<Block<Weight>>,
    /// Final norm; empty in families without one.
    pub norm: Vec<f32>,
    /// Output head; the embedding itself when tied, none in models that write no text.
    pub head: Option<Arc<Weight>>,
    /// What follows the last block in a model that classifies.
    pub tail: Option<Block<Weight>>,
}
