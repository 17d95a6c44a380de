//! EETQ: 8-bit codes per output channel, in the order in which Turing and Ampere kernels read them.
//!
//! ```text
//! weight         I8   [cols, rows]  see below
//! weight_scales  F16  [rows]        w = q · scale
//! ```
//! From the plain matrix `[cols, rows]` of signed codes (inputs × outputs): inputs are permuted
//! inside each 16 to 0 1 8 9 2 3 10 11 4 5 12 13 6 7 14 15; the matrix is stored column by column,
//! pairs of columns taking turns after 64 inputs; 128 is added to every byte; bytes 1 and 2 of every
//! four change places. Source: FasterTransformer `cutlass_preprocessors`, compute capability 7.5–8.9.

use super::parts::{FLOATS, Parts, mismatch, named, planned};
use super::target::Target;
use super::{Layout, Resolver, Rule};
use crate::container::safetensors::Planned;
use crate::error::{Code, Error, Result};
use crate::matrix::{Codes, Floats, Integer, QuantizedMatrix, Scales, Values, Zero};
use crate::scheme::{Element, Group, Scheme, ZeroPoint};
use crate::tensor::{Dtype, Tensor};
use serde_json::{Value, json};

/// The layout.
#[derive(Debug)]
pub struct Eetq;

/// Place of each input inside its sixteen.
const PLACE: [usize; 16] = [0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15];

/// Where the code of an output and an input lies in the tensor's bytes.
fn offset(row: usize, col: usize, cols: usize) -> usize {
    let input = col / 16 * 16 + PLACE[col % 16];
    let (word, byte) = (input / 4, input % 4);
    // Sixteen words, 64 inputs, of an even column, then as many of the odd one.
    let line = word / 16 * 32 + row % 2 * 16 + word % 16;
    let byte = [0, 2, 1, 3][byte];
    (row / 2 * (cols / 2) + line) * 4 + byte
}

impl Layout for Eetq {
    fn name(&self) -> &'static str {
        "eetq"
    }

    fn about(&self) -> &'static str {
        "8-bit integers per row, read by transformers on Turing to Ada GPUs"
    }

    fn accepts(&self, scheme: &Scheme) -> Result<()> {
        let plain = scheme.element == Element::Int && scheme.zero == ZeroPoint::None;
        if plain && scheme.bits == 8 && scheme.group == Group::Row && scheme.activations.is_none() {
            return Ok(());
        }
        Err(Error::new(
            Code::Scheme,
            format!("{scheme}: eetq holds w8 only"),
        ))
    }

    fn divides(&self, scheme: &Scheme, rows: usize, cols: usize) -> Result<()> {
        if rows.is_multiple_of(64) && cols.is_multiple_of(64) {
            return Ok(());
        }
        let what = format!("{scheme}: eetq needs multiples of 64, the matrix is {rows}×{cols}");
        Err(Error::new(Code::Scheme, what).remedy("use format compressed-tensors"))
    }

    fn is_quantized(&self, parts: &[String]) -> bool {
        parts.iter().any(|p| p.ends_with(".weight_scales"))
    }

    fn parts(&self) -> &'static [&'static str] {
        &["weight", "weight_scales"]
    }

    fn outputs(
        &self,
        base: &str,
        _scheme: &Scheme,
        (rows, cols): (usize, usize),
        scale_dtype: Dtype,
        _by_index: bool,
    ) -> Vec<Planned> {
        vec![
            planned(base, "weight", Dtype::I8, &[cols, rows]),
            planned(base, "weight_scales", scale_dtype, &[rows]),
        ]
    }

    fn encode(
        &self,
        base: &str,
        matrix: &QuantizedMatrix,
        scheme: &Scheme,
        _dtype: Dtype,
    ) -> Result<Vec<Tensor>> {
        let (rows, cols) = (matrix.rows, matrix.cols);
        self.fits(scheme, rows, cols)?;
        matrix.validate()?;
        let m = matrix.integer("eetq")?;
        let (Scales::Flat(scales), Zero::Centre, 8) = (&m.scales, &m.zero, m.codes.bits) else {
            return Err(mismatch(scheme));
        };
        if m.group != cols || m.group_of_col.is_some() {
            return Err(mismatch(scheme));
        }
        let (mut codes, mut weight) = (vec![0; cols], vec![0; rows * cols]);
        for r in 0..rows {
            m.codes.row(r, &mut codes);
            for (c, code) in codes.iter().enumerate() {
                weight[offset(r, c, cols)] = *code;
            }
        }
        let outputs = self.outputs(base, scheme, (rows, cols), scales.dtype(), false);
        Ok(named(outputs, vec![weight, scales.to_bytes()]))
    }

    fn decode(&self, base: &str, scheme: &Scheme, tensors: &[Tensor]) -> Result<QuantizedMatrix> {
        let parts = Parts { base, tensors };
        let place = |e: Error| e.at(format!("{base:?}"));
        let (cols, rows, weight) = parts.matrix("weight", Dtype::I8)?;
        self.fits(scheme, rows, cols).map_err(place)?;
        let scale = parts.get("weight_scales", FLOATS, &[rows])?;
        let places = (0..rows).flat_map(|r| (0..cols).map(move |c| offset(r, c, cols)));
        let codes: Vec<u8> = places.map(|i| weight.bytes[i]).collect();
        let matrix = QuantizedMatrix {
            rows,
            cols,
            values: Values::Integer(Integer {
                codes: Codes::pack(&codes, cols, 8),
                group: cols,
                scales: Scales::Flat(Floats::from_bytes(scale.dtype, &scale.bytes)?),
                zero: Zero::Centre,
                group_of_col: None,
            }),
            inputs: None,
        };
        matrix.validate().map_err(place)?;
        Ok(matrix)
    }

    fn config(
        &self,
        _assignment: &[(String, Scheme)],
        ignored: &[String],
        _by_index: bool,
    ) -> Value {
        json!({ "quant_method": "eetq", "weights": "int8", "modules_to_not_convert": ignored })
    }

    fn detect(&self, config: &Value) -> Option<Result<Resolver>> {
        let rule = Rule {
            target: Target::Linear,
            scheme: Scheme::weights(8, Group::Row, true),
            layout: &Eetq,
        };
        let mine = config["quant_method"] == self.name();
        mine.then(|| Ok(Resolver::new(&Eetq, vec![rule], Vec::new())))
    }
}
