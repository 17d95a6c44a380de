//! One linear on its way: pruned, then rounded by its method.

use super::material::{Material, dense};
use super::plan::Layer;
use super::report::{LayerReport, quality};
use super::shared::Seen;
use super::step::World;
use crate::error::Result;
use crate::kernels::matmul::Weight;
use crate::matrix::{Inputs, QuantizedMatrix, Values};
use crate::round::factor::Factor;
use crate::round::gptq::{Extra, Rounding};
use crate::round::mask::Mask;
use crate::round::prune::{self, Criterion, SparseGpt};
use crate::round::{self, Kind, Weights, hqq, rtn};
use crate::scheme::Element;
use crate::tensor::round_to;
use std::sync::Arc;

/// The linear under way.
#[derive(Debug)]
pub(super) struct Running {
    /// Its weights, unless they are those that passes run.
    weight: Option<Weight>,
    /// Its weights as floats, if anything has asked for them.
    values: Option<Vec<f32>>,
    pub mask: Option<Arc<Mask>>,
    pub pruned: bool,
    sparse: Option<SparseGpt>,
    rounding: Option<Rounding>,
    /// What NVFP4's scale must cover, with the matrices that it is shared with.
    pub largest: Option<f32>,
    /// Why a simpler method was used than the one asked for.
    pub note: Option<String>,
}

impl Running {
    pub(super) fn new() -> Self {
        Self {
            weight: None,
            values: None,
            mask: None,
            pruned: false,
            sparse: None,
            rounding: None,
            largest: None,
            note: None,
        }
    }

    /// Makes the form that column by column methods read, where floats were changed.
    fn prepare(&mut self, material: &Material, layer: &Layer) -> Result<()> {
        if self.weight.is_none()
            && let Some(float) = &material.float
        {
            self.weight = Some(float.matrix(layer.linear.part).0.to_weight()?);
        }
        Ok(())
    }

    fn weight<'a>(&'a self, material: &'a Material, layer: &Layer) -> Result<&'a Weight> {
        match &self.weight {
            Some(own) => Ok(own),
            None => Ok(material.running()?.matrix(layer.linear.part).0),
        }
    }

    /// Goes on with pruning.
    pub(super) fn prune(
        &mut self,
        world: &World<'_>,
        material: &Material,
        (layer, pruning): (&Layer, &prune::Pruning),
        seen: &Seen,
        factor: std::result::Result<&Factor, &str>,
    ) -> Result<()> {
        let (rows, cols) = (layer.linear.rows, layer.linear.cols);
        let (values, mask) = match (pruning.criterion, factor) {
            (Criterion::SparseGpt, Ok(factor)) => {
                self.prepare(material, layer)?;
                let mut sparse =
                    (self.sparse.take()).unwrap_or_else(|| SparseGpt::new(rows, cols, pruning));
                if !sparse.step(world.cpu, self.weight(material, layer)?, factor) {
                    self.sparse = Some(sparse);
                    return Ok(());
                }
                sparse.finish(factor)?
            }
            (criterion, factor) => {
                if let (Criterion::SparseGpt, Err(why)) = (criterion, factor) {
                    self.note = Some(format!("pruned by Wanda: {why}"));
                }
                let mut values = material.values(layer.linear.part)?;
                let mask = match (&seen.importance, criterion) {
                    (Some(squares), Criterion::Wanda | Criterion::SparseGpt) => {
                        let rms: Vec<_> = squares.iter().map(|v| v.sqrt()).collect();
                        prune::by_wanda(&values, rows, cols, &rms, pruning)
                    }
                    _ => prune::by_magnitude(&values, rows, cols, pruning),
                };
                mask.apply(&mut values);
                (values, mask)
            }
        };
        let with_factor = layer.method.kind == Kind::Gptq;
        self.weight = (with_factor.then(|| dense(rows, cols, &values))).transpose()?;
        self.values = Some(values);
        self.mask = Some(Arc::new(mask));
        self.pruned = true;
        Ok(())
    }

