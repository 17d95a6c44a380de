//! Named arrays of numbers as they lie in files, and their way to f32 and back.

use crate::error::{Code, Error, Result};
use crate::gguf::{self, Type};
use half::{bf16, f16};

/// Declares the data types once: variant, safetensors name, bits.
macro_rules! dtypes {
    ($($variant:ident $name:literal $bits:literal,)*) => {
        /// Element types of the safetensors format, all little-endian, and the blocks of GGUF.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Dtype {
            $(#[doc = $name] $variant,)*
            /// Blocks of several values; rows are whole blocks. Only GGUF files hold them.
            Blocks(&'static Type),
        }

        impl Dtype {
            /// Every type of safetensors, in the order of this table.
            pub const ALL: &[Dtype] = &[$(Dtype::$variant,)*];

            /// The name in a safetensors header, or that of the blocks.
            pub const fn name(self) -> &'static str {
                match self { $(Dtype::$variant => $name,)* Dtype::Blocks(ty) => ty.name }
            }

            /// Bits per element; of blocks the whole bits of their mean.
            pub const fn bits(self) -> usize {
                match self {
                    $(Dtype::$variant => $bits,)*
                    Dtype::Blocks(ty) => ty.bytes * 8 / ty.block,
                }
            }
        }
    };
}

dtypes! {
    Bool "BOOL" 8, F4 "F4" 4, F6E2M3 "F6_E2M3" 6, F6E3M2 "F6_E3M2" 6,
    U8 "U8" 8, I8 "I8" 8, F8E5M2 "F8_E5M2" 8, F8E4M3 "F8_E4M3" 8, F8E8M0 "F8_E8M0" 8,
    F8E4M3Fnuz "F8_E4M3FNUZ" 8, F8E5M2Fnuz "F8_E5M2FNUZ" 8,
    I16 "I16" 16, U16 "U16" 16, F16 "F16" 16, BF16 "BF16" 16,
    I32 "I32" 32, U32 "U32" 32, F32 "F32" 32,
    C64 "C64" 64, F64 "F64" 64, I64 "I64" 64, U64 "U64" 64,
}

impl Dtype {
    /// The distance from 1 to the next number of a type of floats: what compressed-tensors stores
    /// instead of a scale of 0.
    pub(crate) fn epsilon(self) -> f32 {
        match self {
            Dtype::BF16 => 1.0 / 128.0,
            Dtype::F16 => 1.0 / 1024.0,
            _ => f32::EPSILON,
        }
    }

    /// Looks a type up by its safetensors name; `dtype` lists the known ones otherwise.
    pub fn parse(name: &str) -> Result<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|d| d.name() == name)
            .ok_or_else(|| {
                let known: Vec<_> = Self::ALL.iter().map(|d| d.name()).collect();
                Error::new(
                    Code::Dtype,
                    format!("unknown dtype {name:?}; known: {}", known.join(", ")),
                )
            })
    }

    /// Looks a type up by its safetensors name or by that of GGUF's blocks; `dtype` otherwise.
    pub fn parse_stored(name: &str) -> Result<Self> {
        let blocks = gguf::types::TYPES.iter().find(|ty| ty.name == name);
        Self::parse(name).or_else(|error| blocks.map(|ty| ty.dtype()).ok_or(error))
    }
}

/// Bytes of `shape` elements of `dtype`; `shape` on overflow, `align` when not whole bytes, `block`
/// when rows are no whole blocks.
pub fn checked_bytes(dtype: Dtype, shape: &[usize]) -> Result<u64> {
    let overflow = || {
        Error::new(
            Code::Shape,
            format!("shape {shape:?} of {} overflows", dtype.name()),
        )
    };
    let elements = shape
        .iter()
        .try_fold(1u64, |n, &d| n.checked_mul(d as u64))
        .ok_or_else(overflow)?;
    if let Dtype::Blocks(ty) = dtype {
        let cols = shape.last().copied().unwrap_or(1);
        let row = ty.row_bytes(cols)? as u64;
        return (elements / cols.max(1) as u64)
            .checked_mul(row)
            .ok_or_else(overflow);
    }
    let bits = elements
        .checked_mul(dtype.bits() as u64)
        .ok_or_else(overflow)?;
    if !bits.is_multiple_of(8) {
        let what = format!("{elements} elements of {} end inside a byte", dtype.name());
        return Err(Error::new(Code::Align, what));
    }
    Ok(bits / 8)
}

/// A borrowed array: type, shape and little-endian bytes in row-major order.
#[derive(Debug, Clone, Copy)]
pub struct TensorRef<'a> {
    /// Element type.
    pub dtype: Dtype,
    /// Extent of each dimension, outermost first.
    pub shape: &'a [usize],
    /// Exactly `checked_bytes(dtype, shape)` bytes.
    pub bytes: &'a [u8],
}

impl<'a> TensorRef<'a> {
    /// Binds bytes to a type and a shape; `shape` when their sizes differ.
    pub fn new(dtype: Dtype, shape: &'a [usize], bytes: &'a [u8]) -> Result<Self> {
        let wanted = checked_bytes(dtype, shape)?;
        if wanted != bytes.len() as u64 {
            let what = format!(
                "{} {shape:?} needs {wanted} bytes, found {}",
                dtype.name(),
                bytes.len()
            );
            return Err(Error::new(Code::Shape, what));
        }
        Ok(Self {
            dtype,
            shape,
            bytes,
        })
    }

