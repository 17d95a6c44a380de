//! Linears that share an input: one Hessian, one factor, each pruned and rounded with it.
//!
//! ```text
//! Hessian ─► factor ─┬─► SparseGPT ─► GPTQ, with the pruned weights left out
//! E[x²] ─────────────┴─► Wanda ─────► RTN, HQQ
//! ```

use super::joint::Joint;
use super::material::Material;
use super::pace;
use super::plan::{Layer, Plan};
use super::report::LayerReport;
use super::running::{Running, run_time_inputs, sparsity};
use super::step::World;
use super::tapped::Tapped;
use crate::error::{Code, Error, Result};
use crate::matrix::QuantizedMatrix;
use crate::round::factor::{Factor, Factored, Factoring};
use crate::round::gptq::{GptqOptions, Order};
use crate::round::prune::{Criterion, Pruning};
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
    /// Factors by the order of their columns.
    factors: Vec<(Key, Factored)>,
    running: Option<Running>,
    /// Once the first linear is worked on.
    joint: Option<Joint>,
}

/// An order of columns and, where the order asks about them, the columns that share a scale.
type Key = (Order, usize);

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
            factors: Vec::new(),
            running: None,
            joint: None,
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
        let missing = |key: &Key| self.factors.iter().all(|(k, _)| k != key);
        if let Some(key) = self.keys(world.plan, &layer)?.into_iter().find(missing) {
            self.factor(world, key)?;
            return Ok(None);
        }
        let place = |e: Error| e.at(format!("layer {:?}", layer.linear.module));
        let joint = match self.joint.take() {
            Some(joint) => joint,
            None => Joint::of(material, self.layers.iter())?,
        };
        let mut running = self.running.take().unwrap_or_else(Running::new);
        running.largest = joint.of_layer(&layer);
        self.joint = Some(joint);
        let done = self.advance(world, material, &layer, &mut running);
        let Some((mut matrix, mut report)) = done.map_err(place)? else {
            self.running = Some(running);
            return Ok(None);
        };
        matrix.inputs = run_time_inputs(&layer, self.seen.largest);
        report.input_max = self.seen.largest;
        report.sparsity = running.mask.as_deref().map(sparsity);
        if let Some(why) = running.note {
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

    /// The factors that a layer is pruned and rounded with.
    fn keys(&self, plan: &Plan, layer: &Layer) -> Result<Vec<Key>> {
        if self.seen.too_few.is_some() || plan.calibration.is_none() {
            return Ok(Vec::new());
        }
        let pruning = plan.pruning_of(layer);
        let pruning = pruning.filter(|p| p.criterion == Criterion::SparseGpt);
        let prune = pruning.map(|p| prune_key(plan, layer, &p)).transpose()?;
        let round = (layer.method.kind == Kind::Gptq).then(|| round_key(plan, layer));
        Ok(prune.into_iter().chain(round.transpose()?).collect())
    }

    /// Works on a factor.
    fn factor(&mut self, world: &mut World<'_>, key: Key) -> Result<()> {
        let (order, group) = key;
        let options = GptqOptions {
            order,
            ..world.plan.options.gptq
        };
        let none = || Error::new(Code::Internal, "a factor without a Hessian");
        let hessian = &self.stats.as_ref().ok_or_else(none)?.hessian;
        let factoring = self
            .factoring
            .get_or_insert_with(|| Factoring::for_rounding(hessian, &options, group));
        let Some(factored) = factoring.step(world.cpu, hessian) else {
            return Ok(());
        };
        let work = pace::factor_work(hessian.width());
        world.advance("quantize", world.block(), work);
        self.factoring = None;
        self.factors.push((key, factored));
        let mut wanted = Vec::new();
        for layer in &self.layers {
            wanted.extend(self.keys(world.plan, layer)?);
        }
        if (wanted.iter()).all(|key| self.factors.iter().any(|(k, _)| k == key)) {
            self.stats = None;
        }
        Ok(())
    }

    /// A finished factor, or why there is none.
    fn factor_of(&self, key: Key) -> std::result::Result<&Factor, &str> {
        let found = self.factors.iter().find(|(k, _)| *k == key);
        match found.map(|(_, factored)| factored) {
            Some(Factored::Ready(factor)) => Ok(factor),
            Some(Factored::Failed(why)) => Err(why),
            None => Err(self
                .seen
                .too_few
                .as_deref()
                .unwrap_or("no inputs were seen")),
        }
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
        if let Some(pruning) = plan.pruning_of(layer).filter(|_| !running.pruned) {
            let factor = self.factor_of(prune_key(plan, layer, &pruning)?);
            running.prune(world, material, (layer, &pruning), &self.seen, factor)?;
            return Ok(None);
        }
        if layer.method.kind != Kind::Gptq {
            return running.nearest(world, material, layer, layer.method, &self.seen);
        }
        match self.factor_of(round_key(plan, layer)?) {
            Ok(factor) => running.gptq(world, material, layer, &self.seen, factor),
            Err(why) => {
                running.note = Some(why.into());
                running.nearest(world, material, layer, round::find("rtn")?, &self.seen)
            }
        }
    }
}

/// The order in which a layer's columns are pruned: that of the row where neighbours compete.
fn prune_key(plan: &Plan, layer: &Layer, pruning: &Pruning) -> Result<Key> {
    match pruning.pattern {
        Some(_) => Ok((Order::Off, 0)),
        None => round_key(plan, layer),
    }
}

/// The order in which a layer's columns are rounded.
fn round_key(plan: &Plan, layer: &Layer) -> Result<Key> {
    let order = plan.options.gptq.order;
    let group = match order {
        Order::GroupAware => layer.scheme.group_cols(layer.linear.cols)?,
        _ => 0,
    };
    Ok((order, group))
}

impl Seen {
    /// E[x²] of each channel of a layer's input: what a file says, or else what calibration saw.
    pub(super) fn importance<'a>(
        &'a self,
        plan: &'a Plan,
        layer: &Layer,
    ) -> Option<&'a Arc<[f32]>> {
        plan.importance_of(layer).or(self.importance.as_ref())
    }

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
