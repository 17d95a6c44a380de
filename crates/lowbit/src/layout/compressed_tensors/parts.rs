//! The tensors of one matrix, each of the type and shape that it must have.

use super::stream;
use crate::error::{Code, Error, Result};
use crate::tensor::{Dtype, Tensor};

/// The tensors of one matrix.
pub(super) struct Parts<'a> {
    /// The module.
    pub(super) base: &'a str,
    /// In any order.
    pub(super) tensors: &'a [Tensor],
}

impl<'a> Parts<'a> {
    fn find(&self, part: &str) -> Option<&'a Tensor> {
        let ending = |t: &'a Tensor| t.name.strip_prefix(self.base)?.strip_prefix('.');
        self.tensors.iter().find(|t| ending(t) == Some(part))
    }

    /// A part that must have this type and shape.
    pub(super) fn get(&self, part: &str, dtypes: &[Dtype], shape: &[usize]) -> Result<&'a Tensor> {
        let place = format!("tensor \"{}.{part}\"", self.base);
        let Some(tensor) = self.find(part) else {
            return Err(Error::new(Code::MissingTensor, "the tensor is missing").at(place));
        };
        if !dtypes.contains(&tensor.dtype) {
            let names: Vec<_> = dtypes.iter().map(|d| d.name()).collect();
            let what = format!(
                "dtype {}, expected {}",
                tensor.dtype.name(),
                names.join(" or ")
            );
            return Err(Error::new(Code::Dtype, what).at(place));
        }
        if tensor.shape != shape {
            let what = format!("shape {:?}, expected {shape:?}", tensor.shape);
            return Err(Error::new(Code::Qparam, what).at(place));
        }
        tensor.view().map_err(|e| e.at(place))?;
        Ok(tensor)
    }

    /// Rows and columns as `weight_shape` says.
    pub(super) fn shape(&self) -> Result<(usize, usize)> {
        let tensor = self.get("weight_shape", &[Dtype::I64], &[2])?;
        let sizes = tensor
            .bytes
            .as_chunks::<8>()
            .0
            .iter()
            .map(|b| i64::from_le_bytes(*b));
        let sizes: Vec<_> = sizes.filter_map(|n| usize::try_from(n).ok()).collect();
        match sizes[..] {
            // Eight times as much still fits a 32-bit usize, so that sizes below cannot wrap.
            [rows, cols] if rows < 1 << 28 && cols < 1 << 28 => Ok((rows, cols)),
            _ => {
                let what = "weight_shape does not hold two sizes";
                Err(Error::new(Code::Qparam, what).at(format!("{:?}", self.base)))
            }
        }
    }

    /// The group of each column, if stored; every group must have its share of columns.
    pub(super) fn groups(&self, cols: usize, group: usize) -> Result<Option<Vec<u32>>> {
        if self.find("weight_g_idx").is_none() {
            return Ok(None);
        }
        let tensor = self.get("weight_g_idx", &[Dtype::I32], &[cols])?;
        let index = stream::words_from_bytes(&tensor.bytes);
        let mut counts = vec![0; cols / group];
        let wrong = |what: String| Error::new(Code::Qparam, what).at(format!("{:?}", tensor.name));
        for g in &index {
            let Some(count) = counts.get_mut(*g as usize) else {
                return Err(wrong(format!(
                    "group {} of {}",
                    g.cast_signed(),
                    counts.len()
                )));
            };
            *count += 1;
        }
        match counts.iter().position(|c| *c != group) {
            Some(g) => {
                let count = counts[g];
                Err(wrong(format!(
                    "group {g} has {count} columns, expected {group}"
                )))
            }
            None => Ok(Some(index)),
        }
    }
}
