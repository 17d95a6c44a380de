//! GPTQ: integer codes packed down the input channels, one word after another.
//!
//! ```text
//! qweight  I32  [cols·b/32, rows]    stream of a row of the matrix down a column of the tensor:
//!                                    4 bits, codes 0 … 7 → 0x76543210; 3 bits, 32 codes in 3 words
//! qzeros   I32  [groups, rows·b/32]  zero points of a group as one stream along the rows
//! scales   any  [groups, rows]       w = (q − zero) · scale
//! g_idx    I32  [cols]               group of each column
//! ```
//! **Zero points.** `gptq` (version 1) stores each one less 1, `gptq_v2` stores it as it is. A zero
//! point of 0 becomes 2^b − 1 in version 1, which some readers take for 2^b: version 1 is written
//! for symmetric schemes only, whose zero points are 2^(b−1). It is read with 2^b − 1 as 0.
//! Source: AutoGPTQ and GPTQModel, `nn_modules/qlinear`, `quantization/config.py`.

mod read;

use super::parts::{
    FLOATS, Parts, bytes_from_words, mismatch, named, planned, transpose, transpose_floats,
    words_from_bytes,
};
use super::{Layout, Resolver};
use crate::container::safetensors::Planned;
use crate::error::{Code, Error, Result};
use crate::matrix::{Codes, Floats, Integer, QuantizedMatrix, Scales, Values, Zero};
use crate::pack::{codes_from_words, words_from_codes};
use crate::scheme::{Element, Group, Scheme, ZeroPoint};
use crate::tensor::{Dtype, Tensor};
use serde_json::{Map, Value, json};

/// One of the two versions.
#[derive(Debug)]
pub struct Gptq {
    /// What a stored zero point is short of.
    less: u8,
}

/// Version 1, which every engine reads.
pub static V1: Gptq = Gptq { less: 1 };

/// Version 2.
pub static V2: Gptq = Gptq { less: 0 };

impl Gptq {
    /// Zero points `[rows, groups]` → words `[groups, rows·b/32]`.
    fn zeros_to_words(&self, zeros: &[u8], groups: usize, bits: u8) -> Vec<u32> {
        let mask = ((1u16 << bits) - 1) as u8;
        let by_group = transpose(zeros, groups).into_iter();
        let stored: Vec<u8> = by_group.map(|z| z.wrapping_sub(self.less) & mask).collect();
        let lines = stored.chunks_exact(zeros.len() / groups);
        lines
            .flat_map(|line| words_from_codes(line, bits))
            .collect()
    }

    /// Undoes `zeros_to_words`.
    fn zeros_from_words(&self, words: &[u32], rows: usize, groups: usize, bits: u8) -> Vec<u8> {
        let mask = ((1u16 << bits) - 1) as u8;
        let mut stored = vec![0; rows * groups];
        let lines = stored.chunks_exact_mut(rows);
        for (line, words) in lines.zip(words.chunks_exact(words.len() / groups)) {
            codes_from_words(words, bits, line);
            for z in line.iter_mut() {
                *z = z.wrapping_add(self.less) & mask;
            }
        }
        transpose(&stored, rows)
    }
}

