//! The tensors of one matrix, each of the type and shape that it must have.

use crate::container::safetensors::Planned;
use crate::error::{Code, Error, Result};
use crate::matrix::Floats;
use crate::scheme::Scheme;
use crate::tensor::{Dtype, Tensor};

/// The tensors of one matrix.
pub(super) struct Parts<'a> {
    /// The module.
    pub(super) base: &'a str,
    /// In any order.
    pub(super) tensors: &'a [Tensor],
}

impl<'a> Parts<'a> {
    pub(super) fn find(&self, part: &str) -> Option<&'a Tensor> {
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

    /// A part that must be a matrix of this type: its rows and columns.
    pub(super) fn matrix(&self, part: &str, dtype: Dtype) -> Result<(usize, usize, &'a Tensor)> {
        let shape = self.find(part).map_or(&[0, 0][..], |t| &t.shape);
        let tensor = self.get(part, &[dtype], shape)?;
        match *shape {
            // Eight times as much still fits a 32-bit usize, so that sizes below cannot wrap.
            [rows, cols] if (1..1 << 28).contains(&rows) && (1..1 << 28).contains(&cols) => {
                Ok((rows, cols, tensor))
            }
            _ => {
                let what = format!("expected a matrix, found shape {shape:?}");
                Err(Error::new(Code::Qparam, what).at(format!("{:?}", tensor.name)))
            }
        }
    }

    /// A part that holds one float, as a scalar or as a vector of one.
    pub(super) fn single(&self, part: &str, dtypes: &[Dtype]) -> Result<Floats> {
        let scalar = self.find(part).is_some_and(|t| t.shape.is_empty());
        let shape: &[usize] = if scalar { &[] } else { &[1] };
        let tensor = self.get(part, dtypes, shape)?;
        Floats::from_bytes(tensor.dtype, &tensor.bytes)
    }
}

/// Little-endian bytes of words.
pub(super) fn bytes_from_words(words: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0; words.len() * 4];
    for (b, w) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *b = w.to_le_bytes();
    }
    bytes
}

/// Words from little-endian bytes.
pub(super) fn words_from_bytes(bytes: &[u8]) -> Vec<u32> {
    let words = bytes.as_chunks::<4>().0.iter();
    words.map(|b| u32::from_le_bytes(*b)).collect()
}

/// Sizes from little-endian I64; none when one is not above zero or far beyond any matrix.
pub(super) fn sizes_from_bytes(bytes: &[u8]) -> Option<Vec<usize>> {
    let size = |b: &[u8; 8]| {
        // Eight times as much still fits a 32-bit usize, so that products with bits cannot wrap.
        let size = usize::try_from(i64::from_le_bytes(*b)).ok();
        size.filter(|n| (1..1 << 28).contains(n))
    };
    bytes.as_chunks::<8>().0.iter().map(size).collect()
}

/// Puts bytes into planned tensors, in order.
pub(super) fn named(planned: Vec<Planned>, data: Vec<Vec<u8>>) -> Vec<Tensor> {
    let pairs = planned.into_iter().zip(data);
    pairs
        .map(|(Planned { name, dtype, shape }, bytes)| Tensor {
            name,
            dtype,
            shape,
            bytes,
        })
        .collect()
}

/// `[rows, cols]` → `[cols, rows]`.
pub(crate) fn transpose<T: Copy>(values: &[T], cols: usize) -> Vec<T> {
    let column = |c| values.iter().skip(c).step_by(cols).copied();
    (0..cols).flat_map(column).collect()
}

/// Floats `[rows, cols]` → `[cols, rows]`.
pub(super) fn transpose_floats(floats: &Floats, cols: usize) -> Floats {
    let rows = floats.len() / cols;
    floats.gather(rows * cols, |i| i % rows * cols + i / rows)
}

/// `qparam`: a matrix of another form than its scheme says.
pub(super) fn mismatch(scheme: &Scheme) -> Error {
    Error::new(Code::Qparam, format!("the matrix is not {scheme}"))
}

/// A tensor that a layout will write.
pub(super) fn planned(base: &str, part: &str, dtype: Dtype, shape: &[usize]) -> Planned {
    Planned {
        name: format!("{base}.{part}"),
        dtype,
        shape: shape.to_vec(),
    }
}

/// The types that scales of a flexible layout may have.
pub(super) const FLOATS: &[Dtype] = &[Dtype::F32, Dtype::F16, Dtype::BF16];
