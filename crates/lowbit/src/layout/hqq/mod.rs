//! HQQ as transformers stores it: integer codes with float zero points, groups along the row.
//!
//! ```text
//! W_q    8 bits  U8   [n, group]        n = rows · cols / group: one line per group
//!        4 bits  U8   [n/2, group]      line i in the high half, line i + n/2 in the low half
//!        2 bits  U8   [n/4, group]      four quarters, the first in the highest bits
//!        3 bits  I32  [⌈n/10⌉, group]   ten tenths at bits 27, 24 … 0, lines of zeros at the end
//! scale  any     [n, 1]                 w = (q − zero) · scale
//! zero   any     [n, 1]
//! shape  I64     [2]                    rows, cols
//! ```
//! Every other setting is a tensor too: numbers I32, flags U8, words U8 with one byte per letter.
//! Groups down the columns (`axis` 0) are not read. Source: hqq 0.2.8, `core/{quantize,bitpack}.py`.

mod packing;
mod settings;

use super::parts::{FLOATS, Parts, mismatch, named, planned, sizes_from_bytes, words_from_bytes};
use super::target::Target;
use super::{Layout, Resolver, Rule};
use crate::container::safetensors::Planned;
use crate::error::{Code, Error, Result};
use crate::matrix::{Codes, Floats, Integer, QuantizedMatrix, Scales, Values, Zero};
use crate::scheme::{Element, Group, Scheme, ZeroPoint};
use crate::tensor::{Dtype, Tensor};
use packing::{Packing, pack, packing, unpack};
use serde_json::{Value, json};
use settings::settings;

/// The layout.
#[derive(Debug)]
pub struct Hqq;

