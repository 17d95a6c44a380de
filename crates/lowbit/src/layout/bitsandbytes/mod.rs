//! bitsandbytes: NF4 and FP4 in blocks of a row, and LLM.int8's row-wise integers.
//!
//! ```text
//! 4 bits  weight                                 U8   [rows·cols/2, 1]  byte = code 2k · 16 + code 2k+1
//!         weight.absmax                          F32  [blocks]          the scale
//!                                                U8   [blocks]          nested: its code
//!         weight.quant_map                       F32  [16]              what codes stand for
//!         weight.quant_state.bitsandbytes__nf4   U8   [n]               JSON: type, block, dtype, shape
//!         weight.nested_absmax                   F32  [⌈blocks/256⌉]    nested only
//!         weight.nested_quant_map                F32  [256]             nested only
//! 8 bits  weight                                 I8   [rows, cols]      round(127 · w / row maximum)
//!         SCB                                    F32  [rows]            row maximum
//!         weight_format                          U8   []                0: rows as they are
//! ```
//! The JSON is padded with spaces, so that its length is known before its numbers are. Blocks must
//! end with rows here. LLM.int8 rounds its inputs when it runs on a GPU; here they are left alone.
//! Source: bitsandbytes 0.50, `functional.py`, `nn/modules.py`.

mod rows;
mod state;
mod table;

use super::parts::{Parts, named, planned};
use super::target::Target;
use super::{Layout, Resolver, Rule};
use crate::container::safetensors::Planned;
use crate::error::{Code, Error, Result};
use crate::matrix::{QuantizedMatrix, Values};
use crate::scheme::{Element, Group, Scheme, ZeroPoint};
use crate::tensor::{Dtype, Tensor};
use serde_json::{Value, json};
use state::State;

/// The layout.
#[derive(Debug)]
pub struct BitsAndBytes;

/// Codes that share an absolute maximum of the second level.
const NESTED: usize = 256;

