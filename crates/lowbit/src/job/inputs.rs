//! The inputs of a block's linears: which linears share one, what each pass has to look at.

use super::pace;
use super::plan::{Layer, Plan};
use super::recipe::Transform;
use crate::model::ops::Part;
use crate::model::weights::{self, Linear};
use crate::round::Kind;
use crate::transform::{Mapping, Producer, mappings};

/// Linears that read the same input.
#[derive(Debug, Clone)]
pub(super) struct Input {
    /// All of them, as a pass names them; the first identifies the input.
    pub parts: Vec<Part>,
    /// Module of the first, for messages.
    pub module: String,
    /// Width of the input.
    pub width: usize,
    /// Those that are quantized, in production order.
    pub layers: Vec<Layer>,
}

/// A scaling at one place of a block.
#[derive(Debug)]
pub(super) struct PlannedScaling {
    pub name: &'static str,
    pub transform: Transform,
    pub mapping: Mapping,
}

/// The inputs of block `index` that have linears to quantize, in the order of its operations.
pub(super) fn quantized(plan: &Plan, index: usize) -> Vec<Input> {
    let all = all(plan, index);
    all.into_iter().filter(|i| !i.layers.is_empty()).collect()
}

/// The inputs that calibration looks at: those of linears to quantize or to scale.
pub(super) fn wanted(plan: &Plan, index: usize) -> Vec<Input> {
    if !plan.sees_inputs {
        return Vec::new();
    }
    let scalings = scalings(plan, index);
    let scaled = |i: &Input| scalings.iter().any(|s| i.parts.contains(first_consumer(s)));
    let mut all = all(plan, index);
    all.retain(|i| !i.layers.is_empty() || scaled(i));
    all
}

/// The consumer whose input speaks for the mapping's.
pub(super) fn first_consumer(scaling: &PlannedScaling) -> &Part {
    &scaling.mapping.consumers[0]
}

fn all(plan: &Plan, index: usize) -> Vec<Input> {
    let linears = weights::linears(&plan.model, index);
    let find = |part: &Part| linears.iter().find(|l| l.part == *part);
    let ops = plan.model.ops(index);
    let groups = ops
        .iter()
        .flat_map(|op| op.inputs(&plan.model, plan.all_experts));
    let input = |parts: Vec<Part>| {
        let first = parts.first().and_then(find)?;
        let layers = plan.layers_of(index);
        let layers = layers.filter(|l| parts.contains(&l.linear.part)).cloned();
        Some(Input {
            module: first.module.clone(),
            width: first.cols,
            layers: layers.collect(),
            parts,
        })
    };
    groups.filter_map(input).collect()
}

/// The scalings of block `index`, in the order of the recipe and then of the operations.
///
/// Scaled is where a consumer is quantized and none is to be left alone. SmoothQuant stays with
/// norms, whose outputs a family normalises anyway, and away from experts: one set of scales for
/// all of them loses more than it gains.
pub(super) fn scalings(plan: &Plan, index: usize) -> Vec<PlannedScaling> {
    if plan.changes.scalings.is_empty() {
        return Vec::new();
    }
    let linears = weights::linears(&plan.model, index);
    let is_quantized = |part: &Part| plan.layers_of(index).any(|l| l.linear.part == *part);
    let mut found = Vec::new();
    for scaling in &plan.changes.scalings {
        for mapping in mappings(&plan.model, index) {
            let modules: Vec<_> = (mapping.consumers.iter())
                .filter_map(|part| module(&linears, *part))
                .collect();
            let smooth = matches!(scaling.transform, Transform::SmoothQuant(_));
            let suits = !smooth
                || matches!(mapping.producer, Producer::Norm(_))
                    && !mapping.consumers.contains(&Part::Router);
            if !suits || !mapping.consumers.iter().any(is_quantized) {
                continue;
            }
            if let Some(transform) = scaling.for_consumers(&modules) {
                found.push(PlannedScaling {
                    name: scaling.name(),
                    transform,
                    mapping,
                });
            }
        }
    }
    found
}

/// The module of a part of a block.
pub(super) fn module(linears: &[Linear], part: Part) -> Option<&str> {
    let found = linears.iter().find(|l| l.part == part);
    found.map(|l| l.module.as_str())
}

/// How much work a block that is in memory as a whole is without its copies, for progress.
pub(super) fn work(plan: &Plan, index: usize) -> u64 {
    let size = |l: &Layer| {
        let with_factor = l.method.kind == Kind::Gptq;
        pace::round_work(l.linear.rows, l.linear.cols, with_factor)
    };
    let rounding = plan.layers_of(index).map(size).sum::<u64>();
    let Some(set) = plan.calibration else {
        return rounding;
    };
    let tokens = set.samples * set.length;
    let all = wanted(plan, index);
    let hessian = |i: &Input| pace::gram_work(i.width, tokens) + pace::factor_work(i.width);
    let again = if plan.true_sequential {
        all.len().saturating_sub(1)
    } else {
        0
    };
    let looks = u64::from(!all.is_empty());
    let passes = looks + again as u64 + u64::from(plan.runs_quantized(index));
    passes * pace::pass_work(plan, index, tokens) + all.iter().map(hessian).sum::<u64>() + rounding
}
