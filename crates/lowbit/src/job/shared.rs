//! Linears that share an input: one Hessian, one factor, each pruned and rounded with it.
//!
//! ```text
//! Hessian ─► factor ─┬─► SparseGPT ─► GPTQ, with the pruned weights left out
//! E[x²] ─────────────┴─► Wanda ─────► RTN, HQQ
//! ```

use super::inputs::Tapped;
use super::material::Material;
use super::pace;
use super::plan::{Layer, Plan};
use super::report::LayerReport;
use super::running::{Running, run_time_inputs, sparsity};
use super::step::World;
use crate::error::{Code, Error, Result};
use crate::matrix::QuantizedMatrix;
use crate::round::factor::{Factored, Factoring};
use crate::round::gptq::Order;
use crate::round::prune::Criterion;
use crate::round::{self, Kind};
use crate::transform::InputStats;
use std::collections::VecDeque;
use std::sync::Arc;

/// How far the work on one shared input is.
#[derive(Debug)]
pub(super) struct SharedInput {
    /// Linears that are not rounded yet, in production order.
    layers: VecDeque<Layer>,
    /// Until no factor has to be made of them any more.
    stats: Option<InputStats>,
    seen: Seen,
    factoring: Option<Factoring>,
    /// The factor and the group that its order of columns is for.
    factored: Option<(usize, Factored)>,
    running: Option<Running>,
}

/// What is known of the input besides its Hessian.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// E[x²] of each channel.
    pub importance: Option<Arc<[f32]>>,
    /// Largest magnitude.
    pub largest: Option<f32>,
    /// Why its linears are rounded to nearest, if they saw too little.
    pub too_few: Option<String>,
}

/// A linear that is finished.
#[derive(Debug)]
pub(super) struct Finished {
    pub layer: Layer,
    pub matrix: QuantizedMatrix,
    pub report: LayerReport,
}

impl SharedInput {
    /// Takes what calibration kept of the input, if anything, and the linears that get it.
    pub(super) fn new(world: &World<'_>, tapped: Option<Tapped>, layers: Vec<Layer>) -> Self {
        let stats = tapped.map(|t| t.stats);
        let seen = stats.as_ref().map(|s| Seen::new(world.plan, s));
        Self {
            layers: layers.into(),
            stats,
            seen: seen.unwrap_or_default(),
            factoring: None,
            factored: None,
            running: None,
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
        material: &Material,
    ) -> Result<Option<Finished>> {
        let Some(layer) = self.layers.front().cloned() else {
            return Ok(None);
        };
        if self.needs_factor(world.plan, &layer) && !self.factor(world, &layer)? {
            return Ok(None);
        }
        let place = |e: Error| e.at(format!("layer {:?}", layer.linear.module));
        let mut running = match self.running.take() {
            Some(running) => running,
            None => Running::new(material, &layer)?,
        };
        let done = self.advance(world, material, &layer, &mut running);
        let Some((mut matrix, mut report)) = done.map_err(place)? else {
            self.running = Some(running);
            return Ok(None);
        };
        matrix.inputs = run_time_inputs(&layer, self.seen.largest);
        report.input_max = self.seen.largest;
        report.sparsity = running.mask.as_deref().map(sparsity);
        if let Some(why) = running.note.or_else(|| self.seen.too_few.clone()) {
            report = report.with_fallback(&why);
        }
        let with_factor = layer.method.kind == Kind::Gptq;
        let work = pace::round_work(matrix.rows, matrix.cols, with_factor);
        world.advance("quantize", world.block(), work);
        self.layers.pop_front();
        Ok(Some(Finished {
            layer,
            matrix,
            report,
        }))
    }

    fn needs_factor(&self, plan: &Plan, layer: &Layer) -> bool {
        let sparse = plan.pruning_of(layer).map(|p| p.criterion) == Some(Criterion::SparseGpt);
        self.seen.too_few.is_none()
            && self.running.as_ref().is_none_or(|r| r.note.is_none())
            && (layer.method.kind == Kind::Gptq || sparse)
    }

    /// Works on the factor for a layer; whether it is there.
    fn factor(&mut self, world: &mut World<'_>, layer: &Layer) -> Result<bool> {
        let options = world.plan.round_options(layer).gptq;
        let group = layer.scheme.group_cols(layer.linear.cols)?;
        let by_group = options.order == Order::GroupAware;
        if let Some((own, _)) = &self.factored
            && (*own == group || !by_group)
        {
            return Ok(true);
        }
        let none = || Error::new(Code::Internal, "a factor without a Hessian");
        let hessian = &self.stats.as_ref().ok_or_else(none)?.hessian;
        let factoring = self
            .factoring
            .get_or_insert_with(|| Factoring::for_rounding(hessian, &options, group));
        if let Some(factored) = factoring.step(world.cpu, hessian) {
            let work = pace::factor_work(hessian.width());
            world.advance("quantize", world.block(), work);
            self.factoring = None;
            self.factored = Some((group, factored));
            let again = |l: &Layer| l.scheme.group != layer.scheme.group;
            if !(by_group && self.layers.iter().any(again)) {
                self.stats = None;
            }
        }
        Ok(false)
    }

    /// Goes on with one linear; the matrix when it is rounded.
    fn advance(
        &self,
        world: &World<'_>,
        material: &Material,
        layer: &Layer,
        running: &mut Running,
    ) -> Result<Option<(QuantizedMatrix, LayerReport)>> {
        let plan = world.plan;
        let factor = match &self.factored {
            Some((_, Factored::Ready(factor))) => Ok(factor),
            Some((_, Factored::Failed(why))) => Err(why.as_str()),
            None => Err(""),
        };
        if let Some(pruning) = plan.pruning_of(layer).filter(|_| !running.pruned) {
            running.prune(world, material, layer, &pruning, &self.seen, factor)?;
            return Ok(None);
        }
        match (layer.method.kind, factor) {
            (Kind::Gptq, Ok(factor)) if self.seen.too_few.is_none() => {
                running.gptq(world, material, layer, &self.seen, factor)
            }
            (kind, factor) => {
                if let (Kind::Gptq, Err(why)) = (kind, factor)
                    && !why.is_empty()
                {
                    running.note = Some(why.into());
                }
                let method = if kind == Kind::Gptq {
                    round::find("rtn")?
                } else {
                    layer.method
                };
                running.nearest(world, material, layer, method, &self.seen)
            }
        }
    }
}

impl Seen {
    fn new(plan: &Plan, stats: &InputStats) -> Self {
        let tokens = stats.hessian.tokens();
        let all = plan.calibration.map_or(0, |c| c.samples * c.length) as u64;
        // GPTQModel's rule for experts that hardly any token went to.
        let too_few = (tokens * 200 < all)
            .then(|| format!("saw {tokens} of {all} calibration tokens, less than 0.5 %"));
        let largest = stats.absmax().into_iter().fold(0.0f32, f32::max);
        Self {
            importance: Some(stats.importance().into()),
            largest: Some(largest),
            too_few,
        }
    }
}