impl Layout for BitsAndBytes {
    fn name(&self) -> &'static str {
        "bitsandbytes"
    }

    fn about(&self) -> &'static str {
        "NF4, FP4 and LLM.int8, read by transformers and vLLM"
    }

    fn accepts(&self, scheme: &Scheme) -> Result<()> {
        let no = |why: &str| Err(Error::new(Code::Scheme, format!("{scheme}: {why}")));
        if scheme.activations.is_some() {
            return no("bitsandbytes stores no rounding of inputs");
        }
        match (scheme.element, scheme.group) {
            (Element::Nf4 | Element::Fp4, Group::Flat(n)) => {
                if n.is_power_of_two() && (32..=4096).contains(&n) {
                    return Ok(());
                }
                no("bitsandbytes has blocks of 32, 64, … 4096")
            }
            (Element::Int, Group::Row) if scheme.bits == 8 && scheme.zero == ZeroPoint::None => {
                Ok(())
            }
            _ => no("bitsandbytes holds nf4, fp4 and w8"),
        }
    }

    fn divides(&self, scheme: &Scheme, _rows: usize, cols: usize) -> Result<()> {
        scheme.group_cols(cols).map(|_| ())
    }

    fn is_quantized(&self, parts: &[String]) -> bool {
        let codes = |p: &String| [".absmax", ".SCB"].iter().any(|end| p.ends_with(end));
        parts.iter().any(codes)
    }

    fn parts(&self) -> &'static [&'static str] {
        &[
            "weight",
            "weight.absmax",
            "weight.quant_map",
            "weight.quant_state.bitsandbytes__nf4",
            "weight.quant_state.bitsandbytes__fp4",
            "weight.nested_absmax",
            "weight.nested_quant_map",
            "SCB",
            "weight_format",
        ]
    }

    fn outputs(
        &self,
        base: &str,
        scheme: &Scheme,
        (rows, cols): (usize, usize),
        dtype: Dtype,
        _by_index: bool,
    ) -> Vec<Planned> {
        let planned = |part: &str, dtype, shape: &[usize]| planned(base, part, dtype, shape);
        if scheme.element == Element::Int {
            return vec![
                planned("weight", Dtype::I8, &[rows, cols]),
                planned("SCB", Dtype::F32, &[rows]),
                planned("weight_format", Dtype::U8, &[]),
            ];
        }
        let block = scheme.group_cols(cols).unwrap_or(cols);
        let blocks = rows * (cols / block);
        let absmax = if scheme.nested { Dtype::U8 } else { Dtype::F32 };
        let state = State::new(scheme, (rows, cols), dtype, 0.0);
        let mut all = vec![
            planned("weight", Dtype::U8, &[rows * cols / 2, 1]),
            planned("weight.absmax", absmax, &[blocks]),
            planned("weight.quant_map", Dtype::F32, &[16]),
            planned(&state.part(), Dtype::U8, &[state.to_bytes().len()]),
        ];
        if scheme.nested {
            let second = blocks.div_ceil(NESTED);
            all.push(planned("weight.nested_absmax", Dtype::F32, &[second]));
            all.push(planned("weight.nested_quant_map", Dtype::F32, &[256]));
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
        let data = match &matrix.values {
            Values::Table(m) => table::encode(m, scheme, shape, dtype),
            Values::Integer(m) => rows::encode(m, shape.1),
            Values::Minifloat(_) | Values::Codebooks(_) => None,
        };
        let Some(data) = data else {
            let what = format!("the matrix is not {scheme} as bitsandbytes has it");
            return Err(Error::new(Code::Qparam, what));
        };
        let outputs = self.outputs(base, scheme, shape, dtype, false);
        Ok(named(outputs, data))
    }

    fn decode(&self, base: &str, scheme: &Scheme, tensors: &[Tensor]) -> Result<QuantizedMatrix> {
        let parts = Parts { base, tensors };
        let matrix = if parts.find("SCB").is_some() {
            rows::decode(&parts)?
        } else {
            table::decode(&parts, scheme)?
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
        let scheme = assignment.first().map(|(_, scheme)| *scheme);
        let eight = scheme.is_some_and(|s| s.element == Element::Int);
        let fp4 = scheme.is_some_and(|s| s.element == Element::Fp4);
        json!({
            "quant_method": "bitsandbytes",
            "load_in_4bit": !eight,
            "load_in_8bit": eight,
            "bnb_4bit_compute_dtype": "bfloat16",
            "bnb_4bit_quant_storage": "uint8",
            "bnb_4bit_quant_type": if fp4 { "fp4" } else { "nf4" },
            "bnb_4bit_use_double_quant": scheme.is_some_and(|s| s.nested),
            "llm_int8_enable_fp32_cpu_offload": false,
            "llm_int8_has_fp16_weight": false,
            "llm_int8_skip_modules": ignored,
            "llm_int8_threshold": 6.0,
        })
    }

    fn detect(&self, config: &Value) -> Option<Result<Resolver>> {
        let named = config["quant_method"].as_str() == Some(self.name());
        // Checkpoints from before methods had names say only this.
        let old = config["quant_method"].is_null()
            && (config["load_in_4bit"] == true || config["load_in_8bit"] == true);
        (named || old).then(|| read(config))
    }
}

/// The scheme of every module that has codes; which has is seen from its tensors.
fn read(config: &Value) -> Result<Resolver> {
    let scheme = if config["load_in_8bit"] == true {
        Scheme::weights(8, Group::Row, true)
    } else {
        let element = match config["bnb_4bit_quant_type"].as_str() {
            Some("nf4") => Element::Nf4,
            Some("fp4") | None => Element::Fp4,
            Some(other) => {
                let what = format!("bnb_4bit_quant_type {other:?}");
                let error = Error::new(Code::Unsupported, what).at("quantization_config");
                return Err(error.remedy("expected nf4 or fp4"));
            }
        };
        Scheme {
            element,
            nested: config["bnb_4bit_use_double_quant"] == true,
            ..Scheme::weights(4, Group::Flat(64), true)
        }
    };
    let rule = Rule {
        target: Target::Linear,
        scheme,
        layout: &BitsAndBytes,
    };
    Ok(Resolver::new(&BitsAndBytes, vec![rule], Vec::new()))
}
