//! compressed-tensors: what llm-compressor writes; each module in one of a few formats.
//!
//! | format                                            | file       |
//! | ------------------------------------------------- | ---------- |
//! | `pack-quantized`                                  | `pack.rs`  |
//! | `int-quantized`, `float-quantized`, `naive-…`     | `whole.rs` |
//! | `nvfp4-pack-quantized`, `mxfp4-pack-quantized`    | `fp4.rs`   |
//!
//! Modules with different formats make a checkpoint of format `mixed-precision`, whose groups name
//! theirs. Source: compressed-tensors 0.19, `compressors/` and `config/`.

mod args;
mod format;
mod fp4;
mod pack;
mod read;
mod stream;
mod whole;
mod write;

use super::{Layout, Resolver};
use crate::container::safetensors::Planned;
use crate::error::{Code, Error, Result};
use crate::matrix::{QuantizedMatrix, Scales, Values};
use crate::scheme::Scheme;
use crate::tensor::{Dtype, Tensor};
use format::{Format, Place, home};
use serde_json::Value;

/// The `quant_method`.
const METHOD: &str = "compressed-tensors";

/// compressed-tensors, in one format or in whatever suits the scheme.
#[derive(Debug)]
pub struct CompressedTensors {
    format: Option<&'static dyn Format>,
    /// Codes lie in words as before version 0.18.
    old: bool,
}

/// As the current version reads and writes it.
pub static CURRENT: CompressedTensors = CompressedTensors {
    format: None,
    old: false,
};

/// As versions before 0.18 read and write it.
pub static OLD: CompressedTensors = CompressedTensors {
    format: None,
    old: true,
};

impl CompressedTensors {
    fn format(&self, scheme: &Scheme) -> &'static dyn Format {
        let chosen = self.format.unwrap_or_else(|| home(scheme));
        if self.old && chosen.name() == pack::PACK.name() {
            return &pack::BEFORE_0_18;
        }
        chosen
    }
}

impl Layout for CompressedTensors {
    fn name(&self) -> &'static str {
        if self.old {
            "compressed-tensors@0.17"
        } else {
            METHOD
        }
    }

    fn about(&self) -> &'static str {
        "integers, FP8 and FP4 in safetensors, read by vLLM, SGLang and transformers"
    }

    fn holds_cache(&self) -> bool {
        true
    }

    fn accepts(&self, scheme: &Scheme) -> Result<()> {
        self.format(scheme).accepts(scheme)
    }

    fn divides(&self, scheme: &Scheme, rows: usize, cols: usize) -> Result<()> {
        self.format(scheme).fits(scheme, rows, cols)
    }

    fn parts(&self) -> &'static [&'static str] {
        &[
            "weight",
            "weight_packed",
            "weight_scale",
            "weight_shape",
            "weight_zero_point",
            "weight_g_idx",
            "weight_global_scale",
            "input_scale",
            "input_global_scale",
        ]
    }

    fn order_caveat(&self) -> Option<&'static str> {
        Some(
            "columns have groups in an order of their own (act-order group), which compressed-tensors \
             0.19 and tools that use it refuse: use act-order gar or static, or format gptq",
        )
    }

    fn codes(&self) -> &'static [&'static str] {
        &self.parts()[..2]
    }

    fn outputs(
        &self,
        base: &str,
        scheme: &Scheme,
        shape: (usize, usize),
        scale_dtype: Dtype,
        by_index: bool,
    ) -> Vec<Planned> {
        let place = Place {
            base,
            scheme,
            shape,
        };
        self.format(scheme).outputs(place, scale_dtype, by_index)
    }

    fn encode(
        &self,
        base: &str,
        matrix: &QuantizedMatrix,
        scheme: &Scheme,
        _dtype: Dtype,
    ) -> Result<Vec<Tensor>> {
        let shape = (matrix.rows, matrix.cols);
        self.fits(scheme, shape.0, shape.1)?;
        matrix.validate()?;
        let place = Place {
            base,
            scheme,
            shape,
        };
        self.format(scheme).encode(place, matrix)
    }

    fn decode(&self, base: &str, scheme: &Scheme, tensors: &[Tensor]) -> Result<QuantizedMatrix> {
        let matrix = self.format(scheme).decode(base, scheme, tensors)?;
        check(&matrix).map_err(|e| e.at(format!("{base:?}")))?;
        Ok(matrix)
    }

    fn config(&self, assignment: &[(String, Scheme)], ignored: &[String], by_index: bool) -> Value {
        write::config(assignment, ignored, by_index, self.old)
    }

    fn detect(&self, quantization_config: &Value) -> Option<Result<Resolver>> {
        let method = quantization_config.get("quant_method")?.as_str()?;
        (method == METHOD).then(|| read::config(quantization_config))
    }
}

/// What a matrix of a stranger must satisfy before a kernel reads it.
fn check(matrix: &QuantizedMatrix) -> Result<()> {
    if matrix.rows == 0 || matrix.cols == 0 {
        return Err(Error::new(Code::Qparam, "the matrix is empty"));
    }
    matrix.validate()?;
    let Values::Integer(m) = &matrix.values else {
        return Ok(());
    };
    let Scales::Flat(scales) = &m.scales else {
        return Ok(());
    };
    match (0..scales.len()).find(|i| scales.get(*i) == 0.0) {
        Some(i) => Err(Error::new(Code::Qparam, format!("scale {i} is 0"))),
        None => Ok(()),
    }
}
