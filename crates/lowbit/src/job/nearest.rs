//! One block of a method that needs no data: each linear is read, rounded and written by itself,
//! some rows at a time. Matrices that are to share NVFP4's scale are looked at before.

use super::Ask;
use super::copy::Copier;
use super::finite;
use super::joint::{self, Joint};
use super::journal::Line;
use super::pace;
use super::plan::{Layer, Plan};
use super::report::LayerReport;
use super::running::{round_plain, run_time_inputs};
use super::sink::Sink;
use super::stacked::{Stacked, cuts};
use super::step::{Unit, World};
use crate::error::{Code, Error, Result};
use crate::round::Weights;
use crate::tensor::f32_from;
use std::collections::VecDeque;

/// Quantizes and copies the tensors of one block.
#[derive(Debug)]
pub(super) struct NearestBlock {
    block: usize,
    /// Layers whose weights are only looked at yet.
    unseen: VecDeque<Layer>,
    joint: Joint,
    layer: usize,
    layers: usize,
    rows: usize,
    asked: bool,
    /// Rows that are not rounded yet.
    weights: Vec<f32>,
    zeroed: usize,
    rounded: Stacked,
    copier: Copier,
    sink: Sink,
    reports: Vec<LayerReport>,
    notes: Vec<String>,
}

impl NearestBlock {
    pub(super) fn new(plan: &Plan, block: usize) -> Self {
        Self {
            block,
            unseen: joint::scanned(plan, block).into(),
            joint: Joint::default(),
            layer: 0,
            layers: plan.layers_of(block).count(),
            rows: 0,
            asked: false,
            weights: Vec::new(),
            zeroed: 0,
            rounded: Stacked::default(),
            copier: Copier::new(&plan.copies[block]),
            sink: Sink::default(),
            reports: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// The next rows of a linear as floats, and how many values had to be made zero.
    fn widen(
        &mut self,
        plan: &Plan,
        layer: &Layer,
        mut bytes: Vec<u8>,
    ) -> Result<(Vec<f32>, usize)> {
        let (cols, dtype) = (layer.linear.cols, layer.dtype);
        let first = (self.rows * cols * dtype.bits() / 8) as u64;
        let name = &layer.linear.weight;
        let zeroed = plan.nonfinite.check(name, dtype, &mut bytes, first)?;
        let mut weights = vec![0.0f32; bytes.len() * 8 / dtype.bits()];
        f32_from(dtype, &bytes, &mut weights)?;
        self.rows += weights.len() / cols;
        Ok((weights, zeroed))
    }

    /// Looks at the next rows of a layer that shares its scale.
    fn look(&mut self, plan: &Plan, layer: &Layer, bytes: Vec<u8>) -> Result<()> {
        let (weights, _) = self.widen(plan, layer, bytes)?;
        self.joint.add(layer, &weights);
        if self.rows == layer.linear.rows {
            self.rows = 0;
            self.unseen.pop_front();
        }
        Ok(())
    }

    /// Takes the next rows of a linear, which are rounded at once or when all are there.
    fn take(&mut self, world: &mut World<'_>, layer: &Layer, bytes: Vec<u8>) -> Result<()> {
        let (plan, cols) = (world.plan, layer.linear.cols);
        let (mut weights, zeroed) = self.widen(plan, layer, bytes)?;
        self.zeroed += zeroed;
        let rows = weights.len() / cols;
        let whole = self.rows == layer.linear.rows;
        self.weights.append(&mut weights);
        if whole || cuts(&layer.scheme) {
            self.round(world, layer)?;
        }
        let work = pace::round_work(rows, cols, false);
        world.advance("quantize", Some(self.block), work);
        if whole {
            self.finish(plan, layer)?;
        }
        Ok(())
    }

    fn round(&mut self, world: &World<'_>, layer: &Layer) -> Result<()> {
        let values = std::mem::take(&mut self.weights);
        let weights = Weights {
            values: &values,
            rows: values.len() / layer.linear.cols,
            cols: layer.linear.cols,
            importance: world.plan.importance_of(layer).map(|i| &**i),
        };
        let place = |e: Error| e.at(format!("layer {:?}", layer.linear.module));
        let largest = self.joint.of_layer(layer);
        let part = round_plain(world, layer, layer.method, weights, largest).map_err(place)?;
        self.rounded.push(part, &values, world.cpu)
    }

    fn finish(&mut self, plan: &Plan, layer: &Layer) -> Result<()> {
        let (matrix, quality) = std::mem::take(&mut self.rounded).finish();
        let Some(mut matrix) = matrix else {
            return Err(Error::new(Code::Internal, "no rows were rounded"));
        };
        matrix.inputs = run_time_inputs(layer, None);
        let note = finite::note(&layer.linear.weight, std::mem::take(&mut self.zeroed));
        self.notes.extend(note);
        for tensor in plan.layout.encode(
            &layer.linear.module,
            &matrix,
            &layer.scheme,
            layer.scale_dtype,
        )? {
            self.sink.tensor(&plan.files, &tensor.name, &tensor.bytes)?;
        }
        self.reports
            .push(LayerReport::new(layer, layer.method.name, quality));
        self.rows = 0;
        self.layer += 1;
        Ok(())
    }
}

impl Unit for NearestBlock {
    fn poll(&mut self, world: &mut World<'_>, answer: Vec<Vec<u8>>) -> Result<Option<Ask>> {
        let plan = world.plan;
        if self.asked {
            self.asked = false;
            if let Some(layer) = self.unseen.front().cloned() {
                let bytes = answer.into_iter().next().unwrap_or_default();
                self.look(plan, &layer, bytes)?;
                return Ok(Some(world.report()));
            }
            let Some(layer) = plan.layers_of(self.block).nth(self.layer) else {
                return Err(Error::new(Code::Internal, "no layer was asked for"));
            };
            let bytes = answer.into_iter().next().unwrap_or_default();
            self.take(world, layer, bytes)?;
            return Ok(Some(world.report()));
        }
        if let Some(write) = self.sink.pop() {
            return Ok(Some(write));
        }
        if self.layer == self.layers {
            return self.copier.poll(world, &mut self.sink, answer);
        }
        let next = plan.layers_of(self.block).nth(self.layer);
        let Some(layer) = self.unseen.front().or(next) else {
            return Ok(None);
        };
        let row_bytes = layer.linear.cols * layer.dtype.bits() / 8;
        let observer = plan.round_options(layer).observer;
        let slice = pace::rows_per_slice(layer.linear.cols, observer);
        let rows = slice.min(layer.linear.rows - self.rows);
        self.asked = true;
        Ok(Some(Ask::ReadRange {
            tensor: layer.linear.weight.clone(),
            offset: (self.rows * row_bytes) as u64,
            len: (rows * row_bytes) as u64,
        }))
    }

    fn line(&mut self) -> Option<Line> {
        self.notes.append(&mut self.copier.notes);
        Some(Line {
            unit: format!("block {}", self.block),
            tensors: self.sink.take_hashes(),
            layers: std::mem::take(&mut self.reports),
            notes: std::mem::take(&mut self.notes),
            ..Line::default()
        })
    }
}
