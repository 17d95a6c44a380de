//! Which tensors the pieces of a model are made of, from its architecture's rows.

use super::arch::{Kind, Policy, Row};
use super::config::Config;
use super::item::{Form, Item};
use super::ops::Part;
use super::{Block, Stored};
use crate::error::Result;
use crate::tensor::Tensor;

/// One matrix of a block, by the names of its tensors in an unquantized checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linear {
    /// The name that operations use.
    pub part: Part,
    /// Module, as in `model.layers.0.self_attn.q_proj`.
    pub module: String,
    /// Tensor of the matrix: the module and `.weight`.
    pub weight: String,
    /// Tensor of the bias, if the linear has one: the module and `.bias`.
    pub bias: Option<String>,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Whether the architecture tolerates quantization of it.
    pub quantizable: bool,
}

/// A tensor that a model needs, and the shape that its config asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    /// Name in the checkpoint.
    pub name: String,
    /// Wanted shape.
    pub shape: Vec<usize>,
}

/// The matrices of block `layer`, in the order of the architecture's rows.
pub fn linears(config: &Config, layer: usize) -> Vec<Linear> {
    if let Some(guess) = &config.guess {
        return guess.blocks.get(layer).cloned().unwrap_or_default();
    }
    let linear = |row: Row| {
        if !matches!(row.kind, Kind::Matrix { .. }) {
            return None;
        }
        let item = Item::of_row(config, layer, &row);
        let Form::Matrix { rows, cols, bias } = item.form else {
            return None;
        };
        Some(Linear {
            part: row.part,
            weight: item.named("weight"),
            bias: bias.then(|| item.named(item.bias_name)),
            rows,
            cols,
            quantizable: row.policy != Policy::Keep,
            module: item.module,
        })
    };
    config.rows(layer).into_iter().filter_map(linear).collect()
}

/// The tensors of block `layer` in an unquantized checkpoint, in the order that `block` takes them.
pub fn block_tensors(config: &Config, layer: usize) -> Vec<Needed> {
    let rows = config.rows(layer).into_iter();
    rows.flat_map(|row| Item::of_row(config, layer, &row).needed())
        .collect()
}

/// Builds block `layer` from the unquantized tensors that `block_tensors` lists, in its order.
///
/// `shape` and `dtype` when a tensor is not what the config asks for.
pub fn block(config: &Config, layer: usize, tensors: Vec<Tensor>) -> Result<Block<Stored>> {
    let mut tensors = tensors.into_iter();
    let mut weights = Vec::new();
    for row in config.rows(layer) {
        let item = Item::of_row(config, layer, &row);
        weights.push((row.part, item.build(&mut tensors)?));
    }
    let ops = config.ops(layer);
    Ok(Block { ops, weights })
}
