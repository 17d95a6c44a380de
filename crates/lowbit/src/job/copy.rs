//! Tensors that stay as stored: read and written in pieces, whatever their type.

use super::Ask;
use super::finite;
use super::pace::{self, PIECE_BYTES};
use super::sink::Sink;
use super::step::World;
use crate::error::{Code, Error, Result};
use std::collections::VecDeque;

/// Copies a list of tensors.
#[derive(Debug)]
pub(super) struct Copier {
    names: VecDeque<String>,
    offset: u64,
    asked: bool,
    /// Values of the tensor under way that became zero.
    zeroed: usize,
    /// What the user should know of what was copied.
    pub notes: Vec<String>,
}

impl Copier {
    pub(super) fn new(names: &[String]) -> Self {
        Self {
            names: names.iter().cloned().collect(),
            offset: 0,
            asked: false,
            zeroed: 0,
            notes: Vec::new(),
        }
    }

    /// Goes on with the bytes that the last ask brought; none when everything is copied.
    pub(super) fn poll(
        &mut self,
        world: &mut World<'_>,
        sink: &mut Sink,
        answer: Vec<Vec<u8>>,
    ) -> Result<Option<Ask>> {
        if self.asked {
            self.asked = false;
            self.take(world, sink, answer.into_iter().next().unwrap_or_default())?;
        }
        if let Some(write) = sink.pop() {
            return Ok(Some(write));
        }
        while let Some(name) = self.names.front() {
            let bytes = world.plan.place(name)?.bytes;
            if bytes == 0 {
                sink.tensor(&world.plan.files, name, &[])?;
                self.names.pop_front();
                continue;
            }
            self.asked = true;
            return Ok(Some(Ask::ReadRange {
                tensor: name.clone(),
                offset: self.offset,
                len: PIECE_BYTES.min(bytes - self.offset),
            }));
        }
        Ok(None)
    }

    fn take(&mut self, world: &mut World<'_>, sink: &mut Sink, mut bytes: Vec<u8>) -> Result<()> {
        let Some(name) = self.names.front() else {
            return Err(Error::new(Code::Internal, "nothing was asked for"));
        };
        let plan = world.plan;
        if plan.used.contains(name) {
            let dtype = plan.tensor(name)?.dtype;
            let policy = plan.nonfinite;
            self.zeroed += policy.check_copied(name, dtype, &mut bytes, self.offset)?;
        }
        let len = bytes.len() as u64;
        world.advance("copy", None, pace::bytes_work(len));
        sink.piece(&plan.files, name, bytes)?;
        self.offset += len;
        if self.offset == plan.place(name)?.bytes {
            self.offset = 0;
            self.notes.extend(finite::note(name, self.zeroed));
            self.zeroed = 0;
            self.names.pop_front();
        }
        Ok(())
    }
}
