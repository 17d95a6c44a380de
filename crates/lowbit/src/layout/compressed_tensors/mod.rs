//! compressed-tensors, format `pack-quantized`: integer weights, floats for inputs.
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
//! another thing for 3. Written is always the dense one.

mod config;
mod parts;
mod stream;
#[cfg(test)]
mod tests;

use super::{Layout, Resolver};
use crate::container::safetensors::Planned;
use crate::error::{Code, Error, Result};
use crate::matrix::{Codes, Floats, Integer, QuantizedMatrix, Scales, Values, Zero};
use crate::pack::words_len;
use crate::scheme::{Element, Group, Scheme, ZeroPoint};
use crate::tensor::{Dtype, Tensor};
use parts::Parts;
use serde_json::Value;
use stream::Stream;

/// `pack-quantized` with one of its two bit streams.
#[derive(Debug)]
pub struct CompressedTensors {
    stream: Stream,
}

/// Version 0.18 and later: read and written.
pub static CURRENT: CompressedTensors = CompressedTensors {
    stream: Stream::Dense,
};

/// Before version 0.18: only read.
pub static BEFORE_0_18: CompressedTensors = CompressedTensors {
    stream: Stream::PerWord,
};

impl Layout for CompressedTensors {
    fn name(&self) -> &'static str {
        "compressed-tensors"
    }

    fn about(&self) -> &'static str {
        "pack-quantized safetensors, read by vLLM, SGLang and transformers"
    }

    fn fits(&self, scheme: &Scheme, rows: usize, cols: usize) -> Result<()> {
        let no = |why: &str| Err(Error::new(Code::Scheme, format!("{scheme}: {why}")));
        if scheme.element != Element::Int || scheme.zero == ZeroPoint::Float {
            return no("pack-quantized holds integers with integer zero points");
        }
        if scheme.activations.is_some() {
            return no("pack-quantized holds weights for unquantized inputs");
        }
        if !matches!(scheme.group, Group::Row | Group::Run(_)) {
            return no("pack-quantized has scales per row or per run of a row");
        }
        if rows == 0 || cols == 0 {
            return no("the matrix is empty");
        }
        scheme.group_cols(cols).map(|_| ())
    }

    fn parts(&self) -> &'static [&'static str] {
        &[
            "weight_packed",
            "weight_scale",
            "weight_shape",
            "weight_zero_point",
            "weight_g_idx",
        ]
    }

    fn outputs(
        &self,
        base: &str,
        scheme: &Scheme,
        (rows, cols): (usize, usize),
        scale_dtype: Dtype,
        by_index: bool,
    ) -> Vec<Planned> {
        let groups = cols / scheme.group_cols(cols).unwrap_or(cols);
        let planned = |part: &str, dtype: Dtype, shape: &[usize]| Planned {
            name: format!("{base}.{part}"),
            dtype,
            shape: shape.to_vec(),
        };
        let bits = scheme.bits;
        let mut all = vec![
            planned("weight_packed", Dtype::I32, &[rows, words_len(cols, bits)]),
            planned("weight_scale", scale_dtype, &[rows, groups]),
            planned("weight_shape", Dtype::I64, &[2]),
        ];
        if !scheme.is_symmetric() {
            let shape = [words_len(rows, bits), groups];
            all.push(planned("weight_zero_point", Dtype::I32, &shape));
        }
        if by_index {
            all.push(planned("weight_g_idx", Dtype::I32, &[cols]));
        }
        all
    }

    fn encode(&self, base: &str, matrix: &QuantizedMatrix, scheme: &Scheme) -> Result<Vec<Tensor>> {
        if self.stream != Stream::Dense {
            let what = "the bit stream from before version 0.18 is only read";
            return Err(Error::new(Code::Unsupported, what));
        }
        let (rows, cols) = (matrix.rows, matrix.cols);
        self.fits(scheme, rows, cols)?;
        matrix.validate()?;
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
            stream::bytes_from_words(&m.codes.words),
            scales.to_bytes(),
            [rows, cols]
                .iter()
                .flat_map(|n| (*n as i64).to_le_bytes())
                .collect(),
        ];
        match (&m.zero, scheme.is_symmetric()) {
            (Zero::Centre, true) => {}
            (Zero::Int(zeros), false) => {
                let words = stream::words_down(zeros, cols / m.group, bits);
                data.push(stream::bytes_from_words(&words));
            }
            _ => {
                let what = format!("pack-quantized has integer zeros where {scheme} asks for any");
                return Err(Error::new(Code::Qparam, what));
            }
        }
        if let Some(groups) = &m.group_of_col {
            data.push(stream::bytes_from_words(groups));
        }
        let by_index = m.group_of_col.is_some();
        let planned = self.outputs(base, scheme, (rows, cols), scales.dtype(), by_index);
        let named = planned.into_iter().zip(data);
        Ok(named
            .map(|(Planned { name, dtype, shape }, bytes)| Tensor {
                name,
                dtype,
                shape,
                bytes,
            })
            .collect())
    }

    fn decode(&self, base: &str, scheme: &Scheme, tensors: &[Tensor]) -> Result<QuantizedMatrix> {
        let parts = Parts { base, tensors };
        let (rows, cols) = parts.shape()?;
        self.fits(scheme, rows, cols)
            .map_err(|e| e.at(format!("{base:?}")))?;
        let group = scheme.group_cols(cols)?;
        let (bits, groups) = (scheme.bits, cols / group);
        let width = self.stream.words(cols, bits);
        let packed = parts.get("weight_packed", &[Dtype::I32], &[rows, width])?;
        let words = stream::words_from_bytes(&packed.bytes);
        let floats = [Dtype::F32, Dtype::F16, Dtype::BF16];
        let scale = parts.get("weight_scale", &floats, &[rows, groups])?;
        let zero = if scheme.is_symmetric() {
            Zero::Centre
        } else {
            let shape = [self.stream.words(rows, bits), groups];
            let zeros = parts.get("weight_zero_point", &[Dtype::I32], &shape)?;
            let words = stream::words_from_bytes(&zeros.bytes);
            Zero::Int(stream::codes_down(&words, rows, groups, bits, self.stream))
        };
        let matrix = QuantizedMatrix {
            rows,
            cols,
            inputs: None,
            values: Values::Integer(Integer {
                codes: Codes {
                    bits,
                    row_words: words_len(cols, bits),
                    words: self.stream.to_dense(words, cols, bits),
                },
                group,
                scales: Scales::Flat(Floats::from_bytes(scale.dtype, &scale.bytes)?),
                zero,
                group_of_col: parts.groups(cols, group)?,
            }),
        };
        check(&matrix).map_err(|e| e.at(format!("{base:?}")))?;
        Ok(matrix)
    }

    fn config(&self, assignment: &[(String, Scheme)], ignored: &[String], by_index: bool) -> Value {
        config::write(assignment, ignored, by_index)
    }

    fn detect(&self, quantization_config: &Value) -> Option<Result<Resolver>> {
        let method = quantization_config.get("quant_method")?.as_str()?;
        (method == self.name()).then(|| config::read(quantization_config))
    }
}

/// What a matrix of a stranger must satisfy before a kernel reads it.
fn check(matrix: &QuantizedMatrix) -> Result<()> {
    matrix.validate()?;
    let Scales::Flat(scales) = &matrix.integer("compressed-tensors")?.scales else {
        return Ok(());
    };
    match (0..scales.len()).find(|i| scales.get(*i) == 0.0) {
        Some(i) => Err(Error::new(Code::Qparam, format!("scale {i} is 0"))),
        None => Ok(()),
    }
}
