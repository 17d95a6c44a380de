//! Brings a target what it wants of the source: asks for tensors, decodes, widens, merges.

use super::lora::{Edit, Factors, Lora};
use super::source::{Logical, Source, Stored};
use super::target::{Form, Given, Want};
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::job::Ask;
use crate::job::pace::{self, PIECE_BYTES};
use crate::matrix::QuantizedMatrix;
use crate::round::observer::Observer;
use crate::tensor::{Dtype, Tensor, bytes_from_f32, f32_from};

/// What the last ask was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    Factors,
    Matrix,
    Rows,
    Bytes,
}

/// One want under way.
#[derive(Debug)]
pub(super) struct Feed {
    want: Want,
    asked: Asked,
    /// What an adapter adds, when it has been read.
    factors: Option<Factors>,
    /// The matrix, when it has been read.
    matrix: Option<QuantizedMatrix>,
    /// First row, or byte, that was not given yet.
    next: u64,
    done: bool,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Fed {
    /// To be answered with bytes.
    Ask(Ask),
    /// For the target.
    Give(Given),
    /// Everything was given.
    End,
}

impl Feed {
    pub(super) fn new(want: Want) -> Self {
        Self {
            want,
            asked: Asked::Nothing,
            factors: None,
            matrix: None,
            next: 0,
            done: false,
        }
    }

    /// Goes on with the answer to the last ask, if that was an ask.
    pub(super) fn poll(&mut self, source: &Source, cpu: &Cpu, answer: Vec<Vec<u8>>) -> Result<Fed> {
        if self.want.form == Form::Nothing {
            let first = !std::mem::replace(&mut self.done, true);
            return Ok(if first {
                Fed::Give(Given::Nothing)
            } else {
                Fed::End
            });
        }
        let tensor = &source.tensors[self.want.tensor];
        let place = |e: Error| e.at(format!("tensor {:?}", tensor.name));
        match std::mem::replace(&mut self.asked, Asked::Nothing) {
            Asked::Nothing => {}
            Asked::Factors => self.factors = Some(factors(tensor, &answer).map_err(place)?),
            Asked::Matrix => self.matrix = Some(decode(tensor, answer)?),
            Asked::Rows => return self.rows_from(tensor, cpu, only(answer)).map_err(place),
            Asked::Bytes => {
                let bytes = only(answer);
                self.next += bytes.len() as u64;
                return Ok(Fed::Give(Given::Stored(bytes)));
            }
        }
        match self.want.form {
            Form::Stored => self.next_bytes(tensor),
            Form::Matrix => self.next_matrix(tensor),
            Form::Rows { granule } => self.next_rows(source, cpu, granule).map_err(place),
            Form::Nothing => Ok(Fed::End),
        }
    }

    fn next_bytes(&mut self, tensor: &Logical) -> Result<Fed> {
        let (Stored::Plain(name), None) = (&tensor.stored, &tensor.edit) else {
            return Err(wrong(tensor, "as stored"));
        };
        let bytes = tensor.stored_bytes()?;
        if bytes == 0 && !std::mem::replace(&mut self.done, true) {
            return Ok(Fed::Give(Given::Stored(Vec::new())));
        }
        if self.next == bytes {
            return Ok(Fed::End);
        }
        self.asked = Asked::Bytes;
        Ok(Fed::Ask(Ask::ReadRange {
            tensor: name.clone(),
            offset: self.next,
            len: PIECE_BYTES.min(bytes - self.next),
        }))
    }

    fn next_matrix(&mut self, tensor: &Logical) -> Result<Fed> {
        if let Some(matrix) = self.matrix.take() {
            self.done = true;
            return Ok(Fed::Give(Given::Matrix(matrix)));
        }
        if self.done {
            return Ok(Fed::End);
        }
        if tensor.is_edited() {
            return Err(wrong(tensor, "as a matrix"));
        }
        self.ask_matrix(tensor)
    }

    fn ask_matrix(&mut self, tensor: &Logical) -> Result<Fed> {
        let quantized = tensor.quantized();
        let quantized = quantized.ok_or_else(|| wrong(tensor, "as a matrix"))?;
        self.asked = Asked::Matrix;
        let tensors = quantized.parts.iter().map(|p| p.name.clone()).collect();
        Ok(Fed::Ask(Ask::Read { tensors }))
    }

