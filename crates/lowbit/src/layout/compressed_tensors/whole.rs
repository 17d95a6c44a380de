//! Formats `int-quantized`, `float-quantized` and `naive-quantized`: a byte per weight.
//!
//! ```text
//! weight             I8       [rows, cols]          the signed code; with b < 8 bits it uses ±2^(b−1)
//!                    F8_E4M3  [rows, cols]
//! weight_scale       any      [rows, 1]             a scale per row
//!                             [rows, groups]        per run of a row
//!                             [1]                   for the whole matrix
//!                             [⌈rows/h⌉, ⌈cols/w⌉]  per block of h × w
//! weight_zero_point  I8       as weight_scale       asymmetric integers only
//! input_scale        any      [1]                   static inputs only
//! ```
//! `int-quantized` and `float-quantized` have quantized inputs, `naive-quantized` has not.

use super::format::{Format, Place};
use crate::container::safetensors::Planned;
use crate::error::{Code, Error, Result};
use crate::layout::parts::{FLOATS, Parts, mismatch, named, planned};
use crate::matrix::{
    Codes, Floats, Inputs, Integer, Minifloat, QuantizedMatrix, Scales, Values, Zero,
};
use crate::scheme::{Element, Group, Scheme, ZeroPoint};
use crate::tensor::{Dtype, Tensor};

/// One of the three.
#[derive(Debug)]
pub(super) struct Whole {
    name: &'static str,
    /// The element, unless it may be either.
    element: Option<Element>,
}

pub(super) static INT: Whole = Whole {
    name: "int-quantized",
    element: Some(Element::Int),
};

pub(super) static FLOAT: Whole = Whole {
    name: "float-quantized",
    element: Some(Element::Fp8),
};

pub(super) static NAIVE: Whole = Whole {
    name: "naive-quantized",
    element: None,
};

/// Shape of `weight_scale`.
fn scale_shape(scheme: &Scheme, rows: usize, cols: usize) -> Vec<usize> {
    match scheme.group {
        Group::Tensor => vec![1],
        Group::Block { rows: h, cols: w } => vec![rows.div_ceil(h), cols.div_ceil(w)],
        Group::Row => vec![rows, 1],
        Group::Run(n) | Group::Flat(n) => vec![rows, cols / n.max(1)],
    }
}

impl Format for Whole {
    fn name(&self) -> &'static str {
        self.name
    }

    fn accepts(&self, scheme: &Scheme) -> Result<()> {
        let no = |why: &str| Err(Error::new(Code::Scheme, format!("{scheme}: {why}")));
        if !matches!(scheme.element, Element::Int | Element::Fp8)
            || self.element.is_some_and(|e| e != scheme.element)
        {
            return no(&format!("{} holds other weights", self.name));
        }
        if scheme.zero == ZeroPoint::Float || scheme.nested {
            return no(&format!("{} has plain scales and zero points", self.name));
        }
        match (scheme.element, scheme.group) {
            (_, Group::Row | Group::Tensor)
            | (Element::Int, Group::Run(_))
            | (Element::Fp8, Group::Block { .. }) => Ok(()),
            _ => no(&format!("{} has no such groups", self.name)),
        }
    }

    fn fits(&self, scheme: &Scheme, _rows: usize, cols: usize) -> Result<()> {
        match scheme.group {
            Group::Block { .. } => Ok(()),
            _ => scheme.group_cols(cols).map(|_| ()),
        }
    }

    fn outputs(&self, place: Place<'_>, scale_dtype: Dtype, _by_index: bool) -> Vec<Planned> {
        let ((rows, cols), scheme) = (place.shape, place.scheme);
        let weight = match scheme.element {
            Element::Int => Dtype::I8,
            _ => Dtype::F8E4M3,
        };
        let scales = scale_shape(scheme, rows, cols);
        let mut all = vec![
            planned(place.base, "weight", weight, &[rows, cols]),
            planned(place.base, "weight_scale", scale_dtype, &scales),
        ];
        if scheme.zero == ZeroPoint::Int {
            all.push(planned(place.base, "weight_zero_point", Dtype::I8, &scales));
        }
        if scheme.activations.is_some_and(|a| !a.dynamic) {
            all.push(planned(place.base, "input_scale", scale_dtype, &[1]));
        }
        all
    }

    fn encode(&self, place: Place<'_>, matrix: &QuantizedMatrix) -> Result<Vec<Tensor>> {
        let scheme = place.scheme;
        let differs = || mismatch(scheme);
        let (mut data, scales) = match &matrix.values {
            Values::Integer(m) => encode_integer(m, matrix, scheme).ok_or_else(differs)?,
            Values::Minifloat(m) if block(scheme, matrix.rows, matrix.cols) == m.block => {
                (vec![m.bytes.clone(), m.scales.to_bytes()], &m.scales)
            }
            _ => return Err(differs()),
        };
        if scheme.activations.is_some_and(|a| !a.dynamic) {
            let Some(scale) = matrix.inputs.and_then(|i| i.scale) else {
                let what = format!("{scheme} needs the scale of its inputs from calibration");
                return Err(Error::new(Code::Qparam, what));
            };
            data.push(Floats::from_f32(scales.dtype(), &[scale])?.to_bytes());
        }
        Ok(named(self.outputs(place, scales.dtype(), false), data))
    }

    fn decode(&self, base: &str, scheme: &Scheme, tensors: &[Tensor]) -> Result<QuantizedMatrix> {
        let parts = Parts { base, tensors };
        let dtype = match scheme.element {
            Element::Int => Dtype::I8,
            _ => Dtype::F8E4M3,
        };
        let (rows, cols, weight) = parts.matrix("weight", dtype)?;
        self.fits(scheme, rows, cols)
            .map_err(|e| e.at(format!("{base:?}")))?;
        let shape = scale_shape(scheme, rows, cols);
        let scale = match parts.find("weight_scale") {
            // A scale for the matrix may be a scalar too.
            Some(_) if scheme.group == Group::Tensor => parts.single("weight_scale", FLOATS)?,
            _ => {
                let tensor = parts.get("weight_scale", FLOATS, &shape)?;
                Floats::from_bytes(tensor.dtype, &tensor.bytes)?
            }
        };
        let values = if scheme.element == Element::Int {
            let zeros = match scheme.zero {
                ZeroPoint::None => None,
                _ => Some(parts.get("weight_zero_point", &[Dtype::I8], &shape)?),
            };
            let zeros = zeros.map(|t| t.bytes.as_slice());
            decode_integer(scheme, (rows, cols), &weight.bytes, &scale, zeros)
                .map_err(|e| e.at(format!("{base:?}")))?
        } else {
            Values::Minifloat(Minifloat {
                dtype,
                bytes: weight.bytes.clone(),
                block: block(scheme, rows, cols),
                scales: scale,
            })
        };
        let mut inputs = Inputs::of(scheme);
        if let (Some(inputs), Some(a)) = (&mut inputs, scheme.activations)
            && !a.dynamic
        {
            inputs.scale = Some(parts.single("input_scale", FLOATS)?.get(0));
        }
        Ok(QuantizedMatrix {
            rows,
            cols,
            values,
            inputs,
        })
    }
}

