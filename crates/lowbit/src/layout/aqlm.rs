//! AQLM: blocks of weights as sums of vectors out of codebooks. Only read.
//!
//! ```text
//! codes      I8 or I16  [rows/h, cols/w, books]   number of a vector, wrapped to signed
//! codebooks  any        [books, 2^b, h, w]        b bits: I8 up to 8, I16 above
//! scales     any        [rows/h, 1, 1, 1]         w = scale · Σ over books of codebooks[book, code]
//! ```
//! Source: AQLM (arXiv 2401.06118), `aqlm/inference.py` and `aqlm/utils.py`.

use super::parts::{FLOATS, Parts};
use super::target::Target;
use super::{Layout, Resolver, Rule};
use crate::container::safetensors::Planned;
use crate::error::{Code, Error, Result};
use crate::matrix::{Codebooks, Floats, QuantizedMatrix, Values};
use crate::scheme::{Element, Group, Scheme};
use crate::tensor::{Dtype, Tensor};
use serde_json::{Value, json};

/// The layout.
#[derive(Debug)]
pub struct Aqlm;

fn only_read() -> Error {
    Error::new(
        Code::Scheme,
        "aqlm is only read: no method here makes codebooks",
    )
}

/// Extents that are not 0 and whose product is far from overflow.
fn sane(shape: &[usize]) -> bool {
    shape.iter().all(|n| (1..1 << 28).contains(n))
        && (shape.iter())
            .try_fold(1u64, |a, n| a.checked_mul(*n as u64))
            .is_some_and(|n| n < 1 << 40)
}

/// Codes without their sign: as many bits as a codebook has.
fn codes(tensor: &Tensor, size: usize) -> Vec<u16> {
    let mask = (size - 1) as u16;
    if tensor.dtype == Dtype::I8 {
        return tensor.bytes.iter().map(|b| u16::from(*b) & mask).collect();
    }
    let words = tensor.bytes.as_chunks::<2>().0.iter();
    words.map(|b| u16::from_le_bytes(*b) & mask).collect()
}

impl Layout for Aqlm {
    fn name(&self) -> &'static str {
        "aqlm"
    }

    fn about(&self) -> &'static str {
        "sums of vectors out of codebooks, about 2 bits; read by transformers, here only read"
    }

    fn is_written(&self) -> bool {
        false
    }

    fn reads(&self, scheme: &Scheme) -> bool {
        scheme.element == Element::Aqlm
    }

    fn accepts(&self, _scheme: &Scheme) -> Result<()> {
        Err(only_read())
    }

    fn divides(&self, _scheme: &Scheme, _rows: usize, _cols: usize) -> Result<()> {
        Err(only_read())
    }

    fn is_quantized(&self, parts: &[String]) -> bool {
        let codes = |p: &String| p.rsplit('.').next() == Some("codes");
        parts.iter().any(codes)
    }

    fn parts(&self) -> &'static [&'static str] {
        &["codes", "codebooks", "scales"]
    }

    fn outputs(
        &self,
        _base: &str,
        _scheme: &Scheme,
        _shape: (usize, usize),
        _scale_dtype: Dtype,
        _by_index: bool,
    ) -> Vec<Planned> {
        Vec::new()
    }

    fn encode(
        &self,
        _base: &str,
        _matrix: &QuantizedMatrix,
        _scheme: &Scheme,
        _dtype: Dtype,
    ) -> Result<Vec<Tensor>> {
        Err(only_read())
    }

    fn decode(&self, base: &str, _scheme: &Scheme, tensors: &[Tensor]) -> Result<QuantizedMatrix> {
        let parts = Parts { base, tensors };
        let bad = |what: String| Error::new(Code::Qparam, what).at(format!("{base:?}"));
        let shape = |part: &str| parts.find(part).map_or(&[][..], |t| &t.shape[..]);
        let books = parts.get("codebooks", FLOATS, shape("codebooks"))?;
        let index = parts.get("codes", &[Dtype::I8, Dtype::I16], shape("codes"))?;
        let (&[count, size, height, width], &[down, across, each]) =
            (&books.shape[..], &index.shape[..])
        else {
            let what = format!("codebooks {:?}, codes {:?}", books.shape, index.shape);
            return Err(bad(what));
        };
        let fits =
            size.is_power_of_two() && size <= 1 << if index.dtype == Dtype::I8 { 8 } else { 16 };
        if each != count || !fits || !sane(&books.shape) || !sane(&[down, height, across, width]) {
            let what = format!("codebooks {:?}, codes {:?}", books.shape, index.shape);
            return Err(bad(what));
        }
        let scale = parts.get("scales", FLOATS, &[down, 1, 1, 1])?;
        let matrix = QuantizedMatrix {
            rows: down * height,
            cols: across * width,
            values: Values::Codebooks(Codebooks {
                codes: codes(index, size),
                size,
                vectors: Floats::from_bytes(books.dtype, &books.bytes)?,
                block: (height, width),
                scales: Floats::from_bytes(scale.dtype, &scale.bytes)?,
            }),
            inputs: None,
        };
        matrix.validate().map_err(|e| e.at(format!("{base:?}")))?;
        Ok(matrix)
    }

    fn config(&self, _: &[(String, Scheme)], ignored: &[String], _by_index: bool) -> Value {
        let names: Vec<_> = ignored.iter().map(|m| format!("{m}.weight")).collect();
        json!({ "quant_method": "aqlm", "linear_weights_not_to_quantize": names })
    }

    fn detect(&self, config: &Value) -> Option<Result<Resolver>> {
        (config["quant_method"] == "aqlm").then(|| read(config))
    }
}

/// How many books there are, and of what size, is seen from the tensors.
fn read(config: &Value) -> Result<Resolver> {
    let width = config.get("in_group_size").map_or(Some(8), Value::as_u64);
    let Some(width) = width.filter(|w| (1..1 << 16).contains(w)) else {
        let what = format!("in_group_size {}", config["in_group_size"]);
        return Err(Error::new(Code::Config, what).at("quantization_config"));
    };
    let names = config["linear_weights_not_to_quantize"].as_array();
    let names = names.into_iter().flatten().filter_map(Value::as_str);
    // Names of parameters rather than of modules.
    let ignored = names.map(|n| Target::Name(n.trim_end_matches(".weight").into()));
    let rule = Rule {
        target: Target::Linear,
        scheme: Scheme {
            element: Element::Aqlm,
            ..Scheme::weights(16, Group::Run(width as usize), true)
        },
        layout: &Aqlm,
    };
    Ok(Resolver::new(&Aqlm, vec![rule], ignored.collect()))
}

#[cfg(test)]
#[path = "aqlm_tests.rs"]
mod tests;
