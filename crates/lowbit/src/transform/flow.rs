//! Who reads what inside a block: the values that its operations make, in static single
//! assignment form. Mappings and rotations are questions to this graph, so that a new family is
//! right by its operations alone.

use crate::model::config::Config;
use crate::model::ops::{Op, Part, Slot};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// The residual stream, at any place of the block.
    Residual,
    /// A norm of another value.
    Norm {
        /// Its weight.
        part: Part,
        /// The value that is normed.
        of: usize,
    },
    /// A linear, or a sum of outputs of linears, each weighted by one number per token.
    Linears(Vec<Part>),
    /// The last rows of a linear whose output is cut into parts.
    LastRows(Part),
    /// A linear function of one value, channel by channel, given all others.
    Through,
    /// Anything else.
    Other,
}

/// What becomes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// It is multiplied with this matrix.
    Linear(Part),
    /// As the values of attention, whose output is another value.
    Attention(usize),
    /// It is multiplied with a gate, which gives another value.
    Gated(usize),
    /// It is added to the residual stream.
    Residual,
    /// Anything else, which keeps neither scales nor rotations.
    Other,
}

/// A value and its readers.
#[derive(Debug)]
pub(super) struct Value {
    pub(super) source: Source,
    pub(super) readers: Vec<Reader>,
}

/// The values of one block; the first is the residual stream.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) values: Vec<Value>,
    slots: Vec<(Slot, usize)>,
}

impl Flow {
    /// Follows the operations of block `layer`.
    pub(super) fn new(config: &Config, layer: usize) -> Self {
        let mut flow = Self {
            values: Vec::new(),
            slots: Vec::new(),
        };
        flow.write(Slot::Hidden, Source::Residual);
        for op in config.ops(layer).iter() {
            flow.follow(config, op);
        }
        flow
    }

    fn follow(&mut self, config: &Config, op: &Op) {
        match *op {
            Op::RmsNorm { from, to, weight } => {
                let of = self.at(from);
                // Norms of the residual stream keep rotations, so they ask about it themselves.
                if self.values[of].source != Source::Residual {
                    self.read(from, Reader::Other);
                }
                self.write(to, Source::Norm { part: weight, of });
            }
            // What adds up behind a layer norm is normed in place: nothing of it can be rescaled.
            Op::LayerNorm { slot, .. } | Op::Activate { slot, .. } | Op::HeadNorm { slot, .. } => {
                self.change(slot);
            }
            Op::AddPositions { .. } | Op::AddTypes { .. } => self.change(Slot::Hidden),
            Op::Linear { from, outputs } => {
                for (part, to) in outputs {
                    self.read(from, Reader::Linear(*part));
                    self.write(*to, Source::Linears(vec![*part]));
                }
            }
            Op::Split { from, to } => self.split(from, to),
            Op::Rope { .. } => {
                self.change(Slot::Q);
                self.change(Slot::K);
            }
            Op::Attention { .. } => {
                self.read(Slot::Q, Reader::Other);
                self.read(Slot::K, Reader::Other);
                self.pass(Slot::V, Slot::Attended, Reader::Attention);
            }
            Op::LatentHeads => {
                self.change(Slot::Q);
                self.read(Slot::KeyTurn, Reader::Other);
                self.read(Slot::KeysAndValues, Reader::Other);
                self.write(Slot::K, Source::Other);
                self.write(Slot::V, Source::Other);
            }
            Op::CutAttended => self.change(Slot::Attended),
            Op::SiluMul | Op::GeluMul => {
                self.read(Slot::Gate, Reader::Other);
                self.pass(Slot::Up, Slot::Gate, Reader::Gated);
            }
            // One number for all channels: sums of linears stay what they are.
            Op::Scale { .. } => {}
            Op::Gate { score, .. } => self.read(score, Reader::Other),
            Op::Add { from } => self.read(from, Reader::Residual),
            Op::Experts { from, to } => self.experts(config, from, to),
        }
    }

    fn split(&mut self, from: Slot, to: &[Slot]) {
        let last_rows = match &self.values[self.at(from)].source {
            Source::Linears(parts) if parts.len() == 1 => Source::LastRows(parts[0]),
            _ => Source::Other,
        };
        self.read(from, Reader::Other);
        for (i, slot) in to.iter().enumerate() {
            let last = i + 1 == to.len();
            let source = if last {
                last_rows.clone()
            } else {
                Source::Other
            };
            self.write(*slot, source);
        }
    }

    fn experts(&mut self, config: &Config, from: Slot, to: Slot) {
        self.read(from, Reader::Linear(Part::Router));
        let mut downs = Vec::new();
        for e in (0..config.experts.map_or(0, |e| e.count)).map(|e| e as u16) {
            self.read(from, Reader::Linear(Part::ExpertGate(e)));
            self.read(from, Reader::Linear(Part::ExpertUp(e)));
            let up = self.values.len();
            self.values.push(Value {
                source: Source::Linears(vec![Part::ExpertUp(e)]),
                readers: vec![Reader::Gated(up + 1)],
            });
            self.values.push(Value {
                source: Source::Through,
                readers: vec![Reader::Linear(Part::ExpertDown(e))],
            });
            downs.push(Part::ExpertDown(e));
        }
        self.write(to, Source::Linears(downs));
    }

    /// The value that a slot holds; operations write before they read.
    fn at(&self, slot: Slot) -> usize {
        let found = self.slots.iter().rev().find(|(s, _)| *s == slot);
        found.map_or(0, |(_, value)| *value)
    }

    fn read(&mut self, slot: Slot, reader: Reader) {
        let value = self.at(slot);
        self.values[value].readers.push(reader);
    }

    fn write(&mut self, slot: Slot, source: Source) -> usize {
        self.values.push(Value {
            source,
            readers: Vec::new(),
        });
        self.slots.push((slot, self.values.len() - 1));
        self.values.len() - 1
    }

    /// A slot is changed in place in a way that keeps neither scales nor rotations.
    fn change(&mut self, slot: Slot) {
        self.read(slot, Reader::Other);
        self.write(slot, Source::Other);
    }

    fn pass(&mut self, from: Slot, to: Slot, reader: fn(usize) -> Reader) {
        let read = self.at(from);
        let made = self.write(to, Source::Through);
        self.values[read].readers.push(reader(made));
    }
}
