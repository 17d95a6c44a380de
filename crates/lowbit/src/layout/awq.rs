//! AWQ: 4-bit codes packed along the output channels, in an order of their own.
//!
//! ```text
//! qweight  I32  [cols, rows/8]    gemm; word c of a line holds rows 8c + 0, 2, 4, 6, 1, 3, 5, 7,
//!                                 lowest bits first: codes 0 … 7 → 0x75316420
//! qzeros   I32  [groups, rows/8]  packed the same way, zero points as they are
//! scales   any  [groups, rows]    w = (q − zero) · scale
//!
//! qweight  I32  [rows, cols/8]    gemv (only read): rows in their own order, 0x76543210
//! qzeros   I32  [rows, width]     zero points of a row, padded
//! scales   any  [rows, 8·width]
//! ```
//! Source: AutoAWQ, `awq/modules/linear/{gemm,gemv}.py`, `awq/utils/packing_utils.py`.

use super::parts::{
    FLOATS, Parts, bytes_from_words, mismatch, named, planned, transpose, transpose_floats,
    words_from_bytes,
};
use super::target::Target;
use super::{Layout, Resolver, Rule};
use crate::container::safetensors::Planned;
use crate::error::{Code, Error, Result};
use crate::matrix::{Codes, Floats, Integer, QuantizedMatrix, Scales, Values, Zero};
use crate::pack::{codes_from_words, words_len};
use crate::scheme::{Element, Group, Scheme, ZeroPoint};
use crate::tensor::{Dtype, Tensor};
use serde_json::{Value, json};

/// One of the two forms.
#[derive(Debug)]
pub struct Awq {
    gemv: bool,
}

/// Version `gemm`, read and written.
pub static GEMM: Awq = Awq { gemv: false };

/// Version `gemv`, read.
static GEMV: Awq = Awq { gemv: true };

/// Row of each nibble of a word, from the lowest bits up.
const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

/// Codes of lines of `n`, a multiple of 8, as words.
fn pack(lines: &[u8]) -> Vec<u32> {
    let word = |codes: &[u8; 8]| {
        let nibbles = ORDER.iter().enumerate();
        nibbles.fold(0, |word, (i, row)| word | u32::from(codes[*row]) << (4 * i))
    };
    lines.as_chunks::<8>().0.iter().map(word).collect()
}

fn unpack(words: &[u32]) -> Vec<u8> {
    let codes = |word: &u32| {
        let mut codes = [0; 8];
        for (i, row) in ORDER.iter().enumerate() {
            codes[*row] = (word >> (4 * i) & 15) as u8;
        }
        codes
    };
    words.iter().flat_map(codes).collect()
}

