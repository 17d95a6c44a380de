//! The end of a survey: divergences, costs, and the rules that they ask for.

use super::super::Ask;
use super::super::journal::Line;
use super::super::outputs::final_norm;
use super::super::plan::Plan;
use super::super::recipe::LayerRule;
use super::super::step::{Unit, World};
use super::{Place, Survey, allocate, measured_tokens};
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::evaluate::score_window;
use crate::kernels::matmul::{Weight, matmul};
use crate::kernels::rms_norm::rms_norm;
use crate::model::head::Head;
use crate::scheme::Scheme;
use crate::tensor::{TensorRef, f32_from};
use serde_json::{Value, json};

/// Reads the head and measures every variant.
#[derive(Debug, Default)]
pub(in super::super) struct Verdict {
    asked: bool,
    head: Option<(Vec<f32>, Weight)>,
    /// Logits of the unquantized model.
    base: Vec<f32>,
    next: usize,
}

impl Verdict {
    fn names(plan: &Plan) -> [String; 2] {
        let head = match plan.head {
            Head::Own(module) => module.into(),
            // `choose::refuse_headless` has refused a plan without any.
            Head::Tied | Head::None => plan.model.named(plan.model.arch().embed),
        };
        [final_norm(&plan.model), format!("{head}.weight")]
    }

    fn read(&mut self, plan: &Plan, answer: &[Vec<u8>]) -> Result<()> {
        let [norm_name, head_name] = Self::names(plan);
        let [norm_bytes, head_bytes] = answer else {
            return Err(Error::new(Code::Internal, "norm and head were asked for"));
        };
        let info = plan.tensor(&norm_name)?;
        let mut norm = vec![0.0; plan.model.hidden];
        f32_from(info.dtype, norm_bytes, &mut norm)?;
        let offset = plan.model.arch().norm_offset;
        for v in &mut norm {
            *v += offset;
        }
        let info = plan.tensor(&head_name)?;
        let view = TensorRef::new(info.dtype, &info.shape, head_bytes)?;
        self.head = Some((norm, Weight::dense(view)?));
        Ok(())
    }

    /// Mean divergence of a variant from the unquantized model.
    fn divergence(&self, world: &World<'_>, hidden: &[f32]) -> Result<f64> {
        let logits = self.logits(world, hidden)?;
        let (_, length) = measured_tokens(world.plan);
        let vocabulary = world.plan.model.vocabulary;
        let set = world.plan.calibration.map_or(1, |c| c.length);
        let (mut sum, mut count) = (0.0, 0usize);
        let windows = logits.chunks(length * vocabulary);
        let windows = windows.zip(self.base.chunks(length * vocabulary));
        for (i, (own, base)) in windows.enumerate() {
            let tokens = &world.tokens[i * set..][..length];
            let scores = score_window(own, Some(base), tokens, vocabulary)?;
            sum += scores.kl.iter().map(|kl| f64::from(*kl)).sum::<f64>();
            count += scores.kl.len();
        }
        Ok(sum / count.max(1) as f64)
    }

    fn logits(&self, world: &World<'_>, hidden: &[f32]) -> Result<Vec<f32>> {
        let Some((norm, head)) = &self.head else {
            return Err(Error::new(Code::Internal, "no head to run"));
        };
        Ok(logits(world.cpu, world.plan, hidden, norm, head))
    }
}

impl Unit for Verdict {
    fn poll(&mut self, world: &mut World<'_>, answer: Vec<Vec<u8>>) -> Result<Option<Ask>> {
        if !std::mem::replace(&mut self.asked, true) {
            let tensors = Self::names(world.plan).to_vec();
            return Ok(Some(Ask::Read { tensors }));
        }
        if self.head.is_none() {
            self.read(world.plan, &answer)?;
            self.base = self.logits(world, &world.survey.base)?;
            return Ok(Some(world.report()));
        }
        if let Some(variant) = world.survey.variants.get(self.next) {
            let kl = self.divergence(world, &variant.hidden)?;
            let (place, cell) = (variant.place, variant.cell);
            world.survey.places[place].cells[cell].kl = Some(kl);
            self.next += 1;
            return Ok(Some(world.report()));
        }
        Ok(None)
    }

    fn line(&mut self) -> Option<Line> {
        None
    }
}

fn logits(cpu: &Cpu, plan: &Plan, hidden: &[f32], norm: &[f32], head: &Weight) -> Vec<f32> {
    let mut normed = hidden.to_vec();
    rms_norm(cpu, &mut normed, norm, plan.model.norm_eps);
    let mut logits = vec![0.0; hidden.len() / plan.model.hidden * head.rows()];
    matmul(cpu, &normed, head, &mut logits);
    logits
}

