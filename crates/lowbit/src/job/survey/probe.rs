//! One block of a survey: every scheme is tried on every place, some are run.

use super::super::Ask;
use super::super::inputs::{self, Input};
use super::super::journal::Line;
use super::super::material::Material;
use super::super::pace;
use super::super::passes::Passes;
use super::super::plan::{Layer, Plan};
use super::super::shared::{Finished, SharedInput};
use super::super::step::{Unit, World};
use super::super::tapped::Tapped;
use super::pieces::{carry, no_block, replace};
use super::{Cell, Place, Survey, Variant, measured, measured_tokens, places};
use crate::cpu::{Compute, Cpu};
use crate::error::{Code, Error, Result};
use crate::kernels::matmul::Weight;
use crate::matrix::QuantizedMatrix;
use crate::model::ops::Part;
use crate::model::weights;
use crate::transform::curvature::Curvature;
use std::collections::VecDeque;

/// What is being done.
#[derive(Debug)]
enum Stage {
    Read,
    Calibrate(Passes),
    /// The next place, or the next of its inputs.
    Next,
    Round(SharedInput, Curvature),
    /// The activations that other places left behind: how many are done.
    Carry(usize),
    Done,
}

/// Surveys one block.
#[derive(Debug)]
pub(in super::super) struct Probe {
    index: usize,
    stage: Option<Stage>,
    material: Option<Material>,
    taps: Vec<Tapped>,
    places: VecDeque<Vec<Input>>,
    /// Inputs of the place under way that are not rounded yet.
    inputs: VecDeque<Input>,
    /// Matrices of the place under way, by scheme, as far as they are run.
    held: Vec<Vec<(Part, QuantizedMatrix)>>,
    /// Variants that are older than this block.
    older: usize,
}

impl Probe {
    pub(in super::super) fn new(plan: &Plan, index: usize) -> Self {
        Self {
            index,
            stage: None,
            material: None,
            taps: Vec::new(),
            places: places(plan, index).into(),
            inputs: VecDeque::new(),
            held: Vec::new(),
            older: 0,
        }
    }

    /// How much work it is, for progress.
    pub(in super::super) fn work(plan: &Plan, index: usize) -> u64 {
        let schemes = plan.budget.as_ref().map_or(1, |b| b.candidates.len()) as u64;
        let all = plan.calibration.map_or(0, |c| c.samples * c.length);
        let rounding = inputs::work(plan, index);
        let (samples, length) = measured_tokens(plan);
        let variants = super::MEASURED.min(8 * (index + 1));
        pace::pass_work(plan, index, all)
            + schemes * rounding
            + pace::pass_work(plan, index, samples * length * variants)
    }

    fn begin(&mut self, world: &World<'_>) -> Stage {
        let inputs = inputs::quantized(world.plan, self.index);
        self.taps = inputs.iter().map(Tapped::new).collect();
        self.older = world.survey.variants.len();
        Stage::Calibrate(Passes::forward(world.plan, self.index))
    }

    /// The next input to round for, all schemes at once.
    fn next(&mut self, world: &mut World<'_>) -> Result<Stage> {
        if self.inputs.is_empty() {
            let Some(place) = self.places.pop_front() else {
                return Ok(Stage::Carry(0));
            };
            let row = row(world.plan, &place)?;
            self.held = vec![Vec::new(); row.cells.len()];
            world.survey.places.push(row);
            self.inputs = place.into();
        }
        let Some(input) = self.inputs.pop_front() else {
            return Ok(Stage::Next);
        };
        let tap = self.taps.iter().position(|t| t.parts == input.parts);
        let missing = || Error::new(Code::Internal, "an input was not looked at");
        let tapped = self.taps.swap_remove(tap.ok_or_else(missing)?);
        let curvature = Curvature::new(world.cpu, &tapped.stats.hessian, 0..input.width)?;
        let layers = with_schemes(world.plan, &input.layers);
        let shared = SharedInput::new(world, Some(tapped), layers);
        Ok(Stage::Round(shared, curvature))
    }

    /// Counts what a rounded linear loses, and keeps it if it is run.
    fn count(
        &mut self,
        world: &mut World<'_>,
        done: Finished,
        curvature: &Curvature,
    ) -> Result<()> {
        let material = self.material.as_ref().ok_or_else(no_block)?;
        let part = done.layer.linear.part;
        let loss = loss(world.cpu, material.values(part)?, &done.matrix, curvature)?;
        let Some(place) = world.survey.places.last_mut() else {
            return Err(no_block());
        };
        let scheme = done.layer.scheme;
        let cell = place.cells.iter().position(|c| c.scheme == scheme);
        let cell = cell.ok_or_else(no_block)?;
        place.cells[cell].proxy += loss;
        if cell < measured(world.plan, self.index) {
            self.held[cell].push((part, done.matrix));
        }
        Ok(())
    }

    /// Runs the measured tokens through the block with one place quantized.
    fn vary(&mut self, world: &mut World<'_>) -> Result<bool> {
        let Some(cell) = self.held.iter().position(|h| !h.is_empty()) else {
            return Ok(false);
        };
        let matrices = std::mem::take(&mut self.held[cell]);
        let material = self.material.as_mut().ok_or_else(no_block)?;
        let block = material.running.as_mut().ok_or_else(no_block)?;
        let mut before = Vec::new();
        for (part, matrix) in &matrices {
            let weight = Weight::packed(matrix, Compute::F32, world.cpu.isa)?;
            before.push((*part, replace(block, *part, weight)?));
        }
        let mut hidden = world.survey.base.clone();
        carry(world.cpu, world.plan, block, &mut hidden)?;
        for (part, weight) in before {
            replace(block, part, weight)?;
        }
        let place = world.survey.places.len() - 1;
        let variant = Variant {
            place,
            cell,
            hidden,
        };
        world.survey.variants.push(variant);
        Ok(true)
    }