    /// Rows and columns of a matrix; `shape` for any other rank.
    pub fn matrix(&self) -> Result<(usize, usize)> {
        match *self.shape {
            [rows, cols] => Ok((rows, cols)),
            _ => Err(Error::new(
                Code::Shape,
                format!("expected a matrix, found shape {:?}", self.shape),
            )),
        }
    }

    /// All elements widened to f32; `dtype` for types that are neither plain floats nor blocks.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let mut out = vec![0.0; self.shape.iter().product()];
        f32_from(self.dtype, self.bytes, &mut out)?;
        Ok(out)
    }
}

/// An owned, named array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Name inside the checkpoint.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Extent of each dimension, outermost first.
    pub shape: Vec<usize>,
    /// Little-endian bytes in row-major order.
    pub bytes: Vec<u8>,
}

impl Tensor {
    /// Borrows the array; fails when shape and bytes disagree.
    pub fn view(&self) -> Result<TensorRef<'_>> {
        TensorRef::new(self.dtype, &self.shape, &self.bytes)
    }
}

/// Widens little-endian floats into `out`, whose length says how many; exact. Blocks are decoded, with
/// the codes of `gguf::decode`.
pub fn f32_from(dtype: Dtype, bytes: &[u8], out: &mut [f32]) -> Result<()> {
    match dtype {
        Dtype::F32 => widen::<4>(bytes, out, f32::from_le_bytes),
        Dtype::F16 => widen::<2>(bytes, out, |b| f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => widen::<2>(bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
        Dtype::F64 => widen::<8>(bytes, out, |b| f64::from_le_bytes(b) as f32),
        Dtype::Blocks(ty) => gguf::decode(ty, bytes, out)?,
        other => {
            let what = format!("dtype {} is not a plain float", other.name());
            return Err(Error::new(Code::Dtype, what).remedy("expected F32, F16, BF16 or F64"));
        }
    }
    Ok(())
}

fn widen<const N: usize>(bytes: &[u8], out: &mut [f32], f: impl Fn([u8; N]) -> f32) {
    assert_eq!(
        bytes.len(),
        out.len() * N,
        "byte length must match the element count"
    );
    for (o, b) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *o = f(*b);
    }
}

/// Narrows to `dtype` with ties to even; `dtype` for types that are not plain floats.
pub fn bytes_from_f32(dtype: Dtype, values: &[f32]) -> Result<Vec<u8>> {
    Ok(match dtype {
        Dtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Dtype::F16 => values
            .iter()
            .flat_map(|v| f16::from_f32(*v).to_le_bytes())
            .collect(),
        Dtype::BF16 => values
            .iter()
            .flat_map(|v| bf16::from_f32(*v).to_le_bytes())
            .collect(),
        other => {
            let what = format!("cannot write floats as {}", other.name());
            return Err(Error::new(Code::Dtype, what).remedy("expected F32, F16 or BF16"));
        }
    })
}

/// Rounds a value to what `dtype` can store, ties to even.
pub fn round_to(dtype: Dtype, value: f32) -> f32 {
    match dtype {
        Dtype::F16 => f16::from_f32(value).to_f32(),
        Dtype::BF16 => bf16::from_f32(value).to_f32(),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_survive_the_round_trip() {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            let values = [0.0f32, -0.0, 1.5, -2.25, 0.007_812_5];
            let bytes = bytes_from_f32(dtype, &values).unwrap();
            let view = TensorRef::new(dtype, &[5], &bytes).unwrap();
            assert_eq!(view.to_f32().unwrap(), values);
        }
    }

    #[test]
    fn sizes_are_checked() {
        assert_eq!(
            checked_bytes(Dtype::F4, &[3]).unwrap_err().code,
            Code::Align
        );
        assert_eq!(
            checked_bytes(Dtype::F32, &[usize::MAX, 2])
                .unwrap_err()
                .code,
            Code::Shape
        );
        assert_eq!(Dtype::parse("F31").unwrap_err().code, Code::Dtype);
    }

    #[test]
    fn blocks_have_whole_rows_and_stay_out_of_safetensors() {
        let q4_k = Dtype::parse_stored("Q4_K").unwrap();
        assert_eq!((q4_k.name(), q4_k.bits()), ("Q4_K", 4));
        assert_eq!(checked_bytes(q4_k, &[3, 512]).unwrap(), 3 * 2 * 144);
        assert_eq!(
            checked_bytes(q4_k, &[512, 3]).unwrap_err().code,
            Code::Block
        );
        assert_eq!(Dtype::parse("Q4_K").unwrap_err().code, Code::Dtype);
        assert_eq!(Dtype::parse_stored("BF16").unwrap(), Dtype::BF16);
        let scale_of_one = [&[0u8, 0x3c][..], &[0x11; 32]].concat();
        let q8_0 = Dtype::parse_stored("Q8_0").unwrap();
        let view = TensorRef::new(q8_0, &[1, 32], &scale_of_one).unwrap();
        assert_eq!(view.to_f32().unwrap(), [17.0; 32]);
    }
}
