//! Linears that share an input: one Hessian, one factor, each rounded with it.

use super::pace;
use super::passes::Tapped;
use super::plan::Layer;
use super::report::{LayerReport, quality};
use super::step::World;
use crate::cpu::Cpu;
use crate::error::Result;
use crate::kernels::matmul::Weight;
use crate::matrix::QuantizedMatrix;
use crate::model::Block;
use crate::round::factor::{Factor, Factored, Factoring};
use crate::round::gptq::{Extra, Quality, Rounding};
use crate::round::hessian::Hessian;
use crate::round::{RoundOptions, Weights, rtn};
use std::collections::VecDeque;

/// How far the work on one shared input is.
#[derive(Debug)]
pub(super) struct SharedInput {
    /// Linears that are not rounded yet, in production order.
    layers: VecDeque<Layer>,
    hessian: Option<Hessian>,
    factoring: Factoring,
    factored: Option<Factored>,
    rounding: Option<Rounding>,
}

/// A linear that is finished.
#[derive(Debug)]
pub(super) struct Finished {
    pub layer: Layer,
    pub matrix: QuantizedMatrix,
    pub report: LayerReport,
}

impl SharedInput {
    /// Takes the sums of all inputs and the linears that get them; there is at least one.
    pub(super) fn new(world: &World<'_>, mut tapped: Tapped, layers: VecDeque<Layer>) -> Self {
        tapped.hessian.finish(world.cpu);
        let first = layers.front();
        let options = first.map(|l| world.plan.round_options(l).gptq);
        let options = options.unwrap_or_default();
        let n = tapped.hessian.width();
        let group = first.and_then(|l| l.scheme.group_cols(n).ok()).unwrap_or(n);
        Self {
            factoring: Factoring::grouped(&tapped.hessian, options.order, group, options.damp),
            hessian: Some(tapped.hessian),
            layers,
            factored: None,
            rounding: None,
        }
    }

    /// Whether every linear is finished.
    pub(super) fn is_done(&self) -> bool {
        self.layers.is_empty()
    }

    /// Works for about a tenth of a second; a linear when one got finished.
    pub(super) fn step(
        &mut self,
        world: &mut World<'_>,
        block: &Block<Weight>,
    ) -> Result<Option<Finished>> {
        if let Some(hessian) = &self.hessian {
            self.factored = self.factoring.step(world.cpu, hessian);
            if self.factored.is_some() {
                let n = hessian.width();
                world.advance("quantize", world.block(), pace::factor_work(n));
                self.hessian = None;
            }
            return Ok(None);
        }
        let (Some(layer), Some(factored)) = (self.layers.front(), &self.factored) else {
            return Ok(None);
        };
        let weight = block.matrix(layer.linear.part).0;
        let options = world.plan.round_options(layer);
        let rounded = match factored {
            Factored::Ready(factor) => {
                let rounding = &mut self.rounding;
                with_factor(world.cpu, rounding, (layer, weight), options, factor)?
            }
            Factored::Failed(reason) => {
                let (matrix, report) = to_nearest(world.cpu, layer, weight, options)?;
                Some((matrix, report.with_fallback(reason)))
            }
        };
        let Some((matrix, report)) = rounded else {
            return Ok(None);
        };
        let (rows, cols) = (matrix.rows, matrix.cols);
        let work = pace::round_work(rows, cols, true);
        world.advance("quantize", world.block(), work);
        let finished = self.layers.pop_front().map(|layer| Finished {
            layer,
            matrix,
            report,
        });
        Ok(finished)
    }
}

fn with_factor(
    cpu: &Cpu,
    running: &mut Option<Rounding>,
    (layer, weight): (&Layer, &Weight),
    options: RoundOptions,
    factor: &Factor,
) -> Result<Option<(QuantizedMatrix, LayerReport)>> {
    let mut rounding = match running.take() {
        Some(rounding) => rounding,
        None => Rounding::new(
            weight.rows(),
            weight.cols(),
            layer.scheme,
            options,
            Extra::default(),
        )?,
    };
    if !rounding.step(cpu, weight, factor) {
        *running = Some(rounding);
        return Ok(None);
    }
    let place = |e: crate::Error| e.at(format!("layer {:?}", layer.linear.module));
    let (matrix, quality) = rounding.finish(factor).map_err(place)?;
    let report = LayerReport::new(layer, "gptq", quality).with_factor(factor);
    Ok(Some((matrix, report)))
}

/// The fallback when a Hessian has no factor.
fn to_nearest(
    cpu: &Cpu,
    layer: &Layer,
    weight: &Weight,
    options: RoundOptions,
) -> Result<(QuantizedMatrix, LayerReport)> {
    let (rows, cols) = (weight.rows(), weight.cols());
    let mut values = vec![0.0f32; rows * cols];
    for (r, row) in values.chunks_exact_mut(cols).enumerate() {
        weight.row(r, row)?;
    }
    let weights = Weights {
        values: &values,
        rows,
        cols,
        importance: None,
    };
    let place = |e: crate::Error| e.at(format!("layer {:?}", layer.linear.module));
    let matrix = rtn::round(weights, &layer.scheme, &options, cpu).map_err(place)?;
    let quality: Quality = quality(cpu, &matrix, &values)?;
    Ok((matrix, LayerReport::new(layer, "rtn", quality)))
}
