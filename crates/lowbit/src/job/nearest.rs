//! One block of a method that needs no data: each linear is read, rounded and written by itself,
//! some rows at a time.

use super::Ask;
use super::copy::{Copier, require_finite};
use super::journal::Line;
use super::pace;
use super::plan::{Layer, Plan};
use super::report::{LayerReport, quality};
use super::sink::Sink;
use super::step::{Unit, World};
use crate::error::{Code, Error, Result};
use crate::matrix::{Floats, Integer, QuantizedMatrix, Scales, Values, Zero};
use crate::round::gptq::Quality;
use crate::round::{Kind, Weights, hqq, rtn};
use crate::tensor::f32_from;

/// Quantizes and copies the tensors of one block.
#[derive(Debug)]
pub(super) struct NearestBlock {
    block: usize,
    layer: usize,
    layers: usize,
    rows: usize,
    asked: bool,
    matrix: Option<QuantizedMatrix>,
    quality: Quality,
    copier: Copier,
    sink: Sink,
    reports: Vec<LayerReport>,
}

impl NearestBlock {
    pub(super) fn new(plan: &Plan, block: usize) -> Self {
        Self {
            block,
            layer: 0,
            layers: plan.layers_of(block).count(),
            rows: 0,
            asked: false,
            matrix: None,
            quality: Quality::default(),
            copier: Copier::new(&plan.copies[block]),
            sink: Sink::default(),
            reports: Vec::new(),
        }
    }

    fn round(&mut self, world: &mut World<'_>, layer: &Layer, bytes: &[u8]) -> Result<()> {
        let (plan, cols, dtype) = (world.plan, layer.linear.cols, layer.dtype);
        let first = (self.rows * cols * dtype.bits() / 8) as u64;
        require_finite(&layer.linear.weight, dtype, bytes, first)?;
        let mut weights = vec![0.0f32; bytes.len() * 8 / dtype.bits()];
        f32_from(dtype, bytes, &mut weights)?;
        let rows = weights.len() / cols;
        let options = plan.round_options(layer);
        let place = |e: Error| e.at(format!("layer {:?}", layer.linear.module));
        let source = Weights {
            values: &weights,
            rows,
            cols,
            importance: None,
        };
        let round = match plan.method.kind {
            Kind::Hqq => hqq::round,
            Kind::Rtn | Kind::Gptq => rtn::round,
        };
        let part = round(source, &layer.scheme, &options, world.cpu);
        let part = part.map_err(place)?;
        let q = quality(world.cpu, &part, &weights)?;
        self.quality.squared_error += q.squared_error;
        self.quality.squared_weight += q.squared_weight;
        self.rows += rows;
        world.advance(
            "quantize",
            Some(self.block),
            pace::round_work(rows, cols, false),
        );
        self.matrix = Some(match self.matrix.take() {
            None => part,
            Some(matrix) => append(matrix, part)?,
        });
        if self.rows == layer.linear.rows {
            self.finish(plan, layer)?;
        }
        Ok(())
    }

    fn finish(&mut self, plan: &Plan, layer: &Layer) -> Result<()> {
        let Some(matrix) = self.matrix.take() else {
            return Err(Error::new(Code::Internal, "no rows were rounded"));
        };
        for tensor in plan
            .layout
            .encode(&layer.linear.module, &matrix, &layer.scheme)?
        {
            self.sink.tensor(plan, &tensor.name, &tensor.bytes)?;
        }
        let quality = std::mem::take(&mut self.quality);
        self.reports
            .push(LayerReport::new(layer, plan.method.name, quality));
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
            let Some(layer) = plan.layers_of(self.block).nth(self.layer) else {
                return Err(Error::new(Code::Internal, "no layer was asked for"));
            };
            let bytes = answer.into_iter().next().unwrap_or_default();
            self.round(world, layer, &bytes)?;
            return Ok(Some(world.report()));
        }
        if let Some(write) = self.sink.pop() {
            return Ok(Some(write));
        }
        if self.layer == self.layers {
            return self.copier.poll(world, &mut self.sink, answer);
        }
        let Some(layer) = plan.layers_of(self.block).nth(self.layer) else {
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
        Some(Line {
            unit: format!("block {}", self.block),
            tensors: self.sink.take_hashes(),
            activations: None,
            layers: std::mem::take(&mut self.reports),
        })
    }
}

/// The rows of `b` below those of `a`; both come from the same rounder and scheme.
fn append(a: QuantizedMatrix, b: QuantizedMatrix) -> Result<QuantizedMatrix> {
    let differ = || Error::new(Code::Internal, "slices of one matrix differ in kind");
    let (Values::Integer(mut x), Values::Integer(y)) = (a.values, b.values) else {
        return Err(differ());
    };
    x.codes.words.extend(y.codes.words);
    x.scales = match (x.scales, y.scales) {
        (Scales::Flat(a), Scales::Flat(b)) => Scales::Flat(join(a, b).ok_or_else(differ)?),
        _ => return Err(differ()),
    };
    x.zero = match (x.zero, y.zero) {
        (Zero::Centre, Zero::Centre) => Zero::Centre,
        (Zero::Int(mut a), Zero::Int(b)) => {
            a.extend(b);
            Zero::Int(a)
        }
        (Zero::Float(a), Zero::Float(b)) => Zero::Float(join(a, b).ok_or_else(differ)?),
        _ => return Err(differ()),
    };
    Ok(QuantizedMatrix {
        rows: a.rows + b.rows,
        cols: a.cols,
        inputs: None,
        values: Values::Integer(Integer { ..x }),
    })
}

fn join(a: Floats, b: Floats) -> Option<Floats> {
    Some(match (a, b) {
        (Floats::F32(mut a), Floats::F32(b)) => {
            a.extend(b);
            Floats::F32(a)
        }
        (Floats::F16(mut a), Floats::F16(b)) => {
            a.extend(b);
            Floats::F16(a)
        }
        (Floats::Bf16(mut a), Floats::Bf16(b)) => {
            a.extend(b);
            Floats::Bf16(a)
        }
        _ => return None,
    })
}