impl Survey {
    /// The rules that suit the budget, with the table that they come from.
    pub(in super::super) fn report(&mut self, plan: &Plan) -> Result<Value> {
        let none = || Error::new(Code::Internal, "a survey without a budget");
        let budget = plan.budget.as_ref().ok_or_else(none)?;
        price(&mut self.places);
        let cells = allocate::choose(&self.places, budget.target)?;
        let chosen = || {
            self.places
                .iter()
                .zip(&cells)
                .map(|(p, c)| (p, &p.cells[*c]))
        };
        let weights: u64 = self.places.iter().map(|p| p.weights).sum();
        let bits: u64 = chosen().map(|(_, cell)| cell.bits).sum();
        // The scheme of the most weights is the recipe's own; the others are rules.
        let count = |scheme: Scheme| -> u64 {
            let same = chosen().filter(|(_, cell)| cell.scheme == scheme);
            same.map(|(place, _)| place.weights).sum()
        };
        let own = chosen().map(|(_, cell)| cell.scheme);
        let own = own.max_by_key(|s| count(*s)).ok_or_else(none)?;
        let rule = |name: &String, scheme: Scheme| LayerRule {
            pattern: name.clone(),
            scheme: Some(scheme.to_string()),
            method: (plan.layers.iter().find(|l| l.linear.module == *name))
                .map(|l| l.method.name)
                .filter(|method| *method != plan.method.name)
                .map(Into::into),
        };
        let mut options = plan.effective.clone();
        let rules = chosen()
            .filter(|(_, cell)| cell.scheme != own)
            .flat_map(|(p, cell)| p.layers.iter().map(move |l| rule(l, cell.scheme)));
        // The first rule that fits decides: rules for methods stand behind.
        let rules: Vec<_> = rules.collect();
        options.layers.splice(0..0, rules);
        options.scheme = own.to_string();
        options.target_bpw = None;
        options.candidates = Vec::new();
        let (samples, length) = measured_tokens(plan);
        Ok(json!({
            "kind": "sensitivity",
            "targetBpw": budget.target,
            "bitsPerWeight": bits as f64 / weights.max(1) as f64,
            "expectedKl": chosen().map(|(_, cell)| cell.cost).sum::<f64>(),
            "measuredTokens": samples * length,
            "options": options,
            "table": self.places,
            "warnings": plan.warnings,
            "fingerprint": plan.identity.fingerprint(),
        }))
    }
}

/// What each cell costs: measured, or the proxy times what proxies of its role are worth nearby.
fn price(places: &mut [Place]) {
    let worth = |p: &Place| {
        let cell = p.cells.iter().find(|c| c.kl.is_some() && c.proxy > 0.0)?;
        Some(cell.kl?.max(f64::MIN_POSITIVE) / cell.proxy)
    };
    let known: Vec<_> = places
        .iter()
        .filter_map(|p| Some((p.role.clone(), p.block, worth(p)?)))
        .collect();
    for place in places {
        let same = known.iter().filter(|(role, _, _)| *role == place.role);
        let worth = between(same.map(|(_, block, worth)| (*block, *worth)), place.block);
        for cell in &mut place.cells {
            cell.cost = cell.kl.unwrap_or(cell.proxy * worth);
        }
    }
}

/// The worth at a block between those of its neighbours, as a straight line of logarithms; blocks
/// come in order.
fn between(known: impl Iterator<Item = (usize, f64)>, block: usize) -> f64 {
    let (mut below, mut above) = (None, None);
    for (at, worth) in known {
        if at <= block {
            below = Some((at, worth));
        } else if above.is_none() {
            above = Some((at, worth));
        }
    }
    match (below, above) {
        (Some((a, x)), Some((b, y))) => {
            let t = (block - a) as f64 / (b - a) as f64;
            crate::maths::exp_f64((1.0 - t) * crate::maths::ln_f64(x) + t * crate::maths::ln_f64(y))
        }
        (Some((_, worth)), None) | (None, Some((_, worth))) => worth,
        (None, None) => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worth_is_between_its_neighbours() {
        let known = || [(2, 1.0), (6, 16.0)].into_iter();
        assert!((between(known(), 4) - 4.0).abs() < 1e-12);
        assert_eq!((between(known(), 0), between(known(), 9)), (1.0, 16.0));
        assert!((between(known(), 2) - 1.0).abs() < 1e-12);
    }
}