impl Layout for Hqq {
    fn name(&self) -> &'static str {
        "hqq"
    }

    fn about(&self) -> &'static str {
        "integers with float zero points, read by transformers and the hqq package"
    }

    fn accepts(&self, scheme: &Scheme) -> Result<()> {
        let no = |why: &str| Err(Error::new(Code::Scheme, format!("{scheme}: {why}")));
        if scheme.element != Element::Int || scheme.zero != ZeroPoint::Float {
            return no("hqq holds integers with float zero points, as w4g64-float");
        }
        if scheme.activations.is_some() {
            return no("hqq stores no rounding of inputs");
        }
        if !matches!(scheme.group, Group::Run(_) | Group::Row) {
            return no("hqq has groups along the row here");
        }
        Ok(())
    }

    fn divides(&self, scheme: &Scheme, rows: usize, cols: usize) -> Result<()> {
        let groups = rows * (cols / scheme.group_cols(cols)?);
        let Packing { lines, words, .. } = packing(scheme.bits);
        if !words && !groups.is_multiple_of(lines) {
            let what = format!("{scheme}: hqq packs {lines} groups into one, there are {groups}");
            return Err(Error::new(Code::Scheme, what).remedy("use 8 bits"));
        }
        Ok(())
    }

    fn is_quantized(&self, parts: &[String]) -> bool {
        parts.iter().any(|p| p.ends_with(".W_q"))
    }

    fn parts(&self) -> &'static [&'static str] {
        &[
            "W_q",
            "scale",
            "zero",
            "shape",
            "axis",
            "channel_wise",
            "compute_dtype",
            "encoded_state_dict",
            "group_size",
            "nbits",
            "offload_meta",
            "optimize",
            "packing",
            "quant_scale",
            "quant_zero",
            "round_zero",
            "stores_quant_config",
            "unpack_view_dtype",
            "view_as_float",
        ]
    }

    fn outputs(
        &self,
        base: &str,
        scheme: &Scheme,
        (rows, cols): (usize, usize),
        scale_dtype: Dtype,
        _by_index: bool,
    ) -> Vec<Planned> {
        let group = scheme.group_cols(cols).unwrap_or(cols);
        let groups = rows * (cols / group);
        let Packing { lines, words, .. } = packing(scheme.bits);
        let code = if words { Dtype::I32 } else { Dtype::U8 };
        let mut all = vec![
            planned(base, "W_q", code, &[groups.div_ceil(lines), group]),
            planned(base, "scale", scale_dtype, &[groups, 1]),
            planned(base, "zero", scale_dtype, &[groups, 1]),
            planned(base, "shape", Dtype::I64, &[2]),
        ];
        let settings = settings(scheme.bits, group, scale_dtype);
        all.extend(settings.iter().map(|(name, s)| s.planned(base, name)));
        all
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
        let m = matrix.integer("hqq")?;
        let (Scales::Flat(scales), Zero::Float(zeros)) = (&m.scales, &m.zero) else {
            return Err(Error::new(
                Code::Qparam,
                "hqq has flat scales and float zeros",
            ));
        };
        let dtype = scales.dtype();
        let group = scheme.group_cols(shape.1)?;
        let same = zeros.dtype() == dtype && m.codes.bits == scheme.bits && m.group == group;
        if !same || m.group_of_col.is_some() {
            return Err(mismatch(scheme));
        }
        let sizes = [shape.0 as i64, shape.1 as i64];
        let mut data = vec![
            pack(&m.codes.unpack(shape.1), scheme.bits, group),
            scales.to_bytes(),
            zeros.to_bytes(),
            sizes.iter().flat_map(|n| n.to_le_bytes()).collect(),
        ];
        let settings = settings(scheme.bits, group, dtype);
        data.extend(settings.iter().map(|(_, setting)| setting.bytes()));
        Ok(named(self.outputs(base, scheme, shape, dtype, false), data))
    }

    fn decode(&self, base: &str, scheme: &Scheme, tensors: &[Tensor]) -> Result<QuantizedMatrix> {
        let parts = Parts { base, tensors };
        let place = |e: Error| e.at(format!("{base:?}"));
        let sizes = parts.get("shape", &[Dtype::I64], &[2])?;
        let Some([rows, cols]) =
            sizes_from_bytes(&sizes.bytes).and_then(|s| <[usize; 2]>::try_from(s).ok())
        else {
            return Err(place(Error::new(
                Code::Qparam,
                "shape does not hold two sizes",
            )));
        };
        self.fits(scheme, rows, cols).map_err(place)?;
        check_settings(&parts, scheme, cols)?;
        let group = scheme.group_cols(cols)?;
        let groups = rows * (cols / group);
        let Packing { lines, words, .. } = packing(scheme.bits);
        let dtype = if words { Dtype::I32 } else { Dtype::U8 };
        let packed = parts.get("W_q", &[dtype], &[groups.div_ceil(lines), group])?;
        let scale = parts.get("scale", FLOATS, &[groups, 1])?;
        let zero = parts.get("zero", &[scale.dtype], &[groups, 1])?;
        let codes = unpack(&packed.bytes, scheme.bits, group, rows * cols);
        let matrix = QuantizedMatrix {
            rows,
            cols,
            values: Values::Integer(Integer {
                codes: Codes::pack(&codes, cols, scheme.bits),
                group,
                scales: Scales::Flat(Floats::from_bytes(scale.dtype, &scale.bytes)?),
                zero: Zero::Float(Floats::from_bytes(zero.dtype, &zero.bytes)?),
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
        let params = |scheme: &Scheme| {
            let group = match scheme.group {
                Group::Run(n) => json!(n),
                _ => Value::Null,
            };
            json!({ "weight_quant_params": {
                "nbits": scheme.bits, "channel_wise": true, "group_size": group, "optimize": true,
                "round_zero": scheme.bits == 4, "axis": 1, "view_as_float": false,
            }, "scale_quant_params": null, "zero_quant_params": null, "offload_meta": false })
        };
        json!({
            "quant_method": "hqq",
            "quant_config": assignment.first().map(|(_, scheme)| params(scheme)),
            "skip_modules": ignored,
        })
    }

    fn detect(&self, config: &Value) -> Option<Result<Resolver>> {
        (config["quant_method"] == self.name()).then(|| read(config))
    }
}

fn read(config: &Value) -> Result<Resolver> {
    let wrong = |code, what: &str| Err(Error::new(code, what).at("quantization_config"));
    let params = &config["quant_config"]["weight_quant_params"];
    let bits = params["nbits"].as_u64().and_then(|b| u8::try_from(b).ok());
    let Some(bits @ (2 | 3 | 4 | 8)) = bits else {
        return wrong(
            Code::Unsupported,
            "quant_config has no nbits of 2, 3, 4 or 8 for all modules",
        );
    };
    if params["axis"].as_u64() == Some(0) {
        return wrong(Code::Unsupported, "axis 0: groups down the columns");
    }
    if params["view_as_float"] == true {
        return wrong(Code::Unsupported, "view_as_float: codes stored as floats");
    }
    let group = match params["group_size"].as_u64().map(usize::try_from) {
        None => Group::Row,
        Some(Ok(n)) if n > 0 => Group::Run(n),
        Some(_) => return wrong(Code::Config, "group_size is 0"),
    };
    let scheme = Scheme {
        zero: ZeroPoint::Float,
        ..Scheme::weights(bits, group, true)
    };
    let rule = Rule {
        target: Target::Linear,
        scheme,
        layout: &Hqq,
    };
    Ok(Resolver::new(&Hqq, vec![rule], Vec::new()))
}

/// `qparam` when a matrix says something else than the config.
fn check_settings(parts: &Parts<'_>, scheme: &Scheme, cols: usize) -> Result<()> {
    let group = scheme.group_cols(cols)?;
    for (name, wanted) in [
        ("nbits", usize::from(scheme.bits)),
        ("axis", 1),
        ("group_size", group),
    ] {
        let tensor = parts.get(name, &[Dtype::I32], &[])?;
        let found = words_from_bytes(&tensor.bytes);
        if found != [wanted as u32] {
            let what = format!("{name} is {found:?}, the config says {wanted}");
            return Err(Error::new(Code::Qparam, what).at(format!("{:?}", parts.base)));
        }
    }
    Ok(())
}
