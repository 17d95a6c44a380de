//! What a job asks of its caller.

use crate::error::{Code, Error, Result};

/// What the job wants done before it can go on.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// Read these source tensors; answer with their bytes, in this order.
    Read {
        /// Names in the checkpoint.
        tensors: Vec<String>,
    },
    /// Read a part of a source tensor; answer with one buffer.
    ReadRange {
        /// Name in the checkpoint.
        tensor: String,
        /// First byte inside the tensor.
        offset: u64,
        /// How many bytes; at most 16 MiB.
        len: u64,
    },
    /// Read from a scratch file; answer with one buffer.
    ReadScratch {
        /// Scratch file name.
        name: String,
        /// First byte.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// Write to a scratch file (attached bytes); answer with nothing.
    WriteScratch {
        /// Scratch file name.
        name: String,
        /// First byte.
        offset: u64,
        /// What to write.
        bytes: Vec<u8>,
    },
    /// Read back what was written to an output file, by this run or the one that it goes on
    /// from; answer with one buffer.
    ReadOutput {
        /// Output file name.
        name: String,
        /// First byte.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// Write a piece of an output file (attached bytes); answer with nothing. Pieces come in no
    /// particular order, and a resumed run writes into the file that is there.
    Write {
        /// Output file name.
        name: String,
        /// Length of the whole file, known from the plan.
        total: u64,
        /// First byte.
        offset: u64,
        /// What to write.
        bytes: Vec<u8>,
    },
    /// Make everything written so far durable, then append this line to the journal, durably.
    Journal {
        /// One line of JSON without a line feed.
        line: String,
    },
    /// Nothing to do outside: poll again. Tells how far the job is.
    Work(Progress),
    /// Finished; the report as JSON.
    Done {
        /// Report: per layer method, scheme, error, fallbacks; totals; sha256 of every file.
        report: String,
    },
}

/// How far a job is, in units of work that take about equally long.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Stage: `open`, `embed`, `calibrate`, `quantize`, `forward`, `copy`, `finish`.
    pub stage: &'static str,
    /// Block index, if the stage is in a block.
    pub layer: Option<usize>,
    /// `gpu` in stages that an accelerator takes part in.
    pub device: Option<&'static str>,
    /// Work done.
    pub done: u64,
    /// Work in all.
    pub total: u64,
}

/// How long the buffers of the next answer must be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expected(Vec<u64>);

impl Expected {
    /// What `ask` wants; `tensor_bytes` gives the length of a source tensor.
    pub(crate) fn of(ask: &Ask, tensor_bytes: impl Fn(&str) -> Result<u64>) -> Result<Self> {
        let lengths: Result<_> = match ask {
            Ask::Read { tensors } => tensors.iter().map(|t| tensor_bytes(t)).collect(),
            Ask::ReadRange { len, .. }
            | Ask::ReadScratch { len, .. }
            | Ask::ReadOutput { len, .. } => Ok(vec![*len]),
            _ => Ok(Vec::new()),
        };
        lengths.map(Self)
    }

    /// `file-changed` for an answer of other lengths.
    pub(crate) fn check(&self, answer: &[Vec<u8>]) -> Result<()> {
        let lengths: Vec<_> = answer.iter().map(|a| a.len() as u64).collect();
        if lengths == self.0 {
            return Ok(());
        }
        let what = format!("asked for {:?} bytes, got {lengths:?}", self.0);
        Err(Error::new(Code::FileChanged, what)
            .remedy("leave source and output alone while the job runs"))
    }
}
