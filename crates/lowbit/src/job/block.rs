//! One block that has to be in memory as a whole: for calibration, transforms or pruning.
//!
//! ```text
//! read ─► rotate ─► calibrate ─► scale ─► prune and round each linear ─► outputs ─► write, copy
//!                       ▲                        │
//!                       └── true-sequential: ────┘ again for each later input
//! ```
//! Outputs are those of the quantized block, so that the next one is calibrated on what it will
//! really get (sequential propagation); after the last block nobody needs them. Scaling rescales
//! what is known of inputs, so that one pass is enough. Without calibration there are no passes.

use super::Ask;
use super::cache::{self, CacheReport};
use super::copy::Copier;
use super::inputs::{self, Input};
use super::journal::{Activations, Line};
use super::material::Material;
use super::passes::Passes;
use super::plan::Plan;
use super::report::{LayerReport, TransformReport};
use super::shared::{Finished, SharedInput};
use super::sink::Sink;
use super::step::{Unit, World};
use super::tapped::Tapped;
use super::transforms::Transforming;
use crate::error::{Code, Error, Result};
use crate::model::weights;
use std::collections::VecDeque;

/// What is being done.
#[derive(Debug)]
enum Stage {
    /// The block's tensors are asked for.
    Read,
    Calibrate(Passes),
    Transform(Transforming),
    /// The next input, calibrated on what is rounded so far.
    Input,
    Round(SharedInput),
    Forward(Passes),
    /// Tensors that transforms may have changed, last one first.
    Write(Vec<String>),
    Copy,
}

/// Changes, calibrates and quantizes one block.
#[derive(Debug)]
pub(super) struct WholeBlock {
    index: usize,
    stage: Option<Stage>,
    material: Option<Material>,
    /// Inputs whose linears are not rounded yet.
    inputs: VecDeque<Input>,
    taps: Vec<Tapped>,
    expected: Option<Activations>,
    written: Option<Activations>,
    copier: Copier,
    sink: Sink,
    reports: Vec<LayerReport>,
    transforms: Vec<TransformReport>,
    notes: Vec<String>,
    cache: Option<CacheReport>,
}

impl WholeBlock {
    /// `expected` is what an earlier run vouched for, if this is the first block after a resume.
    pub(super) fn new(plan: &Plan, index: usize, expected: Option<Activations>) -> Self {
        Self {
            index,
            stage: None,
            material: None,
            inputs: inputs::quantized(plan, index).into(),
            taps: Vec::new(),
            expected,
            written: None,
            copier: Copier::new(&plan.copies[index]),
            sink: Sink::default(),
            reports: Vec::new(),
            transforms: Vec::new(),
            notes: Vec::new(),
            cache: None,
        }
    }

    /// What follows once the block is read: a pass for every input that is wanted.
    fn begin(&mut self, world: &World<'_>) -> Stage {
        let plan = world.plan;
        let mut wanted = inputs::wanted(plan, self.index);
        if plan.true_sequential && plan.changes.scalings.is_empty() {
            wanted.truncate(1);
        }
        if plan.calibration.is_none() {
            return Stage::Transform(Transforming::new(plan, self.index));
        }
        match self.tap(plan, &wanted) {
            Some(passes) => Stage::Calibrate(passes.expecting(self.expected.take())),
            None => Stage::Input,
        }
    }

    /// A pass that looks at some inputs; none when there are none.
    fn tap(&mut self, plan: &Plan, wanted: &[Input]) -> Option<Passes> {
        self.taps = wanted.iter().map(Tapped::new).collect();
        let until = wanted.last()?.parts.first()?;
        Some(Passes::calibrate(plan, self.index, Some(*until)))
    }

    /// The next shared input to round for; after the last one, what follows.
    fn next_input(&mut self, world: &World<'_>) -> Result<Stage> {
        let plan = world.plan;
        let Some(input) = self.inputs.front() else {
            return self.rounded(world);
        };
        let find = |t: &Tapped| t.parts == input.parts;
        let tap = self.taps.iter().position(find);
        if plan.sees_inputs && tap.is_none() {
            let wanted = vec![input.clone()];
            if let Some(material) = &mut self.material {
                material.refresh()?;
            }
            let none = || Error::new(Code::Internal, "an input without linears");
            let passes = self.tap(plan, &wanted).ok_or_else(none)?;
            return Ok(Stage::Calibrate(passes));
        }
        let tapped = tap.map(|i| self.taps.swap_remove(i));
        if plan.true_sequential {
            // The others are looked at again, after this one's linears are rounded.
            self.taps.clear();
        }
        let layers = self.inputs.pop_front().map(|i| i.layers);
        let shared = SharedInput::new(world, tapped, layers.unwrap_or_default());
        Ok(Stage::Round(shared))
    }

    /// What follows the last rounding.
    fn rounded(&mut self, world: &World<'_>) -> Result<Stage> {
        let plan = world.plan;
        self.taps.clear();
        if let Some(material) = &mut self.material {
            material.settle(plan)?;
        }
        if plan.runs_quantized(self.index) {
            return Ok(Stage::Forward(Passes::forward(plan, self.index)));
        }
        Ok(self.write(plan))
    }

    fn write(&mut self, plan: &Plan) -> Stage {
        let mut names: Vec<_> = plan.rewritten[self.index].clone();
        names.reverse();
        Stage::Write(names)
    }

