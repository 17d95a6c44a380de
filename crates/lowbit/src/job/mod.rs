//! The quantization job, sans I/O: it asks, the facade answers, nothing awaits.
//!
//! ```text
//! plan ──► Job::open ──► poll(answer) ─► Ask ─► facade does it ─► poll(answer) … ─► Ask::Done
//! ```
//! Every poll computes for about 100 ms at most. The journal gets a line only after everything
//! that the line vouches for is durable; a job opened with those lines goes on from there and
//! ends in the same bytes. Hashes of whole files come from reading them back at the end, which
//! also shows that they can be read; a resumed run first reads back what was vouched for.
//!
//! With `targetBpw` the job is a survey instead (`survey/`): it writes nothing, and its report holds
//! the options that a quantization within that budget should have.

pub(crate) mod ask;
mod block;
mod cache;
mod changes;
mod choose;
mod copy;
mod describe;
mod embed;
pub mod files;
mod finite;
pub mod identity;
mod important;
mod inputs;
mod joint;
pub(crate) mod journal;
mod material;
mod nearest;
mod outputs;
pub(crate) mod pace;
mod passes;
pub mod plan;
mod plan_parts;
pub mod recipe;
pub mod report;
pub mod request;
mod rest;
mod running;
mod samples;
pub(crate) mod seal;
mod select;
mod served;
mod shared;
pub(crate) mod sink;
pub mod size;
pub(crate) mod stacked;
pub(crate) mod step;
mod subject;
mod survey;
mod tapped;
#[cfg(test)]
pub(crate) mod tests;
mod transforms;
mod warn;

pub(crate) use ask::Expected;
pub use ask::{Ask, Progress};
pub use plan::Plan;
pub use request::Request;

use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::model::accelerator::Accelerator;
use files::Files;
use identity::Identity;
use journal::Activations;
use report::Outcomes;
use seal::{Seal, Verify};
use std::collections::VecDeque;
use std::sync::Arc;
use step::{Counter, Step, Unit, World};
use survey::Survey;

/// Where a job is.
#[derive(Debug)]
enum Phase {
    Verify(Verify),
    Open(VecDeque<Ask>),
    Unit(Box<dyn Unit>),
    Seal(Seal),
    Done,
}

/// A quantization under way.
#[derive(Debug)]
pub struct Job {
    plan: Plan,
    tokens: Vec<u32>,
    steps: Vec<Step>,
    /// Position in `steps` of the unit under way.
    next: usize,
    phase: Phase,
    /// What the unit under way reads, if an earlier run wrote it.
    expected: Option<Activations>,
    outcomes: Outcomes,
    progress: Counter,
    survey: Survey,
    asked: Expected,
    accelerator: Option<Arc<dyn Accelerator>>,
}

impl Job {
    /// Opens a job: a new one, or with `request.journal` the continuation of an unfinished one.
    ///
    /// `tokens` are the calibration samples one after another. Errors are those of `Plan::new`,
    /// and `dataset`, `resume-mismatch` (naming what differs) and `resume-corrupt`.
    pub fn open(request: &Request, tokens: Vec<u32>) -> Result<Self> {
        Self::open_on(request, tokens, None)
    }

    /// The same with block passes and second moments on an accelerator.
    pub fn open_on(
        request: &Request,
        tokens: Vec<u32>,
        accelerator: Option<Arc<dyn Accelerator>>,
    ) -> Result<Self> {
        let adapter = accelerator.as_deref().map(Accelerator::adapter);
        let mut plan = Plan::on(request, adapter)?;
        warn::check_tokens(&plan, &tokens)?;
        plan.identity = plan.identity.with_tokens(&tokens);
        plan.warnings.extend(warn::of_tokens(&plan, &tokens)?);
        let steps = Step::list(&plan);
        let names: Vec<_> = steps.iter().map(|s| s.name()).collect();
        // A survey is short and starts again.
        let journal = match plan.budget {
            Some(_) => &[],
            None => request.journal.as_slice(),
        };
        let lines = journal::read(journal, &plan.identity, &names)?;
        let mut outcomes = Outcomes::default();
        for line in &lines {
            outcomes.add(line);
        }
        let mut total = steps.iter().map(|s| s.work(&plan)).sum::<u64>();
        if plan.budget.is_none() {
            total += Seal::work(&plan.files);
        }
        let done = steps[..lines.len()].iter().map(|s| s.work(&plan)).sum();
        let phase = if journal.is_empty() {
            Phase::Open(begin(&plan, true))
        } else {
            Phase::Verify(Verify::new(&lines))
        };
        Ok(Self {
            next: lines.len(),
            expected: lines.last().and_then(|l| l.activations.clone()),
            outcomes,
            progress: Counter {
                stage: "open",
                layer: None,
                done,
                total,
            },
            survey: Survey::default(),
            asked: Expected::default(),
            accelerator: accelerator.filter(|_| plan.device.is_some()),
            plan,
            tokens,
            steps,
            phase,
        })
    }

