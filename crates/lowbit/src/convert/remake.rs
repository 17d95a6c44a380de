//! One quantized matrix in another layout: as it is where its values fit, else rounded anew.
//!
//! Nothing is exact because a rule says so: what is written is decoded again and every value
//! compared.

use super::exact::{Wanted, refit};
use super::feed::widen;
use super::joint::Shared;
use super::report::ModuleReport;
use super::target::{Given, How, Making, Piece, Planned};
use super::work;
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::job::pace;
use crate::job::stacked::{Stacked, cuts};
use crate::layout::Layout;
use crate::matrix::{QuantizedMatrix, Values};
use crate::round::gptq::{GptqOptions, Quality};
use crate::round::observer::Observer;
use crate::round::{RoundOptions, Weights, hqq, rtn};
use crate::scheme::{Scheme, ZeroPoint};
use crate::tensor::{Dtype, Tensor};

/// A matrix under way.
#[derive(Debug, Clone)]
pub(super) struct Remake {
    pub(super) module: String,
    pub(super) layout: &'static dyn Layout,
    pub(super) wanted: Wanted,
    /// What `Layout::encode` is told of scales.
    pub(super) dtype: Dtype,
    pub(super) planned: Planned,
    pub(super) observer: Observer,
    pub(super) exact: bool,
    /// Rows that are not rounded yet, and those that are.
    pub(super) values: Vec<f32>,
    pub(super) rounded: Stacked,
    /// What a matrix that was not rounded differs by, when it was compared.
    pub(super) compared: Option<Quality>,
    /// What NVFP4's scale must cover, where engines join the matrix with others.
    pub(super) shared: Option<Shared>,
    /// The scale of the inputs, which rounding leaves as it is.
    pub(super) input_scale: Option<f32>,
    /// How it went, when that is known.
    pub(super) outcome: Option<(How, String)>,
}

impl Remake {
    /// A matrix in its stored form.
    fn take_matrix(&mut self, matrix: &QuantizedMatrix, cpu: &Cpu) -> Result<Vec<Piece>> {
        match refit(matrix, &self.wanted) {
            Ok(fit) => {
                let pieces = self.encode(&fit, Some((matrix, cpu)))?;
                let (how, why) = self.how_compared();
                work::check_exact(self.exact, &self.module, how, &why)?;
                self.outcome = Some((how, why));
                Ok(pieces)
            }
            Err(why) => {
                work::check_exact(self.exact, &self.module, How::Rounded, &why)?;
                self.outcome = Some((How::Rounded, why));
                self.input_scale = matrix.inputs.and_then(|i| i.scale);
                let (rows, cols) = (matrix.rows, matrix.cols);
                let slice = slice_rows(&self.wanted.scheme, rows, cols);
                for first in (0..rows).step_by(slice) {
                    let mut values = vec![0.0; slice.min(rows - first) * cols];
                    widen(matrix, first, &mut values, cpu);
                    self.round(&values, cpu)?;
                }
                Ok(Vec::new())
            }
        }
    }

    /// What comparing says: scales of another type may have rounded.
    fn how_compared(&self) -> (How, String) {
        if self
            .compared
            .as_ref()
            .is_none_or(|q| q.squared_error == 0.0)
        {
            return (How::Exact, String::new());
        }
        let what = format!(
            "codes are kept, scales are rounded as {}",
            self.layout.name()
        );
        (How::Rounded, format!("{what} stores them"))
    }

    fn round(&mut self, values: &[f32], cpu: &Cpu) -> Result<()> {
        let (scheme, cols) = (&self.wanted.scheme, self.planned.shape.1);
        let weights = Weights {
            values,
            rows: values.len() / cols,
            cols,
            importance: None,
        };
        let options = RoundOptions {
            observer: self.observer,
            scale_dtype: self.wanted.scale_dtype,
            gptq: GptqOptions::default(),
        };
        let rounded = match (&self.shared, scheme.zero) {
            (Some(shared), _) => rtn::round_joined(weights, scheme, shared.largest(), cpu),
            (None, ZeroPoint::Float) => hqq::round(weights, scheme, &options, cpu),
            (None, _) => rtn::round(weights, scheme, &options, cpu),
        };
        let part = rounded.map_err(|e| e.at(format!("module {:?}", self.module)))?;
        self.rounded.push(part, values, cpu)
    }