    fn run(
        &mut self,
        world: &mut World<'_>,
        stage: Stage,
        answer: Vec<Vec<u8>>,
    ) -> Result<(Option<Ask>, Stage)> {
        match stage {
            Stage::Read => {
                self.material = Some(Material::read(world, self.index, answer)?.0);
                Ok((Some(world.report()), self.begin(world)))
            }
            Stage::Calibrate(mut passes) => {
                let block = self.material.as_ref().ok_or_else(no_block)?.running()?;
                let ask = passes.poll(world, &answer, block, &mut self.taps)?;
                if ask.is_some() {
                    return Ok((ask, Stage::Calibrate(passes)));
                }
                for tapped in &mut self.taps {
                    tapped.finish(world.cpu)?;
                }
                Ok((None, Stage::Next))
            }
            Stage::Next => {
                // A place is run when all its inputs are rounded.
                if self.inputs.is_empty() && self.vary(world)? {
                    return Ok((Some(world.report()), Stage::Next));
                }
                Ok((None, self.next(world)?))
            }
            Stage::Round(shared, _) if shared.is_done() => Ok((None, Stage::Next)),
            Stage::Round(mut shared, curvature) => {
                let material = self.material.as_ref().ok_or_else(no_block)?;
                if let Some(done) = shared.step(world, material)? {
                    self.count(world, done, &curvature)?;
                }
                Ok((Some(world.report()), Stage::Round(shared, curvature)))
            }
            Stage::Carry(done) => {
                let material = self.material.as_ref().ok_or_else(no_block)?;
                let Survey { base, variants, .. } = &mut *world.survey;
                let older = variants[..self.older].iter_mut().map(|v| &mut v.hidden);
                let Some(hidden) = older.chain([base]).nth(done) else {
                    self.material = None;
                    return Ok((None, Stage::Done));
                };
                carry(world.cpu, world.plan, material.running()?, hidden)?;
                Ok((Some(world.report()), Stage::Carry(done + 1)))
            }
            Stage::Done => Ok((None, Stage::Done)),
        }
    }
}

impl Unit for Probe {
    fn poll(&mut self, world: &mut World<'_>, answer: Vec<Vec<u8>>) -> Result<Option<Ask>> {
        let mut answer = Some(answer);
        loop {
            let Some(stage) = self.stage.take() else {
                self.stage = Some(Stage::Read);
                let names = weights::block_tensors(&world.plan.model, self.index);
                let tensors = names.into_iter().map(|n| n.name).collect();
                return Ok(Some(Ask::Read { tensors }));
            };
            let (ask, next) = self.run(world, stage, answer.take().unwrap_or_default())?;
            let done = matches!(next, Stage::Done);
            self.stage = Some(next);
            if ask.is_some() || done {
                return Ok(ask);
            }
        }
    }

    fn line(&mut self) -> Option<Line> {
        None
    }
}

/// The table's row of a place.
fn row(plan: &Plan, place: &[Input]) -> Result<Place> {
    let layers = || place.iter().flat_map(|i| &i.layers);
    let first = layers().next().ok_or_else(no_block)?;
    let mut cells: Vec<Cell> = Vec::new();
    for layer in with_schemes(plan, &layers().cloned().collect::<Vec<_>>()) {
        let bits = plan.layer_bits(&layer)?;
        match cells.iter_mut().find(|c| c.scheme == layer.scheme) {
            Some(cell) => cell.bits += bits,
            None => cells.push(Cell {
                scheme: layer.scheme,
                bits,
                proxy: 0.0,
                kl: None,
                cost: 0.0,
            }),
        }
    }
    let role = first.linear.module.rsplit('.').next();
    Ok(Place {
        block: first.block,
        role: role.unwrap_or_default().into(),
        layers: layers().map(|l| l.linear.module.clone()).collect(),
        weights: layers()
            .map(|l| (l.linear.rows * l.linear.cols) as u64)
            .sum(),
        cells,
    })
}

/// Every layer with every scheme that its place may get, scheme by scheme.
fn with_schemes(plan: &Plan, layers: &[Layer]) -> Vec<Layer> {
    let Some(budget) = &plan.budget else {
        return Vec::new();
    };
    let schemes = layers
        .first()
        .map(|l| budget.schemes(l))
        .unwrap_or_default();
    let with = |scheme| {
        layers.iter().cloned().map(move |mut layer| {
            layer.scheme = scheme;
            layer
        })
    };
    schemes.into_iter().flat_map(with).collect()
}

/// Σ (w − q)ᵀ·H·(w − q).
fn loss(
    cpu: &Cpu,
    mut values: Vec<f32>,
    matrix: &QuantizedMatrix,
    curvature: &Curvature,
) -> Result<f64> {
    let mut row = vec![0.0; matrix.cols];
    for (r, values) in values.chunks_exact_mut(matrix.cols).enumerate() {
        matrix.dequantize_row(r, &mut row)?;
        values.iter_mut().zip(&row).for_each(|(w, q)| *w -= q);
    }
    Ok(curvature.rows(cpu, &values).iter().sum())
}
