//! Format `pack-quantized`: integer codes in 32-bit words.
//!
//! ```text
//! weight_packed      I32  [rows, ⌈cols·b/32⌉]   codes of a row as one bit stream (pack.rs)
//! weight_scale       any  [rows, groups]        groups = 1 for a scale per row
//! weight_shape       I64  [2]                   rows, cols
//! weight_zero_point  I32  [⌈rows·b/32⌉, groups] asymmetric only; streams run down the rows
//! weight_g_idx       I32  [cols]                group of each column, order "group" only
//! ```
//! Stored codes and zero points are the signed ones plus 2^(b−1). Since version 0.18 a stream is
//! dense; before, each word held ⌊32/b⌋ whole codes, which is the same for 2, 4 and 8 bits and
//! another thing for 3. Written is the dense one, unless the version before is asked for.

use super::format::{Format, Place};
use super::stream::{self, Stream};
use crate::container::safetensors::Planned;
use crate::error::{Code, Error, Result};
use crate::layout::parts::{
    FLOATS, Parts, bytes_from_words, named, planned, sizes_from_bytes, words_from_bytes,
};
use crate::matrix::{Codes, Floats, Inputs, Integer, QuantizedMatrix, Scales, Values, Zero};
use crate::pack::words_len;
use crate::scheme::{Element, Group, Scheme, ZeroPoint};
use crate::tensor::{Dtype, Tensor};

/// `pack-quantized` with one of its two bit streams.
#[derive(Debug)]
pub(super) struct Pack {
    stream: Stream,
}

/// Version 0.18 and later: read and written.
pub(super) static PACK: Pack = Pack {
    stream: Stream::Dense,
};

/// Before version 0.18.
pub(super) static BEFORE_0_18: Pack = Pack {
    stream: Stream::PerWord,
};