impl Layout for Awq {
    fn name(&self) -> &'static str {
        "awq"
    }

    fn about(&self) -> &'static str {
        "AWQ's own format for asymmetric 4-bit integers, read by vLLM, SGLang and transformers"
    }

    fn accepts(&self, scheme: &Scheme) -> Result<()> {
        let no = |why: &str| Error::new(Code::Scheme, format!("{scheme}: {why}"));
        if scheme.element != Element::Int || scheme.bits != 4 || scheme.activations.is_some() {
            return Err(no("awq holds 4-bit integers for unquantized inputs"));
        }
        if scheme.zero != ZeroPoint::Int {
            let error = no("engines read awq with integer zero points only");
            return Err(error.remedy("add -asym to the scheme"));
        }
        if !matches!(scheme.group, Group::Row | Group::Run(_)) {
            return Err(no("awq has scales per row or per run of a row"));
        }
        Ok(())
    }

    fn divides(&self, scheme: &Scheme, rows: usize, cols: usize) -> Result<()> {
        let packed = if self.gemv { cols } else { rows };
        if !packed.is_multiple_of(8) {
            let what =
                format!("{scheme}: awq packs 8 codes into a word, the matrix is {rows}×{cols}");
            return Err(Error::new(Code::Scheme, what).remedy("use format compressed-tensors"));
        }
        scheme.group_cols(cols).map(|_| ())
    }

    fn is_quantized(&self, parts: &[String]) -> bool {
        parts.iter().any(|p| p.ends_with(".qweight"))
    }

    fn parts(&self) -> &'static [&'static str] {
        &["qweight", "qzeros", "scales"]
    }

    fn outputs(
        &self,
        base: &str,
        scheme: &Scheme,
        (rows, cols): (usize, usize),
        scale_dtype: Dtype,
        _by_index: bool,
    ) -> Vec<Planned> {
        let groups = cols / scheme.group_cols(cols).unwrap_or(cols);
        vec![
            planned(base, "qweight", Dtype::I32, &[cols, rows / 8]),
            planned(base, "qzeros", Dtype::I32, &[groups, rows / 8]),
            planned(base, "scales", scale_dtype, &[groups, rows]),
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
        if self.gemv {
            return Err(Error::new(Code::Unsupported, "version gemv is only read"));
        }
        self.fits(scheme, rows, cols)?;
        matrix.validate()?;
        let m = matrix.integer("awq")?;
        let (Scales::Flat(scales), Zero::Int(zeros)) = (&m.scales, &m.zero) else {
            return Err(mismatch(scheme));
        };
        let group = scheme.group_cols(cols)?;
        if m.codes.bits != 4 || m.group != group || m.group_of_col.is_some() {
            return Err(mismatch(scheme));
        }
        let groups = cols / group;
        let data = vec![
            bytes_from_words(&pack(&transpose(&m.codes.unpack(cols), cols))),
            bytes_from_words(&pack(&transpose(zeros, groups))),
            transpose_floats(scales, groups).to_bytes(),
        ];
        let outputs = self.outputs(base, scheme, (rows, cols), scales.dtype(), false);
        Ok(named(outputs, data))
    }

    fn decode(&self, base: &str, scheme: &Scheme, tensors: &[Tensor]) -> Result<QuantizedMatrix> {
        let parts = Parts { base, tensors };
        let place = |e: Error| e.at(format!("{base:?}"));
        let (a, b, packed) = parts.matrix("qweight", Dtype::I32)?;
        let (rows, cols) = if self.gemv { (a, 8 * b) } else { (8 * b, a) };
        self.fits(scheme, rows, cols).map_err(place)?;
        let group = scheme.group_cols(cols)?;
        let groups = cols / group;
        let words = words_from_bytes(&packed.bytes);
        let (codes, scales, zeros) = if self.gemv {
            let (scales, zeros) = beside_rows(&parts, rows, groups)?;
            let codes = Codes {
                bits: 4,
                row_words: words_len(cols, 4),
                words,
            };
            (codes, scales, zeros)
        } else {
            let codes = Codes::pack(&transpose(&unpack(&words), rows), cols, 4);
            let stored = parts.get("qzeros", &[Dtype::I32], &[groups, rows / 8])?;
            let zeros = transpose(&unpack(&words_from_bytes(&stored.bytes)), rows);
            let scale = parts.get("scales", FLOATS, &[groups, rows])?;
            let floats = Floats::from_bytes(scale.dtype, &scale.bytes)?;
            (codes, transpose_floats(&floats, rows), zeros)
        };
        let matrix = QuantizedMatrix {
            rows,
            cols,
            values: Values::Integer(Integer {
                codes,
                group,
                scales: Scales::Flat(scales),
                zero: Zero::Int(zeros),
                group_of_col: None,
            }),
            inputs: None,
        };
        matrix.validate().map_err(place)?;
        Ok(matrix)
    }

    fn config(
        &self,
        assignment: &[(String, Scheme)],
        ignored: &[String],
        _by_index: bool,
    ) -> Value {
        let group = match super::commonest(assignment).map(|s| s.group) {
            Some(Group::Run(n)) => json!(n),
            _ => json!(-1),
        };
        json!({
            "quant_method": "awq",
            "bits": 4,
            "group_size": group,
            "zero_point": true,
            "version": "gemm",
            "modules_to_not_convert": ignored,
        })
    }

    fn detect(&self, config: &Value) -> Option<Result<Resolver>> {
        (config["quant_method"] == "awq").then(|| read(config))
    }
}

/// Scales and zero points that lie beside the rows, padded (`gemv`).
fn beside_rows(parts: &Parts<'_>, rows: usize, groups: usize) -> Result<(Floats, Vec<u8>)> {
    let width = parts.find("qzeros").and_then(|t| t.shape.get(1).copied());
    let width = width.filter(|w| (groups.div_ceil(8)..1 << 24).contains(w));
    let width = width.unwrap_or(groups.div_ceil(8));
    let stored = parts.get("qzeros", &[Dtype::I32], &[rows, width])?;
    let mut zeros = vec![0; rows * groups];
    let words = words_from_bytes(&stored.bytes);
    for (line, words) in zeros
        .chunks_exact_mut(groups)
        .zip(words.chunks_exact(width))
    {
        codes_from_words(words, 4, line);
    }
    let scale = parts.get("scales", FLOATS, &[rows, 8 * width])?;
    let floats = Floats::from_bytes(scale.dtype, &scale.bytes)?;
    let place = |i: usize| i / groups * 8 * width + i % groups;
    Ok((floats.gather(rows * groups, place), zeros))
}

/// Which modules have codes is seen from their tensors.
fn read(config: &Value) -> Result<Resolver> {
    let wrong = |code, what: String| Err(Error::new(code, what).at("quantization_config"));
    let setting = |names: [&str; 2]| {
        let found = names.iter().find_map(|name| config.get(name));
        found.cloned().unwrap_or_default()
    };
    let bits = setting(["bits", "w_bit"]);
    if bits != 4 {
        return wrong(
            Code::Unsupported,
            format!("bits {bits}: awq is read with 4"),
        );
    }
    if setting(["zero_point", "zero_point"]) == false {
        return wrong(Code::Unsupported, "zero_point false".into());
    }
    let layout: &'static Awq = match config["version"].as_str().map(str::to_lowercase).as_deref() {
        None | Some("gemm") => &GEMM,
        Some("gemv") => &GEMV,
        Some(other) => return wrong(Code::Unsupported, format!("version {other:?}")),
    };
    let size = setting(["group_size", "q_group_size"]);
    let group = match size.as_i64() {
        Some(-1) => Group::Row,
        Some(n) if n > 0 => Group::Run(usize::try_from(n).unwrap_or(usize::MAX)),
        _ => return wrong(Code::Config, format!("group_size {size}")),
    };
    let rule = Rule {
        target: Target::Linear,
        scheme: Scheme::weights(4, group, false),
        layout,
    };
    Ok(Resolver::new(layout, vec![rule], Vec::new()))
}
