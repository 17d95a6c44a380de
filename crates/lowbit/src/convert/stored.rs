//! How a tensor lies in the source.

use crate::error::{Error, Result};
use crate::gguf::{Type, bridge};
use crate::layout::Layout;
use crate::matrix::QuantizedMatrix;
use crate::model::load::TensorInfo;
use crate::scheme::Scheme;
use crate::tensor::{Dtype, Tensor};

/// How a tensor lies in the source.
#[derive(Debug)]
pub enum Stored {
    /// As one tensor of this name.
    Plain(String),
    /// As the tensors of a quantized matrix.
    Matrix(Quantized),
}

/// A quantized matrix.
#[derive(Debug)]
pub struct Quantized {
    /// What its bytes mean.
    pub coding: Coding,
    /// Its tensors, as stored.
    pub parts: Vec<TensorInfo>,
}

/// What the bytes of a quantized matrix mean.
#[derive(Debug, Clone, Copy)]
pub enum Coding {
    /// Tensors of a layout.
    Layout(&'static dyn Layout, Scheme),
    /// Blocks of GGUF in one tensor.
    Blocks(&'static Type),
}

/// Types of floats as configs and options name them.
pub(super) const FLOAT_NAMES: &[(&str, Dtype)] = &[
    ("float32", Dtype::F32),
    ("float16", Dtype::F16),
    ("bfloat16", Dtype::BF16),
    ("f32", Dtype::F32),
    ("f16", Dtype::F16),
    ("bf16", Dtype::BF16),
];

/// Schemes that hold what blocks hold: integers around their middle, without a minimum. Those of
/// widths that no scheme has are taken for unknown.
const BLOCKS: &[(&str, &str)] = &[
    ("Q4_0", "w4g32"),
    ("Q5_0", "w5g32"),
    ("Q8_0", "w8g32"),
    ("Q3_K", "w3g16"),
    ("Q6_K", "w6g16"),
    ("TQ1_0", "w2g256-asym"),
    ("TQ2_0", "w2g256-asym"),
];

impl Quantized {
    /// The name of its scheme or type.
    pub fn name(&self) -> String {
        match self.coding {
            Coding::Layout(_, scheme) => scheme.to_string(),
            Coding::Blocks(ty) => ty.name.into(),
        }
    }

    /// The scheme that its values have; none for blocks that no scheme describes.
    pub fn scheme(&self) -> Option<Scheme> {
        match self.coding {
            Coding::Layout(_, scheme) => Some(scheme),
            Coding::Blocks(ty) => {
                let row = BLOCKS.iter().find(|(name, _)| *name == ty.name);
                row.and_then(|(_, scheme)| scheme.parse().ok())
            }
        }
    }

    /// Bits of its codes; none for blocks that are no codes with scales.
    pub fn bits(&self) -> Option<u8> {
        match self.coding {
            Coding::Layout(_, scheme) => Some(scheme.bits),
            Coding::Blocks(ty) => bridge::bits(ty),
        }
    }

    /// Its blocks' type, whose rows can be read by themselves.
    pub(super) fn blocks(&self) -> Option<Dtype> {
        match self.coding {
            Coding::Layout(..) => None,
            Coding::Blocks(ty) => Some(Dtype::Blocks(ty)),
        }
    }

    /// The matrix from the bytes of its tensors; none for blocks that have no such form. Codes as
    /// in `Layout::decode` and `gguf::bridge::matrix`.
    pub(super) fn decode(
        &self,
        module: &str,
        bytes: Vec<Vec<u8>>,
    ) -> Result<Option<QuantizedMatrix>> {
        let tensors = self.parts.iter().zip(bytes).map(|(info, bytes)| Tensor {
            name: info.name.clone(),
            dtype: info.dtype,
            shape: info.shape.clone(),
            bytes,
        });
        let tensors: Vec<_> = tensors.collect();
        match (self.coding, &tensors[..]) {
            (Coding::Layout(layout, scheme), _) => {
                layout.decode(module, &scheme, &tensors).map(Some)
            }
            (Coding::Blocks(ty), [tensor]) => {
                let cols = tensor.shape.last().copied().unwrap_or(1);
                let matrix = bridge::matrix(ty, &tensor.bytes, cols);
                matrix.map_err(|e: Error| e.at(format!("tensor {:?}", tensor.name)))
            }
            (Coding::Blocks(_), _) => Ok(None),
        }
    }
}
