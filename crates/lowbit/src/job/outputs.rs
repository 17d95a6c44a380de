//! Which source tensors end up where: rounded, written as transforms leave them, rotated, copied.

use super::changes::Changes;
use super::choose::Layer;
use super::rest::Rotated;
use crate::model::config::Config;
use crate::model::head::Head;
use crate::model::load::TensorInfo;
use crate::model::weights;
use std::collections::BTreeSet;

/// Source tensors that no layer rounds.
#[derive(Debug)]
pub(super) struct Outputs {
    /// By unit: blocks, then the rest.
    pub copies: Vec<Vec<String>>,
    /// By block.
    pub rewritten: Vec<Vec<String>>,
    pub rotated: Vec<Rotated>,
}

impl Outputs {
    /// Sorts them. With a transform, every tensor of a block is written from memory: what a
    /// transform leaves alone comes out as it went in.
    pub(super) fn new(
        model: &Config,
        source: &[TensorInfo],
        layers: &[Layer],
        changes: &Changes,
        head: Head,
    ) -> Self {
        let mut taken: BTreeSet<String> = layers.iter().map(|l| l.linear.weight.clone()).collect();
        let (mut copies, mut rewritten) = (Vec::new(), Vec::new());
        for block in 0..model.layers {
            let names = weights::block_tensors(model, block).into_iter();
            let names = names.map(|n| n.name).filter(|n| taken.insert(n.clone()));
            let (written, copied) = if changes.any_transform() {
                (names.collect(), Vec::new())
            } else {
                (Vec::new(), names.collect())
            };
            rewritten.push(written);
            copies.push(copied);
        }
        let rotated = rotated(model, changes, head);
        if !rotated.is_empty() {
            taken.extend(rotated.iter().map(|t| t.from.clone()));
            taken.insert(final_norm(model));
        }
        let rest = source.iter().map(|t| t.name.clone());
        copies.push(rest.filter(|n| !taken.contains(n)).collect());
        Self {
            copies,
            rewritten,
            rotated,
        }
    }
}

/// The tables that a rotation of the residual stream changes.
fn rotated(model: &Config, changes: &Changes, source: Head) -> Vec<Rotated> {
    if !changes.rotate.as_ref().is_some_and(|r| r.r1) {
        return Vec::new();
    }
    let embed = format!("{}.weight", model.named(model.arch().embed));
    let head = format!("{}.weight", model.arch().head);
    let from = match source {
        Head::Tied => embed.clone(),
        Head::Own(module) => format!("{module}.weight"),
        // `choose::refuse_headless` has refused the plan.
        Head::None => return Vec::new(),
    };
    let table = |from: String, to: String, head: bool| Rotated { from, to, head };
    vec![table(embed.clone(), embed, false), table(from, head, true)]
}

/// The tensor of the final norm.
pub(super) fn final_norm(model: &Config) -> String {
    format!("{}.weight", model.named(model.arch().norm))
}
