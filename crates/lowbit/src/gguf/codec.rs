//! Matrices to blocks and back.

use super::rows::Rows;
use super::types::{Codec, Type};
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use half::f16;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Weights of one task: enough to make its start cheap, few enough to keep threads busy.
const TASK_WEIGHTS: usize = 1 << 15;

/// Fewest columns that any type searches a scale for.
const RUN: usize = 16;

/// How much each input column matters: the mean of its squares over the calibration text.
#[derive(Debug, Clone, PartialEq)]
pub struct Importance(Vec<f32>);

impl Importance {
    /// Takes one value per column; `imatrix` when one is negative or not finite.
    ///
    /// A run of 16 columns that were never active counts as the least active column there is: with
    /// weights of zero the searches would give the run a scale of zero, or NaN.
    pub fn new(mut values: Vec<f32>) -> Result<Self> {
        let bad = |v: &f32| !(*v >= 0.0 && *v <= f32::MAX);
        if let Some(col) = values.iter().position(bad) {
            let what = format!("the importance of column {col} is {}", values[col]);
            let error = Error::new(Code::Imatrix, what);
            return Err(error.remedy("collect the importance matrix again"));
        }
        let active = values.iter().copied().filter(|v| *v > 0.0);
        let least = active.reduce(f32::min).unwrap_or(1.0);
        for run in values.chunks_mut(RUN) {
            if run.iter().all(|v| *v == 0.0) {
                run.fill(least);
            }
        }
        Ok(Self(values))
    }

    /// One value per column.
    pub fn values(&self) -> &[f32] {
        &self.0
    }
}

fn codec(ty: &Type) -> Result<&Codec> {
    ty.codec.as_ref().ok_or_else(|| {
        let what = format!("blocks of {} are not read here", ty.name);
        Error::new(Code::Unsupported, what)
    })
}

/// Encodes `values[rows, cols]` into blocks, row after row.
///
/// The bytes are those of ggml's encoders (compiled without contracting multiply and add), with and
/// without `importance`, for every instruction set and number of threads. `block` when rows are no
/// whole blocks, `unsupported` for types without an encoder, `imatrix` when importance has another
/// length, `nonfinite-weight` with the first place of a NaN or infinity, `qparam` when a scale does
/// not fit its type.
pub fn encode(
    ty: &Type,
    values: &[f32],
    cols: usize,
    importance: Option<&Importance>,
    cpu: &Cpu,
) -> Result<Vec<u8>> {
    let codec = codec(ty)?;
    let Some(encode) = codec.encode else {
        let what = format!("blocks of {} are read and not written here", ty.name);
        return Err(Error::new(Code::Unsupported, what));
    };
    let row_bytes = ty.row_bytes(cols)?;
    if let Some(importance) = importance.filter(|i| i.0.len() != cols) {
        let found = importance.0.len();
        let what = format!("importance of {found} columns for a matrix of {cols}");
        return Err(Error::new(Code::Imatrix, what));
    }
    if values.is_empty() || cols == 0 {
        return Ok(Vec::new());
    }
    assert!(values.len().is_multiple_of(cols), "whole rows are encoded");
    let task_rows = TASK_WEIGHTS.div_ceil(cols);
    let mut out = vec![0; values.len() / cols * row_bytes];
    let bad = AtomicUsize::new(usize::MAX);
    cpu.run_chunks(&mut out, task_rows * row_bytes, true, |task, out| {
        let rows = out.len() / row_bytes;
        let values = &values[task * task_rows * cols..][..rows * cols];
        if !all_finite(values) {
            bad.fetch_min(task, Ordering::Relaxed);
            return;
        }
        let rows = Rows {
            values,
            cols,
            importance: importance.map(Importance::values),
        };
        encode(cpu.isa, rows, out);
        if !codec.finite(ty, out) {
            bad.fetch_min(task, Ordering::Relaxed);
        }
    });
    match bad.into_inner() {
        usize::MAX => Ok(out),
        task => Err(refused(
            ty,
            &values[task * task_rows * cols..],
            cols,
            task * task_rows,
        )),
    }
}

fn all_finite(values: &[f32]) -> bool {
    values
        .iter()
        .fold(true, |all, v| all & (v.abs() <= f32::MAX))
}

impl Codec {
    /// Whether every half of whole blocks is finite.
    pub(super) fn finite(&self, ty: &Type, blocks: &[u8]) -> bool {
        let finite = |block: &[u8], at: &usize| {
            let half = [block[*at], block[at + 1]];
            f16::from_le_bytes(half).is_finite()
        };
        let mut blocks = blocks.chunks_exact(ty.bytes);
        blocks.all(|block| self.halves.iter().all(|at| finite(block, at)))
    }
}

fn refused(ty: &Type, values: &[f32], cols: usize, first: usize) -> Error {
    if let Some(i) = values.iter().position(|v| !v.is_finite()) {
        let what = format!(
            "weight [{}, {}] is {}",
            first + i / cols,
            i % cols,
            values[i]
        );
        return Error::new(Code::NonfiniteWeight, what).remedy("repair or fetch the checkpoint");
    }
    let what = format!("a scale of {} from row {first} on is too large", ty.name);
    Error::new(Code::Qparam, what).remedy("keep this tensor as BF16 or F32")
}

/// Decodes whole blocks into `out`, whose length says how many values there are.
///
/// The floats are those of ggml. `shape` when the bytes are not as many as the values need,
/// `unsupported` for types without a decoder, `qparam` when a scale is not finite.
pub fn decode(ty: &Type, blocks: &[u8], out: &mut [f32]) -> Result<()> {
    let codec = codec(ty)?;
    let wanted = ty.row_bytes(out.len())?;
    if blocks.len() != wanted {
        let what = format!(
            "{} values of {} take {wanted} bytes, found {}",
            out.len(),
            ty.name,
            blocks.len()
        );
        return Err(Error::new(Code::Shape, what));
    }
    (codec.decode)(blocks, out);
    if ty.block > 1 && !all_finite(out) {
        let what = format!("a scale of {} is not finite", ty.name);
        return Err(Error::new(Code::Qparam, what).remedy("download the file again"));
    }
    Ok(())
}
