//! `fp8` of Hugging Face and vLLM: E4M3 weights with a scale per block or per matrix.
//!
//! ```text
//! weight            F8_E4M3  [rows, cols]
//! weight_scale_inv  F32      [⌈rows/h⌉, ⌈cols/w⌉]  blocks; despite its name w = q · weight_scale_inv
//! weight_scale      F32      []                    one scale: w = q · weight_scale
//! input_scale       F32      []                    one scale with static inputs
//! ```
//! Inputs are rounded to E4M3: with blocks per run of a block's width, otherwise per token or with
//! `input_scale`. Source: transformers `finegrained_fp8`, vLLM `layers/quantization/fp8.py`.

use super::parts::{FLOATS, Parts, mismatch, named, planned};
use super::target::Target;
use super::{Layout, Resolver, Rule};
use crate::container::safetensors::Planned;
use crate::error::{Code, Error, Result};
use crate::matrix::{Floats, Inputs, Minifloat, QuantizedMatrix, Values};
use crate::scheme::{Activations, Element, Group, Scheme};
use crate::tensor::{Dtype, Tensor};
use serde_json::{Value, json};

/// The layout.
#[derive(Debug)]
pub struct Fp8;

/// Ending and shape of the scales.
fn scale_part(scheme: &Scheme, rows: usize, cols: usize) -> (&'static str, Vec<usize>) {
    match scheme.group {
        Group::Block { rows: h, cols: w } => {
            ("weight_scale_inv", vec![rows.div_ceil(h), cols.div_ceil(w)])
        }
        _ => ("weight_scale", Vec::new()),
    }
}

fn is_static(scheme: &Scheme) -> bool {
    scheme.activations.is_some_and(|a| !a.dynamic)
}

fn singles(floats: &Floats) -> Vec<u8> {
    let values = (0..floats.len()).flat_map(|i| floats.get(i).to_le_bytes());
    values.collect()
}

