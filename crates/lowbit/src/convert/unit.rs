//! Wants next to each other that end in one line of the journal.

use super::feed::{Fed, Feed};
use super::plan::Plan;
use super::report::ModuleReport;
use super::source::Source;
use super::target::{Given, Making, Piece, Want};
use crate::cpu::Cpu;
use crate::error::Result;
use crate::job::Ask;
use crate::job::files::Files;
use crate::job::journal::Line;
use crate::job::pace::PIECE_BYTES;
use crate::job::sink::Sink;
use crate::job::step::Counter;
use std::ops::Range;

/// What a poll works with.
pub(super) struct World<'a> {
    pub(super) cpu: &'a Cpu,
    pub(super) plan: &'a Plan,
    pub(super) progress: &'a mut Counter,
}

/// A run of wants under way.
#[derive(Debug)]
pub(super) struct Unit {
    name: String,
    /// Position of the next want, and of the one behind the last.
    wants: Range<usize>,
    current: Option<(Feed, Box<dyn Making>)>,
    /// Work of the current want that was counted.
    counted: u64,
    sink: Sink,
    reports: Vec<ModuleReport>,
}

impl Unit {
    pub(super) fn new(name: &str, wants: Range<usize>) -> Self {
        Self {
            name: name.into(),
            wants,
            current: None,
            counted: 0,
            sink: Sink::default(),
            reports: Vec::new(),
        }
    }

    /// Goes on with the answer to the last ask; none when the unit is finished.
    pub(super) fn poll(
        &mut self,
        world: &mut World<'_>,
        answer: Vec<Vec<u8>>,
    ) -> Result<Option<Ask>> {
        if let Some(write) = self.sink.pop() {
            return Ok(Some(write));
        }
        let plan = world.plan;
        let target = &plan.target;
        let files = target.files();
        let Some((feed, making)) = &mut self.current else {
            let Some(want) = self.wants.clone().next() else {
                return Ok(None);
            };
            let making = target.begin(want, &plan.source)?;
            self.current = Some((Feed::new(target.wants()[want].clone()), making));
            return Ok(Some(world.progress.report()));
        };
        match feed.poll(&plan.source, world.cpu, answer)? {
            Fed::Ask(ask) => return Ok(Some(ask)),
            Fed::Give(given) => {
                let share = share(&plan.source, &target.wants()[self.wants.start], &given);
                let pieces = making.take(given, world.cpu)?;
                put(&mut self.sink, files, pieces)?;
                self.counted += share;
                world.progress.advance("convert", None, share);
            }
            Fed::End => self.finish(world)?,
        }
        Ok(Some(world.progress.report()))
    }

    fn finish(&mut self, world: &mut World<'_>) -> Result<()> {
        let Some((_, making)) = self.current.take() else {
            return Ok(());
        };
        let target = &world.plan.target;
        let (pieces, report) = making.finish(world.cpu)?;
        put(&mut self.sink, target.files(), pieces)?;
        self.reports.extend(report);
        let want = self.wants.next();
        let work = want.map_or(0, |w| target.wants()[w].work);
        let rest = work.saturating_sub(std::mem::take(&mut self.counted));
        world.progress.advance("convert", None, rest);
        Ok(())
    }

    /// What the journal says about it.
    pub(super) fn line(&mut self) -> Line<ModuleReport> {
        Line {
            unit: self.name.clone(),
            tensors: self.sink.take_hashes(),
            layers: std::mem::take(&mut self.reports),
            ..Line::default()
        }
    }
}

/// How much of a want's work is done with what was given.
fn share(source: &Source, want: &Want, given: &Given) -> u64 {
    let tensor = || &source.tensors[want.tensor];
    let (some, all) = match given {
        Given::Rows { rows, .. } => (rows.shape[0] as u64, tensor().rows() as u64),
        Given::Stored(bytes) => (bytes.len() as u64, tensor().stored_bytes().unwrap_or(0)),
        Given::Matrix(_) | Given::Nothing => return 0,
    };
    want.work / all.max(1) * some.min(all)
}

fn put(sink: &mut Sink, files: &Files, pieces: Vec<Piece>) -> Result<()> {
    for Piece { tensor, bytes } in pieces {
        if bytes.len() as u64 <= PIECE_BYTES {
            sink.piece(files, &tensor, bytes)?;
        } else {
            sink.tensor(files, &tensor, &bytes)?;
        }
    }
    Ok(())
}
