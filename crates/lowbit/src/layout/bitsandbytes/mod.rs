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

mod state;

use super::parts::{Parts, named, planned};
use super::target::Target;
use super::{Layout, Resolver, Rule};
use crate::container::safetensors::Planned;
use crate::error::{Code, Error, Result};
use crate::matrix::{Codes, Floats, Integer, Nested, QuantizedMatrix, Scales, Table, Values, Zero};
use crate::minifloat::{FP4, NF4};
use crate::pack::{words_from_codes, words_len};
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
        let codes = |p: &String| p.ends_with(".absmax") || p.ends_with(".SCB");
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
        _scale_dtype: Dtype,
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
        let state = State::new(scheme, (rows, cols), Dtype::BF16, 0.0);
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

    fn encode(&self, base: &str, matrix: &QuantizedMatrix, scheme: &Scheme) -> Result<Vec<Tensor>> {
        let shape = (matrix.rows, matrix.cols);
        self.fits(scheme, shape.0, shape.1)?;
        matrix.validate()?;
        let data = match &matrix.values {
            Values::Table(m) => encode_table(m, shape, scheme),
            Values::Integer(m) => encode_integer(m, shape),
            Values::Minifloat(_) => None,
        };
        let Some(data) = data else {
            let what = format!("the matrix is not {scheme} as bitsandbytes has it");
            return Err(Error::new(Code::Qparam, what));
        };
        let outputs = self.outputs(base, scheme, shape, Dtype::F32, false);
        Ok(named(outputs, data))
    }

    fn decode(&self, base: &str, scheme: &Scheme, tensors: &[Tensor]) -> Result<QuantizedMatrix> {
        let parts = Parts { base, tensors };
        let matrix = if parts.find("SCB").is_some() {
            decode_integer(&parts)?
        } else {
            decode_table(&parts, scheme)?
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

fn values_of(element: Element) -> &'static [f32; 16] {
    match element {
        Element::Fp4 => &FP4,
        _ => &NF4,
    }
}

fn encode_table(m: &Table, (rows, cols): (usize, usize), scheme: &Scheme) -> Option<Vec<Vec<u8>>> {
    let values = values_of(scheme.element);
    if m.values != values || m.group != scheme.group_cols(cols).ok()? {
        return None;
    }
    let mut codes = vec![0; cols];
    let mut weight = Vec::with_capacity(rows * cols / 2);
    for r in 0..rows {
        m.codes.row(r, &mut codes);
        weight.extend(codes.as_chunks::<2>().0.iter().map(|[a, b]| a << 4 | b));
    }
    let floats = |v: &[f32]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let state = |offset| State::new(scheme, (rows, cols), Dtype::BF16, offset).to_bytes();
    match &m.scales {
        Scales::Flat(Floats::F32(absmax)) if !scheme.nested => {
            Some(vec![weight, floats(absmax), floats(values), state(0.0)])
        }
        Scales::Nested(n) if scheme.nested && n.per == NESTED => Some(vec![
            weight,
            n.codes.clone(),
            floats(values),
            state(n.offset),
            floats(&n.absmax),
            floats(&n.map),
        ]),
        _ => None,
    }
}

fn decode_table(parts: &Parts<'_>, scheme: &Scheme) -> Result<QuantizedMatrix> {
    let place = |e: Error| e.at(format!("{:?}", parts.base));
    let wrong = |what: String| place(Error::new(Code::Qparam, what));
    let state = State::read(parts, scheme.element).map_err(place)?;
    let (rows, cols, block) = (state.shape.0, state.shape.1, state.block);
    if block == 0 || !cols.is_multiple_of(block) {
        let what = format!("blocks of {block} do not end with rows of {cols}");
        return Err(place(Error::new(Code::Unsupported, what)));
    }
    let blocks = rows * (cols / block);
    let shape = parts.find("weight").map_or(&[][..], |t| &t.shape);
    let packed = parts.get("weight", &[Dtype::U8], shape)?;
    if packed.bytes.len() != rows * cols / 2 {
        return Err(wrong(format!(
            "{} bytes of codes for {rows}×{cols}",
            packed.bytes.len()
        )));
    }
    let map = parts.get("weight.quant_map", &[Dtype::F32], &[16])?;
    let Floats::F32(values) = Floats::from_bytes(Dtype::F32, &map.bytes)? else {
        return Err(wrong("quant_map is not F32".into()));
    };
    let scales = if let Some(offset) = state.nested {
        let codes = parts.get("weight.absmax", &[Dtype::U8], &[blocks])?;
        let second = blocks.div_ceil(NESTED);
        let absmax = parts.get("weight.nested_absmax", &[Dtype::F32], &[second])?;
        let map = parts.get("weight.nested_quant_map", &[Dtype::F32], &[256])?;
        let floats = |bytes: &[u8]| -> Vec<f32> {
            let singles = bytes.as_chunks::<4>().0.iter();
            singles.map(|b| f32::from_le_bytes(*b)).collect()
        };
        Scales::Nested(Nested {
            codes: codes.bytes.clone(),
            map: floats(&map.bytes),
            absmax: floats(&absmax.bytes),
            per: NESTED,
            offset,
        })
    } else {
        let absmax = parts.get("weight.absmax", &[Dtype::F32], &[blocks])?;
        Scales::Flat(Floats::from_bytes(Dtype::F32, &absmax.bytes)?)
    };
    let codes: Vec<u8> = packed.bytes.iter().flat_map(|b| [b >> 4, b & 15]).collect();
    let words = codes.chunks_exact(cols);
    Ok(QuantizedMatrix {
        rows,
        cols,
        values: Values::Table(Table {
            codes: Codes {
                bits: 4,
                row_words: words_len(cols, 4),
                words: words.flat_map(|c| words_from_codes(c, 4)).collect(),
            },
            values,
            group: block,
            scales,
        }),
        inputs: None,
    })
}

/// Row maxima over 127, whose codes are centred.
fn encode_integer(m: &Integer, (rows, cols): (usize, usize)) -> Option<Vec<Vec<u8>>> {
    let absmax = match &m.scales {
        Scales::Divided {
            values,
            divisor: 127.0,
        } => values.to_bytes(),
        // A scale of another kind: the row maximum is what comes nearest to 127 of them.
        other => (0..other.len())
            .flat_map(|i| (other.get(i) * 127.0).to_le_bytes())
            .collect(),
    };
    if m.codes.bits != 8 || m.group != cols || m.zero != Zero::Centre || m.group_of_col.is_some() {
        return None;
    }
    let mut weight = vec![0; rows * cols];
    for (r, row) in weight.chunks_exact_mut(cols).enumerate() {
        m.codes.row(r, row);
        row.iter_mut().for_each(|c| *c ^= 128);
    }
    Some(vec![weight, absmax, vec![0]])
}

fn decode_integer(parts: &Parts<'_>) -> Result<QuantizedMatrix> {
    let (rows, cols, weight) = parts.matrix("weight", Dtype::I8)?;
    let absmax = parts.get("SCB", &[Dtype::F32], &[rows])?;
    if let Some(format) = parts.find("weight_format").filter(|t| t.bytes != [0]) {
        let what = format!("weight_format {:?}: rows in another order", format.bytes);
        return Err(Error::new(Code::Unsupported, what).at(format!("{:?}", parts.base)));
    }
    let codes: Vec<u8> = weight.bytes.iter().map(|b| b ^ 128).collect();
    let words = codes.chunks_exact(cols);
    Ok(QuantizedMatrix {
        rows,
        cols,
        values: Values::Integer(Integer {
            codes: Codes {
                bits: 8,
                row_words: words_len(cols, 8),
                words: words.flat_map(|c| words_from_codes(c, 8)).collect(),
            },
            group: cols,
            scales: Scales::Divided {
                values: Floats::from_bytes(Dtype::F32, &absmax.bytes)?,
                divisor: 127.0,
            },
            zero: Zero::Centre,
            group_of_col: None,
        }),
        inputs: None,
    })
}