    /// What the job will do.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Takes the answer to the last ask and computes until the next one.
    ///
    /// `file-changed` when an answer is not as long as what was asked for.
    pub fn poll(&mut self, cpu: &Cpu, answer: Vec<Vec<u8>>) -> Result<Ask> {
        self.plan.identity.check_isa(cpu.isa)?;
        self.asked.check(&answer)?;
        let ask = self.advance(cpu, answer).map_err(warn::resumable)?;
        self.asked = Expected::of(&ask, |t| self.plan.tensor_bytes(t))?;
        Ok(ask)
    }

    fn advance(&mut self, cpu: &Cpu, answer: Vec<Vec<u8>>) -> Result<Ask> {
        let mut answer = Some(answer);
        loop {
            let answer = answer.take().unwrap_or_default();
            let mut world = World {
                cpu,
                accelerator: self.accelerator.as_deref(),
                plan: &self.plan,
                tokens: &self.tokens,
                progress: &mut self.progress,
                survey: &mut self.survey,
            };
            let asked = match &mut self.phase {
                Phase::Verify(verify) => verify.poll(&self.plan.files, &answer)?,
                Phase::Open(asks) => asks.pop_front(),
                Phase::Unit(unit) => unit.poll(&mut world, answer)?,
                Phase::Seal(seal) => seal.poll(&self.plan.files, &mut self.progress, &answer),
                Phase::Done => return Err(Error::new(Code::Internal, "the job is done")),
            };
            if let Some(ask) = asked {
                return Ok(ask);
            }
            if let Some(ask) = self.next_phase()? {
                return Ok(ask);
            }
        }
    }

    /// Moves on when a phase has nothing more to ask; gives what that itself asks for.
    fn next_phase(&mut self) -> Result<Option<Ask>> {
        match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Verify(_) => self.phase = Phase::Open(begin(&self.plan, false)),
            Phase::Open(_) => self.begin_unit(),
            Phase::Unit(_) if self.is_surveyed() => {
                self.progress.done = self.progress.total;
                let report = self.survey.report(&self.plan)?.to_string();
                return Ok(Some(Ask::Done { report }));
            }
            Phase::Unit(mut unit) => {
                self.next += 1;
                let finished = &self.steps[..self.next];
                self.progress.done = finished.iter().map(|s| s.work(&self.plan)).sum();
                let line = unit.line();
                self.begin_unit();
                let Some(line) = line.filter(|_| self.plan.budget.is_none()) else {
                    return Ok(None);
                };
                self.outcomes.add(&line);
                let line = serde_json::to_string(&line).expect("strings and numbers only");
                return Ok(Some(Ask::Journal { line }));
            }
            Phase::Seal(seal) => {
                let report = report::json(&self.plan, &self.outcomes, &seal.files);
                return Ok(Some(Ask::Done {
                    report: report.to_string(),
                }));
            }
            Phase::Done => {}
        }
        Ok(None)
    }

    /// Whether the last unit of a survey is under way.
    fn is_surveyed(&self) -> bool {
        self.plan.budget.is_some() && self.next + 1 == self.steps.len()
    }

    fn begin_unit(&mut self) {
        let expected = self.expected.take();
        self.phase = match self.steps.get(self.next) {
            Some(step) => Phase::Unit(step.unit(&self.plan, expected)),
            None => Phase::Seal(Seal::default()),
        };
    }
}

/// What a job asks for first; a survey writes nothing.
fn begin(plan: &Plan, new: bool) -> VecDeque<Ask> {
    match plan.budget {
        Some(_) => VecDeque::new(),
        None => opening(&plan.files, new.then_some(&plan.identity)),
    }
}

/// The journal's first line, if the run is new, and the headers of all files.
///
/// A resumed run writes the headers again: the last one may have been cut off.
pub(crate) fn opening(files: &Files, new: Option<&Identity>) -> VecDeque<Ask> {
    let line = new.map(|identity| Ask::Journal {
        line: journal::first(identity),
    });
    let headers = files.list.iter().map(|f| Ask::Write {
        name: f.name.clone(),
        total: f.bytes,
        offset: 0,
        bytes: f.header.clone(),
    });
    line.into_iter().chain(headers).collect()
}
