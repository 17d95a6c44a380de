//! The JSON object beside a matrix of 4-bit codes.

use crate::error::{Code, Error, Result};
use crate::layout::parts::Parts;
use crate::scheme::{Element, Scheme};
use crate::tensor::Dtype;
use serde_json::Value;

/// Characters that the offset of nested scales may take.
const OFFSET_WIDTH: usize = 24;

/// What the object says.
#[derive(Debug)]
pub(super) struct State {
    element: Element,
    pub(super) block: usize,
    dtype: Dtype,
    pub(super) shape: (usize, usize),
    /// Offset of nested scales.
    pub(super) nested: Option<f32>,
}

impl State {
    /// Of a matrix that was made from weights of `dtype`.
    pub(super) fn new(scheme: &Scheme, shape: (usize, usize), dtype: Dtype, offset: f32) -> Self {
        Self {
            element: scheme.element,
            block: scheme.group_cols(shape.1).unwrap_or(shape.1),
            dtype,
            shape,
            nested: scheme.nested.then_some(offset),
        }
    }

    fn kind(&self) -> &'static str {
        match self.element {
            Element::Fp4 => "fp4",
            _ => "nf4",
        }
    }

    /// Its tensor, behind the module.
    pub(super) fn part(&self) -> String {
        format!("weight.quant_state.bitsandbytes__{}", self.kind())
    }

    /// As Python's `json.dumps` writes it, padded to a length that does not depend on the offset.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let (rows, cols) = self.shape;
        let dtype = match self.dtype {
            Dtype::F16 => "float16",
            Dtype::BF16 => "bfloat16",
            _ => "float32",
        };
        let (kind, block) = (self.kind(), self.block);
        let mut text = format!(
            "{{\"quant_type\": \"{kind}\", \"blocksize\": {block}, \"dtype\": \"{dtype}\", \"shape\": [{rows}, {cols}]"
        );
        if let Some(offset) = self.nested {
            let offset = format!("{:?}}}", f64::from(offset));
            text +=
                ", \"nested_blocksize\": 256, \"nested_dtype\": \"float32\", \"nested_offset\": ";
            text.push_str(&offset);
            text.extend(std::iter::repeat_n(
                ' ',
                OFFSET_WIDTH.saturating_sub(offset.len()),
            ));
        } else {
            text.push('}');
        }
        text.into_bytes()
    }

    /// Reads the tensor; `qparam` when it is no such object, `unsupported` for what it asks.
    pub(super) fn read(parts: &Parts<'_>, element: Element) -> Result<Self> {
        let wrong = |what: &str| Error::new(Code::Qparam, format!("quant_state: {what}"));
        let names = [Element::Nf4, Element::Fp4].map(|element| {
            let kind = if element == Element::Fp4 {
                "fp4"
            } else {
                "nf4"
            };
            (element, format!("weight.quant_state.bitsandbytes__{kind}"))
        });
        // The tensor's name decides; the config is often wrong about it.
        let found = names
            .iter()
            .find_map(|(e, name)| Some((*e, parts.find(name)?)));
        let Some((element, tensor)) = found else {
            let what = format!("no quant_state for {element:?}");
            return Err(Error::new(Code::MissingTensor, what));
        };
        let json: Value = serde_json::from_slice(&tensor.bytes).map_err(|_| wrong("no JSON"))?;
        let size = |value: &Value| {
            let size = value.as_u64().and_then(|n| usize::try_from(n).ok());
            size.filter(|n| (1..1 << 28).contains(n))
        };
        let shape: Option<Vec<_>> = json["shape"]
            .as_array()
            .map(|s| s.iter().filter_map(size).collect());
        let Some([rows, cols]) = shape.as_deref() else {
            return Err(wrong("shape is not two sizes"));
        };
        let dtype = match json["dtype"].as_str() {
            Some("float32") => Dtype::F32,
            Some("float16") => Dtype::F16,
            Some("bfloat16") => Dtype::BF16,
            _ => return Err(wrong("dtype is not float32, float16 or bfloat16")),
        };
        let nested = match &json["nested_blocksize"] {
            Value::Null => None,
            n if size(n) == Some(256) => {
                let offset = json["nested_offset"].as_f64();
                Some(offset.ok_or_else(|| wrong("nested_offset is missing"))? as f32)
            }
            n => {
                let what = format!("nested_blocksize {n}");
                return Err(Error::new(Code::Unsupported, what).remedy("expected 256"));
            }
        };
        Ok(Self {
            element,
            block: size(&json["blocksize"]).ok_or_else(|| wrong("blocksize is missing"))?,
            dtype,
            shape: (*rows, *cols),
            nested,
        })
    }
}
