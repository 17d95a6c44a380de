//! Everything outside the blocks: embedding, final norm, head, tensors that nobody here knows.
//!
//! A rotation of the residual stream changes the first three, some rows at a time; a head that was
//! the embedding becomes a tensor of its own.

use super::Ask;
use super::copy::Copier;
use super::finite;
use super::journal::Line;
use super::pace::{self, PIECE_BYTES};
use super::plan::Plan;
use super::sink::Sink;
use super::step::{Unit, World};
use crate::error::{Code, Error, Result};
use crate::tensor::{bytes_from_f32, f32_from};
use std::collections::VecDeque;

/// A table whose rows are rotated on their way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rotated {
    /// Source tensor.
    pub from: String,
    /// Output tensor.
    pub to: String,
    /// Whether it is the head, which takes in the final norm.
    pub head: bool,
}

/// The last unit.
#[derive(Debug)]
pub(super) struct Rest {
    tables: VecDeque<Rotated>,
    /// The final norm's tensor, until it is read, when tables are rotated.
    norm_name: Option<String>,
    norm: Vec<f32>,
    /// First row that is not written yet.
    row: usize,
    asked: bool,
    zeroed: usize,
    notes: Vec<String>,
    copier: Copier,
    sink: Sink,
}

impl Rest {
    pub(super) fn new(plan: &Plan) -> Self {
        let norm = super::outputs::final_norm(&plan.model);
        Self {
            tables: plan.rotated.iter().cloned().collect(),
            norm_name: (!plan.rotated.is_empty()).then_some(norm),
            norm: Vec::new(),
            row: 0,
            asked: false,
            zeroed: 0,
            notes: Vec::new(),
            copier: Copier::new(&plan.copies[plan.model.layers]),
            sink: Sink::default(),
        }
    }

    /// The norm's values; it is written as the 1 that it becomes.
    fn take_norm(&mut self, world: &World<'_>, name: &str, mut bytes: Vec<u8>) -> Result<()> {
        let plan = world.plan;
        let info = plan.tensor(name)?;
        let zeroed = plan.nonfinite.check(name, info.dtype, &mut bytes, 0)?;
        self.notes.extend(finite::note(name, zeroed));
        let offset = plan.model.arch().norm_offset;
        self.norm = vec![0.0; bytes.len() * 8 / info.dtype.bits()];
        f32_from(info.dtype, &bytes, &mut self.norm)?;
        self.norm.iter_mut().for_each(|v| *v += offset);
        let one = bytes_from_f32(info.dtype, &vec![1.0 - offset; self.norm.len()])?;
        self.sink.tensor(&plan.files, name, &one)
    }

    /// Rotates some rows of a table.
    fn take_rows(&mut self, world: &mut World<'_>, mut bytes: Vec<u8>) -> Result<()> {
        let plan = world.plan;
        let Some(table) = self.tables.front() else {
            return Err(Error::new(Code::Internal, "no table was asked for"));
        };
        let Some(rotation) = &plan.rotation else {
            return Err(Error::new(Code::Internal, "nothing rotates"));
        };
        let info = plan.tensor(&table.from)?;
        let (rows, cols) = (info.shape[0], info.shape[1]);
        let offset = (self.row * cols * info.dtype.bits() / 8) as u64;
        let policy = plan.nonfinite;
        self.zeroed += policy.check(&table.from, info.dtype, &mut bytes, offset)?;
        let mut values = vec![0.0; bytes.len() * 8 / info.dtype.bits()];
        f32_from(info.dtype, &bytes, &mut values)?;
        if table.head {
            rotation.head_rows(world.cpu, &mut values, &self.norm);
        } else {
            rotation.embedding_rows(world.cpu, &mut values);
        }
        self.row += values.len() / cols;
        world.advance("copy", None, pace::bytes_work(bytes.len() as u64));
        let bytes = bytes_from_f32(info.dtype, &values)?;
        self.sink.piece(&plan.files, &table.to, bytes)?;
        if self.row == rows {
            self.notes.extend(finite::note(&table.from, self.zeroed));
            (self.row, self.zeroed) = (0, 0);
            self.tables.pop_front();
        }
        Ok(())
    }

    /// What to read next of the tensors that are rotated; none when they are done.
    fn ask(&self, plan: &Plan) -> Result<Option<Ask>> {
        if let Some(norm) = &self.norm_name {
            let tensors = vec![norm.clone()];
            return Ok(Some(Ask::Read { tensors }));
        }
        let Some(table) = self.tables.front() else {
            return Ok(None);
        };
        let info = plan.tensor(&table.from)?;
        let row_bytes = (info.shape[1] * info.dtype.bits() / 8) as u64;
        let rows = (PIECE_BYTES / row_bytes.max(1)).max(1);
        let rows = rows.min((info.shape[0] - self.row) as u64);
        Ok(Some(Ask::ReadRange {
            tensor: table.from.clone(),
            offset: self.row as u64 * row_bytes,
            len: rows * row_bytes,
        }))
    }
}

impl Unit for Rest {
    fn poll(&mut self, world: &mut World<'_>, answer: Vec<Vec<u8>>) -> Result<Option<Ask>> {
        if std::mem::take(&mut self.asked) {
            let bytes = answer.into_iter().next().unwrap_or_default();
            match self.norm_name.take() {
                Some(name) => self.take_norm(world, &name, bytes)?,
                None => self.take_rows(world, bytes)?,
            }
            return Ok(Some(world.report()));
        }
        if let Some(write) = self.sink.pop() {
            return Ok(Some(write));
        }
        if let Some(ask) = self.ask(world.plan)? {
            self.asked = true;
            return Ok(Some(ask));
        }
        self.copier.poll(world, &mut self.sink, answer)
    }

    fn line(&mut self) -> Option<Line> {
        self.notes.append(&mut self.copier.notes);
        Some(Line {
            unit: "rest".into(),
            tensors: self.sink.take_hashes(),
            notes: std::mem::take(&mut self.notes),
            ..Line::default()
        })
    }
}
