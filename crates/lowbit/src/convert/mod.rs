//! From one format to another, sans I/O: the same asks, journal and files as a quantization (`job`).
//!
//! ```text
//! Request ─► Source (what is there) ─► Target (what it becomes) ─► Plan
//! Conversion::open ─► poll(answer) ─► Ask … ─► Ask::Done
//!    per want of the target:  Feed ─ Given ─► Making ─ pieces ─► Sink
//! ```
//!
//! | file          | what                                                                           |
//! | ------------- | ------------------------------------------------------------------------------ |
//! | `request.rs`  | what the facade sends: `"kind": "convert"` among the port's plan and job calls |
//! | `source.rs`   | the checkpoint: tensors by the model's names, plain or quantized (`sizes.rs`)  |
//! | `lora.rs`     | an adapter that is merged on the way; what PEFT writes is in `peft.rs`         |
//! | `target.rs`   | the trait of what is made: files, wants, and the bytes of each                 |
//! | `targets.rs`  | the table of formats                                                           |
//! | `layouts.rs`  | target: quantized safetensors in any layout, planned in `planning.rs`          |
//! | `assign.rs`   | the scheme that each module gets                                               |
//! | `exact.rs`    | a matrix in the form of another scheme, its groups in `regroup.rs`             |
//! | `cache.rs`    | scales of the KV cache: kept or left out                                       |
//! | `forecast.rs` | what that will do to values, before any is read                                |
//! | `remake.rs`   | one matrix of it: refitted, compared, else rounded                             |
//! | `float.rs`    | target: plain floats                                                           |
//! | `joint.rs`    | NVFP4's scale above its scales, one for the matrices that engines join         |
//! | `feed.rs`     | brings each want its tensor: reads, decodes, widens, merges                    |
//! | `unit.rs`     | wants that end in one line of the journal                                      |
//!
//! A matrix is *exact* when every value is, as f32, what it was; anything else says so before and
//! after.

mod assign;
mod cache;
mod exact;
mod feed;
mod float;
mod forecast;
pub mod gguf;
mod joint;
mod layouts;
mod lora;
mod peft;
pub mod plan;
mod planning;
mod regroup;
mod remake;
pub mod report;
pub mod request;
mod sizes;
pub mod source;
mod stored;
pub mod target;
mod targets;
#[cfg(test)]
mod tests;
mod unit;
mod work;

pub use plan::Plan;
pub use request::Request;

use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::job::journal::{self, Line};
use crate::job::opening;
use crate::job::seal::{Seal, Verify};
use crate::job::step::Counter;
use crate::job::{Ask, Expected};
use report::{ModuleReport, Outcomes};
use std::collections::VecDeque;
use unit::{Unit, World};

/// Where a conversion is.
#[derive(Debug)]
enum Phase {
    Verify(Verify),
    Open(VecDeque<Ask>),
    Unit(Box<Unit>),
    Seal(Seal),
    Done,
}

/// A conversion under way.
#[derive(Debug)]
pub struct Conversion {
    plan: Plan,
    /// Position of the unit under way.
    next: usize,
    phase: Phase,
    outcomes: Outcomes,
    progress: Counter,
    asked: Expected,
}

impl Conversion {
    /// Opens a conversion: a new one, or with `request.journal` the continuation of an unfinished
    /// one. Errors are those of `Plan::new`, `resume-mismatch` and `resume-corrupt`.
    pub fn open(request: &Request) -> Result<Self> {
        let plan = Plan::new(request)?;
        let names = plan.unit_names();
        let lines: Vec<Line<ModuleReport>> =
            journal::read(&request.journal, &plan.identity, &names)?;
        let phase = if request.journal.is_empty() {
            Phase::Open(opening(plan.target.files(), Some(&plan.identity)))
        } else {
            Phase::Verify(Verify::new(&lines))
        };
        let done = plan.units[..lines.len()].iter();
        let progress = Counter {
            stage: "open",
            layer: None,
            done: done.map(|(_, wants)| plan.work(wants.clone())).sum(),
            total: plan.total_work(),
        };
        let mut outcomes = Outcomes::default();
        for line in &lines {
            outcomes.modules.extend(line.layers.iter().cloned());
        }
        Ok(Self {
            next: lines.len(),
            plan,
            phase,
            outcomes,
            progress,
            asked: Expected::default(),
        })
    }

    /// Takes the answer to the last ask and computes until the next one.
    ///
    /// `file-changed` when an answer is not as long as what was asked for; with `exact`, `scheme`
    /// when values do not fit after all.
    pub fn poll(&mut self, cpu: &Cpu, answer: Vec<Vec<u8>>) -> Result<Ask> {
        self.asked.check(&answer)?;
        let ask = self.advance(cpu, answer)?;
        self.asked = Expected::of(&ask, |t| self.plan.source.length(t))?;
        Ok(ask)
    }

    fn advance(&mut self, cpu: &Cpu, answer: Vec<Vec<u8>>) -> Result<Ask> {
        let mut answer = Some(answer);
        loop {
            let answer = answer.take().unwrap_or_default();
            let files = self.plan.target.files();
            let mut world = World {
                cpu,
                plan: &self.plan,
                progress: &mut self.progress,
            };
            let asked = match &mut self.phase {
                Phase::Verify(verify) => verify.poll(files, &answer)?,
                Phase::Open(asks) => asks.pop_front(),
                Phase::Unit(unit) => unit.poll(&mut world, answer)?,
                Phase::Seal(seal) => seal.poll(files, world.progress, &answer),
                Phase::Done => return Err(Error::new(Code::Internal, "the job is done")),
            };
            if let Some(ask) = asked.or_else(|| self.next_phase()) {
                return Ok(ask);
            }
        }
    }

    /// Moves on when a phase has nothing more to ask; gives what that itself asks for.
    fn next_phase(&mut self) -> Option<Ask> {
        match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Verify(_) => self.phase = Phase::Open(opening(self.plan.target.files(), None)),
            Phase::Open(_) => self.begin_unit(),
            Phase::Unit(mut unit) => {
                let line = unit.line();
                self.next += 1;
                self.begin_unit();
                self.outcomes.modules.extend(line.layers.iter().cloned());
                let line = serde_json::to_string(&line).expect("strings and numbers only");
                return Some(Ask::Journal { line });
            }
            Phase::Seal(seal) => {
                let report = report::json(&self.plan, &self.outcomes, &seal.files);
                return Some(Ask::Done {
                    report: report.to_string(),
                });
            }
            Phase::Done => {}
        }
        None
    }

    fn begin_unit(&mut self) {
        self.phase = match self.plan.units.get(self.next) {
            Some((name, wants)) => Phase::Unit(Box::new(Unit::new(name, wants.clone()))),
            None => Phase::Seal(Seal::default()),
        };
    }
}
