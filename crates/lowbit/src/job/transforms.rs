//! The scalings of one block, one place after the other, each on what the ones before it left.

use super::inputs::{self, PlannedScaling, first_consumer};
use super::material::Material;
use super::plan::{Layer, Plan};
use super::recipe::Transform;
use super::report::TransformReport;
use super::step::World;
use super::tapped::Tapped;
use crate::error::{Code, Error, Result};
use crate::model::Slotted;
use crate::model::ops::Part;
use crate::model::weights::{self, Linear};
use crate::tensor::Dtype;
use crate::transform::clip::{Clipping, skips};
use crate::transform::{Mapping, Matrix, Outcome, Producer, Scaling, Target, fold};
use std::collections::VecDeque;

/// Scalings under way.
#[derive(Debug)]
pub(super) struct Transforming {
    linears: Vec<Linear>,
    scalings: VecDeque<PlannedScaling>,
    running: Option<Scaling>,
    /// Linears whose ranges are still to be shrunk.
    clips: VecDeque<Layer>,
    clipping: Option<Clipping>,
    /// What was done.
    pub reports: Vec<TransformReport>,
}

impl Transforming {
    pub(super) fn new(plan: &Plan, index: usize) -> Self {
        let clip = |t: &Transform| matches!(t, Transform::Awq(a) if a.clip);
        let clips = plan.changes.scalings.iter().any(|s| clip(&s.transform));
        let layers = plan.layers_of(index).filter(|l| clips && clippable(l));
        Self {
            linears: weights::linears(&plan.model, index),
            scalings: inputs::scalings(plan, index).into(),
            running: None,
            clips: layers.cloned().collect(),
            clipping: None,
            reports: Vec::new(),
        }
    }

    /// Works for about a tenth of a second; whether everything is done.
    pub(super) fn step(
        &mut self,
        world: &mut World<'_>,
        material: &mut Material,
        taps: &mut [Tapped],
    ) -> Result<bool> {
        if let Some(planned) = self.scalings.pop_front() {
            if self.scale(world, material, taps, &planned)? {
                return Ok(false);
            }
            self.scalings.push_front(planned);
            return Ok(false);
        }
        let Some(layer) = self.clips.pop_front() else {
            return Ok(true);
        };
        if !self.clip(world, material, taps, &layer)? {
            self.clips.push_front(layer);
        }
        Ok(false)
    }

    /// Goes on with the scaling of one place; whether it is folded.
    fn scale(
        &mut self,
        world: &mut World<'_>,
        material: &mut Material,
        taps: &mut [Tapped],
        planned: &PlannedScaling,
    ) -> Result<bool> {
        let plan = world.plan;
        let mapping = &planned.mapping;
        let tapped = find(taps, *first_consumer(planned))?;
        let index = material.index();
        let float = material.float.as_mut().ok_or_else(no_floats)?;
        let mut scaling = if let Some(scaling) = self.running.take() {
            scaling
        } else {
            let target = target(plan, index, mapping);
            Scaling::new(&planned.transform, mapping, float, &tapped.stats, target)?
        };
        if !scaling.step(world.cpu, float, &tapped.stats)? {
            self.running = Some(scaling);
            return Ok(false);
        }
        let outcome = scaling.finish();
        let stored = stored_dtype(plan, material, mapping)?;
        let float = material.float.as_mut().ok_or_else(no_floats)?;
        let offset = plan.model.arch().norm_offset;
        let scales = fold(float, mapping, &outcome.scales, stored, offset);
        let shares = |t: &&mut Tapped| t.parts.iter().any(|p| mapping.consumers.contains(p));
        for tapped in taps.iter_mut().filter(shares) {
            tapped.stats.rescale(&scales);
        }
        self.reports
            .push(self.report(material, planned, &outcome, &scales));
        Ok(true)
    }

    /// Goes on with the clipping of one linear; whether it is done.
    fn clip(
        &mut self,
        world: &mut World<'_>,
        material: &mut Material,
        taps: &mut [Tapped],
        layer: &Layer,
    ) -> Result<bool> {
        let tapped = find(taps, layer.linear.part)?;
        let mut clipping = match self.clipping.take() {
            Some(clipping) => clipping,
            None => Clipping::new(
                world.cpu,
                layer.linear.cols,
                &tapped.stats,
                layer.scheme,
                world.plan.round_options(layer),
            )?,
        };
        let matrix = matrix_mut(material, layer.linear.part)?;
        if !clipping.step(world.cpu, matrix)? {
            self.clipping = Some(clipping);
            return Ok(false);
        }
        let (before, after) = clipping.losses();
        self.reports.push(TransformReport {
            kind: "clip".into(),
            block: material.index(),
            producer: layer.linear.module.clone(),
            loss_before: before,
            loss_after: after,
            ..TransformReport::default()
        });
        Ok(true)
    }

    fn report(
        &self,
        material: &Material,
        planned: &PlannedScaling,
        outcome: &Outcome,
        scales: &[f32],
    ) -> TransformReport {
        let module = |part: &Part| inputs::module(&self.linears, *part).map(Into::into);
        let producer = match planned.mapping.producer {
            Producer::Norm(part) => material.tensor_of(part).map(Into::into),
            Producer::Rows(part) => module(&part),
        };
        let consumers = planned.mapping.consumers.iter();
        TransformReport {
            kind: planned.name.into(),
            block: material.index(),
            producer: producer.unwrap_or_default(),
            consumers: consumers.filter_map(module).collect(),
            ratio: outcome.ratio,
            loss_before: outcome.loss_before,
            loss_after: outcome.loss_after,
            smallest: scales.iter().copied().reduce(f32::min),
            largest: scales.iter().copied().reduce(f32::max),
            flagged: outcome.flagged.clone(),
        }
    }
}

/// Whether a linear's groups are runs of a row, which clipping judges one by one.
fn clippable(layer: &Layer) -> bool {
    !skips(layer.linear.part) && layer.scheme.group_cols(layer.linear.cols).is_ok()
}

/// How the consumers of a mapping are rounded.
fn target(plan: &Plan, index: usize, mapping: &Mapping) -> Target {
    let layer = |part: &Part| plan.layers_of(index).find(|l| l.linear.part == *part);
    let options = mapping.consumers.iter().find_map(layer);
    Target {
        schemes: (mapping.consumers.iter())
            .map(|part| layer(part).map(|l| l.scheme))
            .collect(),
        options: options.map_or_else(|| plan.options, |l| plan.round_options(l)),
    }
}

/// The type in which what is divided by the scales is stored.
fn stored_dtype(plan: &Plan, material: &Material, mapping: &Mapping) -> Result<Dtype> {
    let (Producer::Norm(part) | Producer::Rows(part)) = mapping.producer;
    let name = material.tensor_of(part).unwrap_or_default();
    Ok(plan.tensor(name)?.dtype)
}

fn find(taps: &mut [Tapped], part: Part) -> Result<&Tapped> {
    let missing = || Error::new(Code::Internal, format!("the input of {part:?} is unknown"));
    let found = taps.iter().find(|t| t.parts.contains(&part));
    found.ok_or_else(missing)
}

fn matrix_mut(material: &mut Material, part: Part) -> Result<&mut Matrix> {
    let float = material.float.as_mut().ok_or_else(no_floats)?;
    match float.weights.iter_mut().find(|(p, _)| *p == part) {
        Some((_, Slotted::Matrix { weight, .. })) => Ok(weight),
        _ => Err(no_floats()),
    }
}

fn no_floats() -> Error {
    Error::new(Code::Internal, "a transform without floats")
}