    pub(super) fn gptq(
        &mut self,
        world: &World<'_>,
        material: &Material,
        layer: &Layer,
        seen: &Seen,
        factor: &Factor,
    ) -> Result<Option<(QuantizedMatrix, LayerReport)>> {
        self.prepare(material, layer)?;
        let (rows, cols) = (layer.linear.rows, layer.linear.cols);
        let mut rounding = if let Some(rounding) = self.rounding.take() {
            rounding
        } else {
            let extra = Extra {
                importance: seen.importance(world.plan, layer).cloned(),
                mask: self.mask.clone(),
            };
            let options = world.plan.round_options(layer);
            Rounding::new(rows, cols, layer.scheme, options, extra)?
        };
        if !rounding.step(world.cpu, self.weight(material, layer)?, factor) {
            self.rounding = Some(rounding);
            return Ok(None);
        }
        let (matrix, quality) = rounding.finish(factor)?;
        let report = LayerReport::new(layer, layer.method.name, quality).with_factor(factor);
        Ok(Some((matrix, report)))
    }

    /// Rounds without looking at other columns.
    pub(super) fn nearest(
        &mut self,
        world: &World<'_>,
        material: &Material,
        layer: &Layer,
        method: &round::Method,
        seen: &Seen,
    ) -> Result<Option<(QuantizedMatrix, LayerReport)>> {
        let values = match self.values.take() {
            Some(values) => values,
            None => material.values(layer.linear.part)?,
        };
        let weights = Weights {
            values: &values,
            rows: layer.linear.rows,
            cols: layer.linear.cols,
            importance: seen.importance(world.plan, layer).map(|i| &**i),
        };
        let mut matrix = round_plain(world, layer, method, weights, self.largest)?;
        if let (true, Values::Integer(m)) = (world.plan.is_by_index(layer), &mut matrix.values) {
            // A place is kept for the group of each column, whatever method fills it.
            let group = m.group;
            let groups = (0..matrix.cols).map(|j| (j / group) as u32);
            m.group_of_col = Some(groups.collect());
        }
        let quality = quality(world.cpu, &matrix, &values)?;
        let report = LayerReport::new(layer, method.name, quality);
        Ok(Some((matrix, report)))
    }
}

/// Rounds by a method that needs no Hessian; `largest` is what NVFP4's scale must cover, the
/// matrix itself without.
pub(super) fn round_plain(
    world: &World<'_>,
    layer: &Layer,
    method: &round::Method,
    weights: Weights<'_>,
    largest: Option<f32>,
) -> Result<QuantizedMatrix> {
    if let Some(largest) = largest {
        return rtn::round_joined(weights, &layer.scheme, largest, world.cpu);
    }
    let options = world.plan.round_options(layer);
    match method.kind {
        Kind::Hqq => hqq::round(weights, &layer.scheme, &options, world.cpu),
        Kind::Rtn | Kind::Gptq => rtn::round(weights, &layer.scheme, &options, world.cpu),
    }
}

/// How the inputs of a layer are rounded at run time; `largest` is their largest magnitude on the
/// calibration text, for schemes with one scale for all.
pub(super) fn run_time_inputs(layer: &Layer, largest: Option<f32>) -> Option<Inputs> {
    let inputs = Inputs::of(&layer.scheme)?;
    // compressed-tensors' symmetric scale: the largest magnitude over half of the codes' range.
    let half = match inputs.element {
        Element::Int => 127.5,
        _ => 448.0,
    };
    let dynamic = layer.scheme.activations.is_none_or(|a| a.dynamic);
    let scale = (largest.filter(|_| !dynamic)).map(|max| match inputs.element {
        Element::Nvfp4 => rtn::nvfp4_divisor(max),
        _ => round_to(layer.scale_dtype, max / half).max(f32::MIN_POSITIVE),
    });
    Some(Inputs { scale, ..inputs })
}

/// Share of weights that are zero by a mask.
pub(super) fn sparsity(mask: &Mask) -> f64 {
    let (rows, cols) = mask.shape();
    1.0 - mask.kept() as f64 / (rows * cols).max(1) as f64
}