impl Layout for Fp8 {
    fn name(&self) -> &'static str {
        "fp8"
    }

    fn about(&self) -> &'static str {
        "FP8 weights and inputs as DeepSeek stores them, read by transformers, vLLM and SGLang"
    }

    fn accepts(&self, scheme: &Scheme) -> Result<()> {
        let no = |why: &str| Err(Error::new(Code::Scheme, format!("{scheme}: {why}")));
        if scheme.element != Element::Fp8 || scheme.activations.is_none() {
            return no("fp8 holds FP8 weights for FP8 inputs");
        }
        match scheme.group {
            Group::Tensor => Ok(()),
            Group::Block { .. } if !is_static(scheme) => Ok(()),
            Group::Block { .. } => no("fp8 rounds inputs beside blocks when they come"),
            _ => no("fp8 has scales per block or one for the matrix"),
        }
    }

    fn divides(&self, _scheme: &Scheme, _rows: usize, _cols: usize) -> Result<()> {
        Ok(())
    }

    fn is_quantized(&self, parts: &[String]) -> bool {
        parts.iter().any(|p| p.contains(".weight_scale"))
    }

    fn parts(&self) -> &'static [&'static str] {
        &["weight", "weight_scale", "weight_scale_inv", "input_scale"]
    }

    fn outputs(
        &self,
        base: &str,
        scheme: &Scheme,
        (rows, cols): (usize, usize),
        _scale_dtype: Dtype,
        _by_index: bool,
    ) -> Vec<Planned> {
        let (scale, shape) = scale_part(scheme, rows, cols);
        let mut all = vec![
            planned(base, "weight", Dtype::F8E4M3, &[rows, cols]),
            planned(base, scale, Dtype::F32, &shape),
        ];
        if is_static(scheme) {
            all.push(planned(base, "input_scale", Dtype::F32, &[]));
        }
        all
    }

    fn encode(
        &self,
        base: &str,
        matrix: &QuantizedMatrix,
        scheme: &Scheme,
        dtype: Dtype,
    ) -> Result<Vec<Tensor>> {
        let shape = (matrix.rows, matrix.cols);
        self.fits(scheme, shape.0, shape.1)?;
        matrix.validate()?;
        let block = match scheme.group {
            Group::Block { rows, cols } => (rows, cols),
            _ => shape,
        };
        let Values::Minifloat(m) = &matrix.values else {
            return Err(mismatch(scheme));
        };
        if m.block != block {
            return Err(mismatch(scheme));
        }
        let mut data = vec![m.bytes.clone(), singles(&m.scales)];
        if is_static(scheme) {
            let Some(scale) = matrix.inputs.and_then(|i| i.scale) else {
                let what = format!("{scheme} needs the scale of its inputs from calibration");
                return Err(Error::new(Code::Qparam, what));
            };
            data.push(scale.to_le_bytes().to_vec());
        }
        Ok(named(self.outputs(base, scheme, shape, dtype, false), data))
    }

    fn decode(&self, base: &str, scheme: &Scheme, tensors: &[Tensor]) -> Result<QuantizedMatrix> {
        let parts = Parts { base, tensors };
        let (rows, cols, weight) = parts.matrix("weight", Dtype::F8E4M3)?;
        let (scale, shape) = scale_part(scheme, rows, cols);
        let (scales, block) = match scheme.group {
            Group::Block { rows, cols } => {
                let tensor = parts.get(scale, FLOATS, &shape)?;
                (
                    Floats::from_bytes(tensor.dtype, &tensor.bytes)?,
                    (rows, cols),
                )
            }
            _ => (parts.single(scale, FLOATS)?, (rows, cols)),
        };
        let mut inputs = Inputs::of(scheme);
        if let (Some(inputs), true) = (&mut inputs, is_static(scheme)) {
            inputs.scale = Some(parts.single("input_scale", FLOATS)?.get(0));
        }
        let matrix = QuantizedMatrix {
            rows,
            cols,
            values: Values::Minifloat(Minifloat {
                dtype: Dtype::F8E4M3,
                bytes: weight.bytes.clone(),
                block,
                scales,
            }),
            inputs,
        };
        let sound = matrix.validate();
        sound.map_err(|e| e.at(format!("{base:?}")))?;
        Ok(matrix)
    }

    fn config(
        &self,
        assignment: &[(String, Scheme)],
        ignored: &[String],
        _by_index: bool,
    ) -> Value {
        let scheme = super::commonest(assignment);
        let mut config = json!({
            "quant_method": "fp8",
            "activation_scheme": if scheme.as_ref().is_some_and(is_static) { "static" } else { "dynamic" },
            "modules_to_not_convert": ignored,
        });
        if let Some(Group::Block { rows, cols }) = scheme.map(|s| s.group) {
            config["weight_block_size"] = json!([rows, cols]);
        }
        config
    }

    fn detect(&self, config: &Value) -> Option<Result<Resolver>> {
        (config["quant_method"] == "fp8").then(|| read(config))
    }
}

fn read(config: &Value) -> Result<Resolver> {
    let wrong = |what: &str| Err(Error::new(Code::Config, what).at("quantization_config"));
    let size = |value: &Value| {
        let size = value.as_u64().and_then(|n| usize::try_from(n).ok());
        size.filter(|n| (1..1 << 16).contains(n))
    };
    let group = match &config["weight_block_size"] {
        Value::Null => Group::Tensor,
        block => match (size(&block[0]), size(&block[1])) {
            (Some(rows), Some(cols)) => Group::Block { rows, cols },
            _ => return wrong("weight_block_size is not two sizes"),
        },
    };
    let dynamic = match config["activation_scheme"].as_str() {
        None | Some("dynamic") => true,
        Some("static") => false,
        Some(_) => return wrong("activation_scheme is not dynamic or static"),
    };
    let rule = Rule {
        target: Target::Linear,
        scheme: Scheme {
            element: Element::Fp8,
            activations: Some(Activations { bits: 8, dynamic }),
            ..Scheme::weights(8, group, true)
        },
        layout: &Fp8,
    };
    Ok(Resolver::new(&Fp8, vec![rule], Vec::new()))
}
