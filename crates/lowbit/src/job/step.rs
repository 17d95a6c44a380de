//! The units of a job: parts of the work that each end in a line of the journal.

use super::block::WholeBlock;
use super::embed::Embed;
use super::inputs;
use super::journal::{Activations, Line};
use super::nearest::NearestBlock;
use super::pace;
use super::plan::Plan;
use super::rest::Rest;
use super::survey::{Probe, Survey, Verdict};
use super::{Ask, Progress};
use crate::cpu::Cpu;
use crate::error::Result;
use crate::model::accelerator::Accelerator;

/// What a poll works with.
pub(super) struct World<'a> {
    pub(super) cpu: &'a Cpu,
    /// Takes products and second moments, if there is one.
    pub(super) accelerator: Option<&'a dyn Accelerator>,
    pub(super) plan: &'a Plan,
    pub(super) tokens: &'a [u32],
    pub(super) progress: &'a mut Counter,
    pub(super) survey: &'a mut Survey,
}

/// Work done so far, in multiply-adds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counter {
    pub(crate) stage: &'static str,
    pub(crate) layer: Option<usize>,
    pub(crate) done: u64,
    pub(crate) total: u64,
}

impl Counter {
    pub(crate) fn advance(&mut self, stage: &'static str, layer: Option<usize>, work: u64) {
        self.stage = stage;
        self.layer = layer;
        self.done = (self.done + work).min(self.total);
    }

    pub(crate) fn report(&self) -> Ask {
        Ask::Work(Progress {
            stage: self.stage,
            layer: self.layer,
            device: None,
            done: pace::units(self.done),
            total: pace::units(self.total),
        })
    }
}

impl World<'_> {
    pub(super) fn advance(&mut self, stage: &'static str, layer: Option<usize>, work: u64) {
        self.progress.advance(stage, layer, work);
    }

    /// The block under way.
    pub(super) fn block(&self) -> Option<usize> {
        self.progress.layer
    }

    pub(super) fn report(&self) -> Ask {
        let mut ask = self.progress.report();
        if let (Ask::Work(progress), Some(_)) = (&mut ask, self.accelerator) {
            let passes = ["calibrate", "forward"].contains(&progress.stage);
            progress.device = passes.then_some("gpu");
        }
        ask
    }
}

/// A part of the work that ends in a line of the journal.
pub(super) trait Unit: std::fmt::Debug + Send {
    /// Goes on with the answer to the last ask; none when the unit is finished.
    fn poll(&mut self, world: &mut World<'_>, answer: Vec<Vec<u8>>) -> Result<Option<Ask>>;

    /// What the journal says about it.
    fn line(&mut self) -> Option<Line>;
}

/// The units of a job, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Embed,
    Block(usize),
    Rest,
    /// A block of a survey.
    Probe(usize),
    /// The end of a survey.
    Verdict,
}

impl Step {
    pub(super) fn list(plan: &Plan) -> Vec<Step> {
        let embed = plan.calibration.is_some().then_some(Step::Embed);
        let layers = 0..plan.model.layers;
        if plan.budget.is_some() {
            let probes = layers.map(Step::Probe);
            return [Step::Embed]
                .into_iter()
                .chain(probes)
                .chain([Step::Verdict])
                .collect();
        }
        let blocks = layers.map(Step::Block);
        embed
            .into_iter()
            .chain(blocks)
            .chain([Step::Rest])
            .collect()
    }

    pub(super) fn name(self) -> String {
        match self {
            Step::Embed => "embed".into(),
            Step::Block(i) => format!("block {i}"),
            Step::Rest => "rest".into(),
            Step::Probe(i) => format!("probe {i}"),
            Step::Verdict => "verdict".into(),
        }
    }

    pub(super) fn work(self, plan: &Plan) -> u64 {
        let copies = |unit: usize| {
            let bytes = plan.copies[unit].iter().filter_map(|n| plan.files.place(n));
            pace::bytes_work(bytes.map(|p| p.bytes).sum())
        };
        match self {
            Step::Embed => Embed::work(plan),
            Step::Block(i) if !plan.streams() => inputs::work(plan, i) + copies(i),
            Step::Block(i) => {
                let layers = plan.layers_of(i).map(|l| (l.linear.rows, l.linear.cols));
                layers
                    .map(|(r, c)| pace::round_work(r, c, false))
                    .sum::<u64>()
                    + copies(i)
            }
            Step::Rest => copies(plan.model.layers),
            Step::Probe(i) => Probe::work(plan, i),
            Step::Verdict => 0,
        }
    }

    pub(super) fn unit(self, plan: &Plan, expected: Option<Activations>) -> Box<dyn Unit> {
        match self {
            Step::Embed => Box::new(Embed::new(plan)),
            Step::Block(i) if !plan.streams() => Box::new(WholeBlock::new(plan, i, expected)),
            Step::Block(i) => Box::new(NearestBlock::new(plan, i)),
            Step::Rest => Box::new(Rest::new(plan)),
            Step::Probe(i) => Box::new(Probe::new(plan, i)),
            Step::Verdict => Box::new(Verdict::default()),
        }
    }
}