/// Rows and columns that share a scale.
fn block(scheme: &Scheme, rows: usize, cols: usize) -> (usize, usize) {
    match scheme.group {
        Group::Tensor => (rows, cols),
        Group::Block { rows, cols } => (rows, cols),
        _ => (1, cols),
    }
}

/// Bytes of weights, scales and zero points; none when the matrix has another form.
fn encode_integer<'a>(
    m: &'a Integer,
    matrix: &QuantizedMatrix,
    scheme: &Scheme,
) -> Option<(Vec<Vec<u8>>, &'a Floats)> {
    let Scales::Flat(scales) = &m.scales else {
        return None;
    };
    let group = scheme.group_cols(matrix.cols).ok()?;
    if m.codes.bits != scheme.bits || m.group != group || m.group_of_col.is_some() {
        return None;
    }
    // All rows have the same scale then; the file keeps one of them.
    let kept = if scheme.group == Group::Tensor {
        1
    } else {
        scales.len()
    };
    if (kept..scales.len()).any(|i| scales.get(i) != scales.get(0)) {
        return None;
    }
    let middle = 1u8 << (scheme.bits - 1);
    let mut weight = m.codes.unpack(matrix.cols);
    for c in &mut weight {
        *c = c.wrapping_sub(middle);
    }
    let mut bytes = scales.to_bytes();
    bytes.truncate(kept * scales.dtype().bits() / 8);
    let mut data = vec![weight, bytes];
    match (&m.zero, scheme.zero) {
        (Zero::Centre, ZeroPoint::None) => {}
        (Zero::Int(zeros), ZeroPoint::Int) => {
            data.push(
                zeros[..kept]
                    .iter()
                    .map(|z| z.wrapping_sub(middle))
                    .collect(),
            );
        }
        _ => return None,
    }
    Some((data, scales))
}

fn decode_integer(
    scheme: &Scheme,
    (rows, cols): (usize, usize),
    weight: &[u8],
    scales: &Floats,
    zeros: Option<&[u8]>,
) -> Result<Values> {
    let middle = 1u8 << (scheme.bits - 1);
    let codes = |bytes: &[u8]| -> Result<Vec<u8>> {
        let codes: Vec<u8> = bytes.iter().map(|b| b.wrapping_add(middle)).collect();
        match codes.iter().find(|c| u32::from(**c) >> scheme.bits != 0) {
            None => Ok(codes),
            Some(c) => {
                let code = c.wrapping_sub(middle).cast_signed();
                let what = format!("code {code} does not fit {} bits", scheme.bits);
                Err(Error::new(Code::Qparam, what))
            }
        }
    };
    // One scale for the matrix stands for one per row.
    let repeat = |i: usize| if scheme.group == Group::Tensor { 0 } else { i };
    let group = scheme.group_cols(cols)?;
    let count = rows * (cols / group);
    let zero = match zeros {
        None => Zero::Centre,
        Some(zeros) => {
            let zeros = codes(zeros)?;
            Zero::Int((0..count).map(|i| zeros[repeat(i)]).collect())
        }
    };
    Ok(Values::Integer(Integer {
        codes: Codes::pack(&codes(weight)?, cols, scheme.bits),
        group,
        scales: Scales::Flat(scales.gather(count, repeat)),
        zero,
        group_of_col: None,
    }))
}