    /// Hands a rounded linear to the files and puts it in the place of the source weight.
    fn place(&mut self, world: &World<'_>, done: Finished) -> Result<()> {
        let (plan, module) = (world.plan, &done.layer.linear.module);
        if plan.strict
            && let Some(why) = &done.report.fallback
        {
            return Err(Error::new(Code::Fallback, why.clone())
                .at(format!("layer {module:?}"))
                .remedy("use more calibration text, or leave strict out"));
        }
        let encoded = plan.layout.encode(
            module,
            &done.matrix,
            &done.layer.scheme,
            done.layer.scale_dtype,
        )?;
        for tensor in encoded {
            self.sink.tensor(&plan.files, &tensor.name, &tensor.bytes)?;
        }
        self.reports.push(done.report);
        material(&mut self.material)?.place(world, done.layer.linear.part, &done.matrix)
    }

    /// Goes on with a stage: what to ask, or the next stage.
    fn run(
        &mut self,
        world: &mut World<'_>,
        stage: Stage,
        answer: Vec<Vec<u8>>,
    ) -> Result<(Option<Ask>, Stage)> {
        match stage {
            Stage::Read => {
                let (material, notes) = Material::read(world, self.index, answer)?;
                self.material = Some(material);
                self.notes.extend(notes);
                Ok((Some(world.report()), self.begin(world)))
            }
            Stage::Calibrate(mut passes) => {
                let block = material(&mut self.material)?.running()?;
                match passes.poll(world, &answer, block, &mut self.taps)? {
                    Some(ask) => Ok((Some(ask), Stage::Calibrate(passes))),
                    None => Ok((None, self.calibrated(world)?)),
                }
            }
            Stage::Transform(mut work) => {
                let material = material(&mut self.material)?;
                if !work.step(world, material, &mut self.taps)? {
                    return Ok((Some(world.report()), Stage::Transform(work)));
                }
                self.transforms.append(&mut work.reports);
                Ok((None, Stage::Input))
            }
            Stage::Input => Ok((None, self.next_input(world)?)),
            Stage::Round(shared) if shared.is_done() => Ok((None, Stage::Input)),
            Stage::Round(mut shared) => {
                if let Some(done) = shared.step(world, material(&mut self.material)?)? {
                    self.place(world, done)?;
                }
                Ok((Some(world.report()), Stage::Round(shared)))
            }
            Stage::Forward(mut passes) => {
                let block = material(&mut self.material)?.running()?;
                if let Some(ask) = passes.poll(world, &answer, block, &mut [])? {
                    return Ok((Some(ask), Stage::Forward(passes)));
                }
                self.cache = cache::keep(world.plan, passes.take_observed(), &mut self.sink)?;
                self.written = passes.written();
                Ok((None, self.write(world.plan)))
            }
            Stage::Write(mut names) => {
                let Some(name) = names.pop() else {
                    self.material = None;
                    return Ok((None, Stage::Copy));
                };
                let bytes = material(&mut self.material)?.stored(world.plan, &name)?;
                self.sink.tensor(&world.plan.files, &name, &bytes)?;
                Ok((None, Stage::Write(names)))
            }
            Stage::Copy => {
                let ask = self.copier.poll(world, &mut self.sink, answer)?;
                Ok((ask, Stage::Copy))
            }
        }
    }

    /// Ends the statistics of a pass; transforms come after the first.
    fn calibrated(&mut self, world: &World<'_>) -> Result<Stage> {
        for tapped in &mut self.taps {
            tapped.finish(world.cpu)?;
        }
        let first = self.reports.is_empty() && self.transforms.is_empty();
        if first && !world.plan.changes.scalings.is_empty() {
            let work = Transforming::new(world.plan, self.index);
            return Ok(Stage::Transform(work));
        }
        Ok(Stage::Input)
    }
}

fn material(material: &mut Option<Material>) -> Result<&mut Material> {
    let none = || Error::new(Code::Internal, "the block is not in memory");
    material.as_mut().ok_or_else(none)
}

impl Unit for WholeBlock {
    fn poll(&mut self, world: &mut World<'_>, answer: Vec<Vec<u8>>) -> Result<Option<Ask>> {
        let mut answer = Some(answer);
        loop {
            let Some(stage) = self.stage.take() else {
                self.stage = Some(Stage::Read);
                let names = weights::block_tensors(&world.plan.model, self.index);
                let tensors = names.into_iter().map(|n| n.name).collect();
                return Ok(Some(Ask::Read { tensors }));
            };
            if let Some(write) = self.sink.pop() {
                // Only stages that await no answer fill the sink before the copies.
                self.stage = Some(stage);
                return Ok(Some(write));
            }
            let at_end = matches!(stage, Stage::Copy);
            let (ask, next) = self.run(world, stage, answer.take().unwrap_or_default())?;
            self.stage = Some(next);
            if ask.is_some() || at_end {
                return Ok(ask);
            }
        }
    }

    fn line(&mut self) -> Option<Line> {
        self.notes.append(&mut self.copier.notes);
        Some(Line {
            unit: format!("block {}", self.index),
            tensors: self.sink.take_hashes(),
            activations: self.written.take(),
            layers: std::mem::take(&mut self.reports),
            transforms: std::mem::take(&mut self.transforms),
            notes: std::mem::take(&mut self.notes),
            cache: self.cache.take(),
        })
    }
}
