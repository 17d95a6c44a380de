//! What a conversion makes: files planned before a tensor is read, and the bytes of their tensors.
//!
//! ```text
//! Target::files ─► headers are written
//! Target::wants ─► for each: begin ─► take(Given) … take(Given) ─► finish
//!                                       └─► pieces of output tensors, written as they come
//! ```
//! A target never asks for bytes itself and never sees a file: it lists what it wants of the source
//! and gets that as stored, as floats some rows at a time, or as a matrix. Pieces of one output
//! tensor come one after another, and may come from several wants (stacked experts).

use super::report::ModuleReport;
use super::source::Source;
use crate::cpu::Cpu;
use crate::error::Result;
use crate::job::files::Files;
use crate::matrix::QuantizedMatrix;
use crate::tensor::Tensor;
use serde_json::Value;
use std::fmt::Debug;

/// How a target wants a tensor of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Bytes as they lie in the source, whatever their type, in pieces of at most 16 MiB. Only for
    /// tensors that are one tensor in the source and that no adapter changes.
    Stored,
    /// Floats, a few rows at a time: as many as are a multiple of `granule` and about 2²⁰ weights,
    /// in the type that the tensor has (`F32` where it was quantized or changed on the way). A
    /// vector is one row.
    Rows {
        /// Rows that must come together.
        granule: usize,
    },
    /// The matrix as the source's layout decodes it. Only for tensors that are quantized in the
    /// source and that no adapter changes.
    Matrix,
    /// Nothing: what becomes of the want comes from the plan.
    Nothing,
}

/// A part of the work: one tensor of the source in one form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Position in `Source::tensors`; without meaning for `Form::Nothing`.
    pub tensor: usize,
    /// How it is wanted.
    pub form: Form,
    /// Wants next to each other that have the same unit end in one line of the journal. Blocks of
    /// a model make good units.
    pub unit: String,
    /// Work in multiply-adds, for progress; see `job::pace`.
    pub work: u64,
}

/// What a want gets, piece by piece.
#[derive(Debug)]
pub enum Given {
    /// The next bytes as stored.
    Stored(Vec<u8>),
    /// Rows from `first` on: `[rows, cols]` of plain floats.
    Rows {
        /// First row.
        first: usize,
        /// The rows.
        rows: Tensor,
    },
    /// The matrix, once.
    Matrix(QuantizedMatrix),
    /// What `Form::Nothing` gets, once.
    Nothing,
}

/// The next bytes of an output tensor.
#[derive(Debug)]
pub struct Piece {
    /// Name in the output.
    pub tensor: String,
    /// Its next bytes.
    pub bytes: Vec<u8>,
}

/// A want under way.
pub trait Making: Debug + Send {
    /// Takes what came; gives what of the output is ready. At most about 100 ms of work.
    fn take(&mut self, given: Given, cpu: &Cpu) -> Result<Vec<Piece>>;

    /// Everything came: the rest of the output, and what is to be reported, if anything.
    fn finish(self: Box<Self>, cpu: &Cpu) -> Result<(Vec<Piece>, Option<ModuleReport>)>;
}

/// A matrix of the output, for the plan and the screen.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Module.
    pub name: String,
    /// Outputs and inputs.
    pub shape: (usize, usize),
    /// How the source stores it: a scheme, a GGUF type or a type of floats.
    pub from: String,
    /// How the output stores it.
    pub to: String,
    /// What that means for its values.
    pub how: How,
    /// Why it is not exact, or what that depends on; empty otherwise.
    pub why: String,
}

/// What a conversion does to the values of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Every value stays what it is, bit for bit as f32.
    Exact,
    /// Exact if what is stored fits, which only the data tells; rounded otherwise.
    IfItFits,
    /// Widened to floats, and rounded.
    Rounded,
    /// Changed on purpose: an adapter is merged.
    Merged,
}

impl How {
    /// The name in plans and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::IfItFits => "if it fits",
            Self::Rounded => "rounded",
            Self::Merged => "merged",
        }
    }
}

/// What a conversion makes of a source.
pub trait Target: Debug + Send {
    /// Output files, their headers and the place of every output tensor. (`Files::new` lays out
    /// safetensors, `Files::laid_out` takes any other container.)
    fn files(&self) -> &Files;

    /// The parts of the work, in the order in which the output is written.
    fn wants(&self) -> &[Want];

    /// Starts on a want of that list.
    fn begin(&self, want: usize, source: &Source) -> Result<Box<dyn Making>>;

    /// What becomes of each matrix, for the plan and the screen.
    fn planned(&self) -> &[Planned];

    /// The new config.json; none for a format that keeps its own metadata. Then no other text file
    /// is written beside the output either.
    fn config(&self) -> Option<&Value>;

    /// Bits per weight of the matrices that are quantized; none when none is.
    fn bits_per_weight(&self) -> Option<f64>;

    /// Most bytes that `begin` … `finish` hold beside what they are given.
    fn memory_bytes(&self) -> u64;

    /// What the user should know before starting.
    fn warnings(&self) -> &[String];
}
