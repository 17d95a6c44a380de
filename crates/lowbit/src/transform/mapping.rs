//! Where channels can be scaled without changing what a block computes.

use super::flow::{Flow, Reader, Source};
use crate::model::config::Config;
use crate::model::ops::Part;

/// What is divided by the scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Producer {
    /// The weight of a norm.
    Norm(Part),
    /// The last rows of a matrix, and its bias.
    Rows(Part),
}

/// A producer of channels and every consumer of them, whose columns are multiplied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// What is divided.
    pub producer: Producer,
    /// What is multiplied, in the order of the operations; routers too.
    pub consumers: Vec<Part>,
}

/// The mappings of block `layer`, in the order of its operations.
///
/// Read off the operations: norm → its linears, v → o where every query head has a key head of its
/// own, up → down through the gate. A value that anything but a linear reads as well has none.
pub fn mappings(config: &Config, layer: usize) -> Vec<Mapping> {
    let flow = Flow::new(config, layer);
    let grouped = config.kv_heads != config.heads;
    let mut found = Vec::new();
    for (i, value) in flow.values.iter().enumerate() {
        let producer = match &value.source {
            Source::Norm { part, .. } => Producer::Norm(*part),
            Source::Linears(parts) if parts.len() == 1 => Producer::Rows(parts[0]),
            Source::LastRows(part) => Producer::Rows(*part),
            _ => continue,
        };
        let consumers = consumers(&flow, i, grouped).unwrap_or_default();
        if !consumers.is_empty() {
            found.push(Mapping {
                producer,
                consumers,
            });
        }
    }
    found
}

/// The linears that read a value's channels; none when something else does.
fn consumers(flow: &Flow, value: usize, grouped: bool) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    for reader in &flow.values[value].readers {
        match reader {
            Reader::Linear(part) => parts.push(*part),
            Reader::Gated(to) => parts.extend(consumers(flow, *to, grouped)?),
            Reader::Attention(to) if !grouped => parts.extend(consumers(flow, *to, grouped)?),
            Reader::Attention(_) | Reader::Residual | Reader::Other => return None,
        }
    }
    Some(parts)
}