impl Format for Pack {
    fn name(&self) -> &'static str {
        "pack-quantized"
    }

    fn accepts(&self, scheme: &Scheme) -> Result<()> {
        let no = |why: &str| Err(Error::new(Code::Scheme, format!("{scheme}: {why}")));
        if scheme.element != Element::Int || scheme.zero == ZeroPoint::Float {
            return no("pack-quantized holds integers with integer zero points");
        }
        if scheme.activations.is_some_and(|a| !a.dynamic) {
            return no("pack-quantized has no scale for the inputs");
        }
        if !matches!(scheme.group, Group::Row | Group::Run(_)) {
            return no("pack-quantized has scales per row or per run of a row");
        }
        Ok(())
    }

    fn fits(&self, scheme: &Scheme, _rows: usize, cols: usize) -> Result<()> {
        scheme.group_cols(cols).map(|_| ())
    }

    fn outputs(&self, place: Place<'_>, scale_dtype: Dtype, by_index: bool) -> Vec<Planned> {
        let ((rows, cols), scheme) = (place.shape, place.scheme);
        let groups = cols / scheme.group_cols(cols).unwrap_or(cols);
        let planned = |part, dtype, shape: &[usize]| planned(place.base, part, dtype, shape);
        let bits = scheme.bits;
        let mut all = vec![
            planned(
                "weight_packed",
                Dtype::I32,
                &[rows, self.stream.words(cols, bits)],
            ),
            planned("weight_scale", scale_dtype, &[rows, groups]),
            planned("weight_shape", Dtype::I64, &[2]),
        ];
        if !scheme.is_symmetric() {
            let shape = [self.stream.words(rows, bits), groups];
            all.push(planned("weight_zero_point", Dtype::I32, &shape));
        }
        if by_index {
            all.push(planned("weight_g_idx", Dtype::I32, &[cols]));
        }
        all
    }

    fn encode(&self, place: Place<'_>, matrix: &QuantizedMatrix) -> Result<Vec<Tensor>> {
        let (rows, cols, scheme) = (matrix.rows, matrix.cols, place.scheme);
        let m = matrix.integer("compressed-tensors")?;
        let (Scales::Flat(scales), bits) = (&m.scales, m.codes.bits) else {
            return Err(Error::new(
                Code::Unsupported,
                "pack-quantized has flat scales",
            ));
        };
        if bits != scheme.bits || m.group != scheme.group_cols(cols)? {
            let what = format!("{bits} bits in groups of {} are not {scheme}", m.group);
            return Err(Error::new(Code::Qparam, what));
        }
        let mut data = vec![
            bytes_from_words(&self.stream.of_dense(&m.codes.words, cols, bits)),
            scales.to_bytes(),
            [rows, cols]
                .iter()
                .flat_map(|n| (*n as i64).to_le_bytes())
                .collect(),
        ];
        match (&m.zero, scheme.is_symmetric()) {
            (Zero::Centre, true) => {}
            (Zero::Int(zeros), false) => {
                let words = stream::words_down(zeros, cols / m.group, bits, self.stream);
                data.push(bytes_from_words(&words));
            }
            _ => {
                let what = format!("pack-quantized has integer zeros where {scheme} asks for any");
                return Err(Error::new(Code::Qparam, what));
            }
        }
        if let Some(groups) = &m.group_of_col {
            data.push(bytes_from_words(groups));
        }
        let by_index = m.group_of_col.is_some();
        Ok(named(self.outputs(place, scales.dtype(), by_index), data))
    }

    fn decode(&self, base: &str, scheme: &Scheme, tensors: &[Tensor]) -> Result<QuantizedMatrix> {
        let parts = Parts { base, tensors };
        let (rows, cols) = shape(&parts)?;
        self.fits(scheme, rows, cols)
            .map_err(|e| e.at(format!("{base:?}")))?;
        let group = scheme.group_cols(cols)?;
        let (bits, groups) = (scheme.bits, cols / group);
        let width = self.stream.words(cols, bits);
        let packed = parts.get("weight_packed", &[Dtype::I32], &[rows, width])?;
        let words = words_from_bytes(&packed.bytes);
        let scale = parts.get("weight_scale", FLOATS, &[rows, groups])?;
        let zero = if scheme.is_symmetric() {
            Zero::Centre
        } else {
            let shape = [self.stream.words(rows, bits), groups];
            let zeros = parts.get("weight_zero_point", &[Dtype::I32], &shape)?;
            let words = words_from_bytes(&zeros.bytes);
            Zero::Int(stream::codes_down(&words, rows, groups, bits, self.stream))
        };
        Ok(QuantizedMatrix {
            rows,
            cols,
            inputs: Inputs::of(scheme),
            values: Values::Integer(Integer {
                codes: Codes {
                    bits,
                    row_words: words_len(cols, bits),
                    words: self.stream.to_dense(words, cols, bits),
                },
                group,
                scales: Scales::Flat(Floats::from_bytes(scale.dtype, &scale.bytes)?),
                zero,
                group_of_col: groups_of(&parts, cols, group)?,
            }),
        })
    }
}

/// Rows and columns as `weight_shape` says.
fn shape(parts: &Parts<'_>) -> Result<(usize, usize)> {
    let tensor = parts.get("weight_shape", &[Dtype::I64], &[2])?;
    if let Some([rows, cols]) = sizes_from_bytes(&tensor.bytes).as_deref() {
        Ok((*rows, *cols))
    } else {
        let what = "weight_shape does not hold two sizes";
        Err(Error::new(Code::Qparam, what).at(format!("{:?}", parts.base)))
    }
}

/// The group of each column, if stored; every group must have its share of columns.
fn groups_of(parts: &Parts<'_>, cols: usize, group: usize) -> Result<Option<Vec<u32>>> {
    if parts.find("weight_g_idx").is_none() {
        return Ok(None);
    }
    let tensor = parts.get("weight_g_idx", &[Dtype::I32], &[cols])?;
    let index = words_from_bytes(&tensor.bytes);
    let mut counts = vec![0; cols / group];
    let wrong = |what: String| Error::new(Code::Qparam, what).at(format!("{:?}", tensor.name));
    for g in &index {
        let Some(count) = counts.get_mut(*g as usize) else {
            return Err(wrong(format!(
                "group {} of {}",
                g.cast_signed(),
                counts.len()
            )));
        };
        *count += 1;
    }
    match counts.iter().position(|c| *c != group) {
        Some(g) => {
            let count = counts[g];
            Err(wrong(format!(
                "group {g} has {count} columns, expected {group}"
            )))
        }
        None => Ok(Some(index)),
    }
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
