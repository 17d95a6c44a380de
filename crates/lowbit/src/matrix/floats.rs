//! Floats in the type they are stored in.

use crate::error::{Code, Error, Result};
use crate::minifloat::{f32_from_e4m3, f32_from_e8m0};
use crate::tensor::{Dtype, bytes_from_f32};
use half::{bf16, f16};

/// Floats in the type they are stored in.
#[derive(Debug, Clone, PartialEq)]
pub enum Floats {
    /// Single precision.
    F32(Vec<f32>),
    /// IEEE half precision, raw bits.
    F16(Vec<u16>),
    /// bfloat16, raw bits.
    Bf16(Vec<u16>),
    /// E4M3, raw bits.
    E4m3(Vec<u8>),
    /// E8M0, raw bits.
    E8m0(Vec<u8>),
}

impl Floats {
    /// Rounds values to `dtype`, ties to even; `dtype` when it is not F32, F16 or BF16.
    pub fn from_f32(dtype: Dtype, values: &[f32]) -> Result<Self> {
        Self::from_bytes(dtype, &bytes_from_f32(dtype, values)?)
    }

    /// Floats of the same type whose element `i` of `len` is element `source(i)` of these.
    #[must_use]
    pub fn gather(&self, len: usize, source: impl Fn(usize) -> usize) -> Self {
        fn take<T: Copy>(from: &[T], len: usize, source: impl Fn(usize) -> usize) -> Vec<T> {
            (0..len).map(|i| from[source(i)]).collect()
        }
        match self {
            Self::F32(v) => Self::F32(take(v, len, source)),
            Self::F16(v) => Self::F16(take(v, len, source)),
            Self::Bf16(v) => Self::Bf16(take(v, len, source)),
            Self::E4m3(v) => Self::E4m3(take(v, len, source)),
            Self::E8m0(v) => Self::E8m0(take(v, len, source)),
        }
    }

    /// Takes little-endian bytes as they lie in a file; `qparam` for types that are no scales.
    pub fn from_bytes(dtype: Dtype, bytes: &[u8]) -> Result<Self> {
        let halves = || {
            let pairs = bytes.as_chunks::<2>().0.iter();
            pairs.map(|b| u16::from_le_bytes(*b)).collect()
        };
        let singles = || {
            let quads = bytes.as_chunks::<4>().0.iter();
            quads.map(|b| f32::from_le_bytes(*b)).collect()
        };
        match dtype {
            Dtype::F32 => Ok(Self::F32(singles())),
            Dtype::F16 => Ok(Self::F16(halves())),
            Dtype::BF16 => Ok(Self::Bf16(halves())),
            Dtype::F8E4M3 => Ok(Self::E4m3(bytes.to_vec())),
            Dtype::F8E8M0 => Ok(Self::E8m0(bytes.to_vec())),
            other => {
                let what = format!("scales of dtype {}", other.name());
                Err(Error::new(Code::Qparam, what).remedy("expected F32, F16 or BF16"))
            }
        }
    }

    /// The stored type.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::F16(_) => Dtype::F16,
            Self::Bf16(_) => Dtype::BF16,
            Self::E4m3(_) => Dtype::F8E4M3,
            Self::E8m0(_) => Dtype::F8E8M0,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F16(v) | Self::Bf16(v) => v.len(),
            Self::E4m3(v) | Self::E8m0(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element `i`, widened exactly.
    #[inline]
    pub fn get(&self, i: usize) -> f32 {
        match self {
            Self::F32(v) => v[i],
            Self::F16(v) => f16::from_bits(v[i]).to_f32(),
            Self::Bf16(v) => bf16::from_bits(v[i]).to_f32(),
            Self::E4m3(v) => f32_from_e4m3(v[i]),
            Self::E8m0(v) => f32_from_e8m0(v[i]),
        }
    }

    /// Bytes that they take in a file.
    pub fn bytes(&self) -> usize {
        self.len() * self.dtype().bits() / 8
    }

    /// Little-endian bytes as they lie in a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::F16(v) | Self::Bf16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::E4m3(v) | Self::E8m0(v) => v.clone(),
        }
    }
}