    /// Asks for whatever is missing, or widens the next rows of a matrix that is there.
    fn next_rows(&mut self, source: &Source, cpu: &Cpu, granule: usize) -> Result<Fed> {
        let tensor = &source.tensors[self.want.tensor];
        let (rows, cols) = (tensor.rows(), tensor.cols());
        if self.next as usize >= rows || cols == 0 {
            return Ok(Fed::End);
        }
        if let (Some(edit @ Edit::Add { .. }), None) = (&tensor.edit, &self.factors) {
            self.asked = Asked::Factors;
            let tensors = edit.tensors();
            return Ok(Fed::Ask(Ask::Read { tensors }));
        }
        let granule = granule.max(1);
        let some = pace::rows_per_slice(cols, Observer::MinMax) / granule * granule;
        let count = some.max(granule).min(rows - self.next as usize);
        if let Some(name) = tensor.row_wise() {
            let row_bytes = tensor.row_bytes()?;
            self.asked = Asked::Rows;
            return Ok(Fed::Ask(Ask::ReadRange {
                tensor: name.to_owned(),
                offset: self.next * row_bytes,
                len: count as u64 * row_bytes,
            }));
        }
        let Some(matrix) = &self.matrix else {
            return self.ask_matrix(tensor);
        };
        let first = self.next as usize;
        let mut values = vec![0.0f32; count * cols];
        widen(matrix, first, &mut values, cpu);
        self.give(tensor, cpu, values)
    }

    /// Rows as they came, or widened where they are blocks or an adapter adds to them.
    fn rows_from(&mut self, tensor: &Logical, cpu: &Cpu, bytes: Vec<u8>) -> Result<Fed> {
        let (cols, dtype) = (tensor.cols(), tensor.read_dtype());
        let count = (bytes.len() as u64 / tensor.row_bytes()?.max(1)) as usize;
        if self.factors.is_some() || matches!(dtype, Dtype::Blocks(_)) {
            let mut values = vec![0.0f32; count * cols];
            f32_from(dtype, &bytes, &mut values)?;
            return self.give(tensor, cpu, values);
        }
        let first = self.next as usize;
        self.next += count as u64;
        let rows = Tensor {
            name: tensor.name.clone(),
            dtype,
            shape: vec![count, cols],
            bytes,
        };
        Ok(Fed::Give(Given::Rows { first, rows }))
    }

    fn give(&mut self, tensor: &Logical, cpu: &Cpu, mut values: Vec<f32>) -> Result<Fed> {
        let (first, cols) = (self.next as usize, tensor.cols());
        if let Some(factors) = &self.factors {
            factors.add(first, cols, &mut values, cpu);
        }
        let count = values.len() / cols;
        self.next += count as u64;
        let rows = Tensor {
            name: tensor.name.clone(),
            dtype: Dtype::F32,
            shape: vec![count, cols],
            bytes: bytes_from_f32(Dtype::F32, &values)?,
        };
        Ok(Fed::Give(Given::Rows { first, rows }))
    }
}

/// Rows of a matrix from `first` on, as many as `values` holds.
pub(super) fn widen(matrix: &QuantizedMatrix, first: usize, values: &mut [f32], cpu: &Cpu) {
    let cols = matrix.cols;
    cpu.run_chunks(values, cols, true, |i, row| {
        let found = matrix.dequantize_row(first + i, row);
        debug_assert!(found.is_ok(), "rows are counted by the matrix's own");
    });
}

fn decode(tensor: &Logical, answer: Vec<Vec<u8>>) -> Result<QuantizedMatrix> {
    let quantized = tensor.quantized();
    let quantized = quantized.ok_or_else(|| wrong(tensor, "as a matrix"))?;
    let module = tensor.module();
    let matrix = quantized.decode(module, answer)?;
    let matrix = matrix.ok_or_else(|| wrong(tensor, "as a matrix"))?;
    if tensor.shape != [matrix.rows, matrix.cols] {
        let (rows, cols) = (matrix.rows, matrix.cols);
        let what = format!("{rows}×{cols}, config.json asks for {:?}", tensor.shape);
        return Err(Error::new(Code::Shape, what).at(format!("module {module:?}")));
    }
    Ok(matrix)
}

fn factors(tensor: &Logical, answer: &[Vec<u8>]) -> Result<Factors> {
    let edit = tensor.edit.as_ref();
    let found = edit.map(|edit| Lora::factors(edit, answer)).transpose()?;
    found
        .flatten()
        .ok_or_else(|| wrong(tensor, "with an adapter"))
}

/// The one buffer of an answer.
fn only(answer: Vec<Vec<u8>>) -> Vec<u8> {
    answer.into_iter().next().unwrap_or_default()
}

/// A target that wants a tensor in a form that it cannot have.
fn wrong(tensor: &Logical, form: &str) -> Error {
    let what = format!("tensor {:?} was wanted {form}", tensor.name);
    Error::new(Code::Internal, what)
}