    /// The bytes of a matrix; compared with what it should be, if that is given.
    fn encode(
        &mut self,
        matrix: &QuantizedMatrix,
        source: Option<(&QuantizedMatrix, &Cpu)>,
    ) -> Result<Vec<Piece>> {
        let place = |e: Error| e.at(format!("module {:?}", self.module));
        let scheme = &self.wanted.scheme;
        let tensors = self.layout.encode(&self.module, matrix, scheme, self.dtype);
        let tensors = tensors.map_err(place)?;
        if let Some((source, cpu)) = source {
            let back = self.layout.decode(&self.module, scheme, &tensors);
            self.compared = Some(difference(source, &back.map_err(place)?, cpu));
        }
        let piece = |t: Tensor| Piece {
            tensor: t.name,
            bytes: t.bytes,
        };
        Ok(tensors.into_iter().map(piece).collect())
    }
}

impl Making for Remake {
    fn take(&mut self, given: Given, cpu: &Cpu) -> Result<Vec<Piece>> {
        match given {
            Given::Matrix(matrix) => self.take_matrix(&matrix, cpu),
            Given::Rows { rows, .. } => {
                let mut values = rows.view()?.to_f32()?;
                if cuts(&self.wanted.scheme) {
                    self.round(&values, cpu)?;
                } else {
                    self.values.append(&mut values);
                }
                Ok(Vec::new())
            }
            _ => Err(Error::new(Code::Internal, "a matrix was wanted")),
        }
    }

    fn finish(mut self: Box<Self>, cpu: &Cpu) -> Result<(Vec<Piece>, Option<ModuleReport>)> {
        if !self.values.is_empty() {
            let values = std::mem::take(&mut self.values);
            self.round(&values, cpu)?;
        }
        let mut pieces = Vec::new();
        let (rounded, quality) = std::mem::take(&mut self.rounded).finish();
        if let Some(mut matrix) = rounded {
            index_columns(&mut matrix, &self.wanted);
            if let Some(inputs) = &mut matrix.inputs {
                inputs.scale = self.input_scale.or(inputs.scale);
            }
            pieces = self.encode(&matrix, None)?;
        }
        let planned = (self.planned.how, self.planned.why.clone());
        let (how, why) = self.outcome.take().unwrap_or(planned);
        let q = self.compared.take().unwrap_or(quality);
        let relative = (q.squared_error / q.squared_weight.max(f64::MIN_POSITIVE)).sqrt();
        let report = ModuleReport::of(&self.planned, how, &why, relative);
        Ok((pieces, Some(report)))
    }
}

/// A place is kept for the group of each column, where the plan says so.
fn index_columns(matrix: &mut QuantizedMatrix, wanted: &Wanted) {
    let cols = matrix.cols;
    if let (true, Values::Integer(m)) = (wanted.by_index, &mut matrix.values) {
        m.group_of_col = Some((0..cols).map(|j| (j / m.group) as u32).collect());
    }
}

fn slice_rows(scheme: &Scheme, rows: usize, cols: usize) -> usize {
    if cuts(scheme) {
        return pace::rows_per_slice(cols, Observer::MinMax);
    }
    rows
}

/// Squared difference between two matrices, and squared weights of the first.
fn difference(a: &QuantizedMatrix, b: &QuantizedMatrix, cpu: &Cpu) -> Quality {
    let mut total = Quality::default();
    let slice = pace::rows_per_slice(a.cols, Observer::MinMax);
    for first in (0..a.rows).step_by(slice) {
        let rows = slice.min(a.rows - first);
        let (mut x, mut y) = (vec![0.0; rows * a.cols], vec![0.0; rows * a.cols]);
        widen(a, first, &mut x, cpu);
        widen(b, first, &mut y, cpu);
        for (x, y) in x.iter().zip(&y) {
            let (x, d) = (f64::from(*x), f64::from(x - y));
            total.squared_error += d * d;
            total.squared_weight += x * x;
        }
    }
    total
}