impl Layout for Gptq {
    fn name(&self) -> &'static str {
        if self.less == 1 { "gptq" } else { "gptq-v2" }
    }

    fn about(&self) -> &'static str {
        if self.less == 1 {
            "GPTQ's own format for symmetric integers, read by vLLM, SGLang and transformers"
        } else {
            "GPTQ's format with true zero points, read by GPTQModel and transformers"
        }
    }

    fn accepts(&self, scheme: &Scheme) -> Result<()> {
        let no = |why: &str| Error::new(Code::Scheme, format!("{scheme}: {why}"));
        if scheme.element != Element::Int || scheme.zero == ZeroPoint::Float {
            return Err(no("gptq holds integers with integer zero points"));
        }
        if scheme.activations.is_some() {
            return Err(no("gptq stores no rounding of inputs"));
        }
        if !matches!(scheme.group, Group::Row | Group::Run(_)) {
            return Err(no("gptq has scales per row or per run of a row"));
        }
        if self.less == 1 && !scheme.is_symmetric() {
            let error = no("readers of gptq disagree about zero points of asymmetric schemes");
            return Err(error.remedy("use format gptq-v2, awq or compressed-tensors"));
        }
        Ok(())
    }

    fn divides(&self, scheme: &Scheme, rows: usize, cols: usize) -> Result<()> {
        if !rows.is_multiple_of(32) || !cols.is_multiple_of(32) {
            let what =
                format!("{scheme}: gptq packs 32 codes at a time, the matrix is {rows}×{cols}");
            return Err(Error::new(Code::Scheme, what).remedy("use format compressed-tensors"));
        }
        scheme.group_cols(cols).map(|_| ())
    }

    fn is_quantized(&self, parts: &[String]) -> bool {
        parts.iter().any(|p| p.ends_with(".qweight"))
    }

    fn parts(&self) -> &'static [&'static str] {
        &["qweight", "qzeros", "scales", "g_idx"]
    }

    fn outputs(
        &self,
        base: &str,
        scheme: &Scheme,
        (rows, cols): (usize, usize),
        scale_dtype: Dtype,
        _by_index: bool,
    ) -> Vec<Planned> {
        let bits = usize::from(scheme.bits);
        let groups = cols / scheme.group_cols(cols).unwrap_or(cols);
        vec![
            planned(base, "qweight", Dtype::I32, &[cols * bits / 32, rows]),
            planned(base, "qzeros", Dtype::I32, &[groups, rows * bits / 32]),
            planned(base, "scales", scale_dtype, &[groups, rows]),
            planned(base, "g_idx", Dtype::I32, &[cols]),
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
        let m = matrix.integer("gptq")?;
        let (group, bits) = (scheme.group_cols(cols)?, scheme.bits);
        let groups = cols / group;
        let zeros = match (&m.zero, scheme.is_symmetric()) {
            (Zero::Centre, true) => Some(vec![1 << (bits - 1); rows * groups]),
            (Zero::Int(zeros), false) => Some(zeros.clone()),
            _ => None,
        };
        let (Scales::Flat(scales), Some(zeros)) = (&m.scales, zeros) else {
            return Err(mismatch(scheme));
        };
        if m.codes.bits != bits || m.group != group {
            return Err(mismatch(scheme));
        }
        let own = || (0..cols).map(|j| (j / group) as u32).collect();
        let index = m.group_of_col.clone().unwrap_or_else(own);
        let data = vec![
            bytes_from_words(&transpose(&m.codes.words, m.codes.row_words)),
            bytes_from_words(&self.zeros_to_words(&zeros, groups, bits)),
            transpose_floats(scales, groups).to_bytes(),
            bytes_from_words(&index),
        ];
        let outputs = self.outputs(base, scheme, (rows, cols), scales.dtype(), false);
        Ok(named(outputs, data))
    }

    fn decode(&self, base: &str, scheme: &Scheme, tensors: &[Tensor]) -> Result<QuantizedMatrix> {
        let parts = Parts { base, tensors };
        let place = |e: Error| e.at(format!("{base:?}"));
        let bits = scheme.bits;
        let (lines, rows, packed) = parts.matrix("qweight", Dtype::I32)?;
        let cols = lines * 32 / usize::from(bits);
        // Zero points of any kind are read; which kinds are written is another matter.
        V2.fits(scheme, rows, cols).map_err(place)?;
        let group = scheme.group_cols(cols)?;
        let groups = cols / group;
        let shape = [groups, rows * usize::from(bits) / 32];
        let stored = parts.get("qzeros", &[Dtype::I32], &shape)?;
        let zeros = self.zeros_from_words(&words_from_bytes(&stored.bytes), rows, groups, bits);
        let centre = zeros.iter().all(|z| *z == 1 << (bits - 1));
        let scale = parts.get("scales", FLOATS, &[groups, rows])?;
        let floats = Floats::from_bytes(scale.dtype, &scale.bytes)?;
        let matrix = QuantizedMatrix {
            rows,
            cols,
            values: Values::Integer(Integer {
                codes: Codes {
                    bits,
                    row_words: lines,
                    words: transpose(&words_from_bytes(&packed.bytes), rows),
                },
                group,
                scales: Scales::Flat(transpose_floats(&floats, rows)),
                zero: if scheme.is_symmetric() && centre {
                    Zero::Centre
                } else {
                    Zero::Int(zeros)
                },
                group_of_col: index(&parts, cols, group)?,
            }),
            inputs: None,
        };
        matrix.validate().map_err(place)?;
        Ok(matrix)
    }

    fn config(&self, assignment: &[(String, Scheme)], ignored: &[String], by_index: bool) -> Value {
        let usual = super::commonest(assignment);
        let size = |scheme: &Scheme| match scheme.group {
            Group::Run(n) => json!(n),
            _ => json!(-1),
        };
        let mut dynamic = Map::new();
        for (module, scheme) in assignment.iter().filter(|(_, s)| Some(*s) != usual) {
            let own = json!({
                "bits": scheme.bits, "group_size": size(scheme), "sym": scheme.is_symmetric(),
            });
            dynamic.insert(format!("+:^{}$", regex_lite::escape(module)), own);
        }
        for module in ignored
            .iter()
            .filter(|m| !m.starts_with("re:") && m.contains('.'))
        {
            dynamic.insert(format!("-:^{}$", regex_lite::escape(module)), json!({}));
        }
        json!({
            "quant_method": "gptq",
            "bits": usual.map_or(4, |s| s.bits),
            "group_size": usual.as_ref().map(size),
            "desc_act": by_index,
            "sym": usual.is_none_or(|s| s.is_symmetric()),
            "lm_head": false,
            "checkpoint_format": if self.less == 1 { "gptq" } else { "gptq_v2" },
            "pack_dtype": "int32",
            "true_sequential": true,
            "static_groups": !by_index,
            "dynamic": if dynamic.is_empty() { Value::Null } else { Value::Object(dynamic) },
            "meta": { "quantizer": [format!("lowbit:{}", env!("CARGO_PKG_VERSION"))] },
        })
    }

    fn detect(&self, config: &Value) -> Option<Result<Resolver>> {
        let version = config.get("checkpoint_format").or(config.get("format"));
        let version = version.and_then(Value::as_str).unwrap_or("gptq");
        let mine = config["quant_method"] == "gptq" && (version == "gptq_v2") == (self.less == 0);
        mine.then(|| read::config(self.less, config, version))
    }
}

/// The group of each column; none when groups are runs.
fn index(parts: &Parts<'_>, cols: usize, group: usize) -> Result<Option<Vec<u32>>> {
    let tensor = parts.get("g_idx", &[Dtype::I32], &[cols])?;
    let index = words_from_bytes(&tensor.bytes);
    let runs = (0..cols).map(|j| (j / group) as u32);
    if index.iter().copied().eq(runs) {
        return Ok(None);
    }
    let place = |what: String| Error::new(Code::Qparam, what).at(format!("{:?}", tensor.name));
    let mut columns = vec![0; cols / group];
    for g in &index {
        let count = columns.get_mut(*g as usize);
        let what = || place(format!("group {} of {}", g.cast_signed(), cols / group));
        *count.ok_or_else(what)? += 1;
    }
    // Columns change places between groups, and no group grows: anything else is no order of them.
    match columns.iter().position(|count| *count != group) {
        None => Ok(Some(index)),
        Some(g) => Err(place(format!(
            "group {g} has {} columns, expected {group}",
            columns[g]
        ))),
    }
}
