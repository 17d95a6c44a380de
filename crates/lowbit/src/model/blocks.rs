//! Matrices that a checkpoint stores as blocks of GGUF.

use super::Stored;
use super::item::floats;
use super::load::TensorInfo;
use crate::error::{Error, Result};
use crate::gguf::{Type, bridge};
use crate::tensor::{Dtype, Tensor, bytes_from_f32};

/// Largest value of a half.
const HALF_MAX: f32 = 65_504.0;

/// A matrix of `cols` columns in one tensor: floats, or blocks in the form of a quantized matrix
/// where they have one and as floats where they have none.
pub(super) fn stored(tensor: Tensor, cols: usize) -> Result<Stored> {
    let Dtype::Blocks(ty) = tensor.dtype else {
        return Ok(Stored::Dense(tensor));
    };
    let place = |e: Error| e.at(format!("tensor {:?}", tensor.name));
    if let Some(matrix) = bridge::matrix(ty, &tensor.bytes, cols).map_err(place)? {
        return Ok(Stored::Quantized(matrix));
    }
    let values = floats(&tensor)?;
    // Half the memory, and more exact than the blocks are, where the values allow it.
    let half = values.iter().all(|v| v.abs() <= HALF_MAX);
    let dtype = if half { Dtype::F16 } else { Dtype::F32 };
    Ok(Stored::Dense(Tensor {
        bytes: bytes_from_f32(dtype, &values)?,
        dtype,
        ..tensor
    }))
}

/// The types of the blocks among a checkpoint's tensors, each once.
pub fn types(tensors: &[TensorInfo]) -> Vec<&'static Type> {
    let mut types = Vec::new();
    for tensor in tensors {
        if let Dtype::Blocks(ty) = tensor.dtype
            && !types.contains(&ty)
        {
            types.push(ty);
        }
    }
    types
}
