//! Scale factors in the forms that layouts store them in.

use super::Floats;
use std::borrow::Cow;

/// Scale factors, kept as stored; [`Scales::get`] says what they come to.
#[derive(Debug, Clone, PartialEq)]
pub enum Scales {
    /// One float per group, `[rows, groups]`.
    Flat(Floats),
    /// One float per group over one number for the matrix: NVFP4 (E4M3 over its global scale),
    /// LLM.int8 (row maxima over 127).
    Divided {
        /// One per group.
        values: Floats,
        /// What every one is divided by.
        divisor: f32,
    },
    /// A float per super-block times a small integer per group.
    Super {
        /// One per `per` groups.
        outer: Floats,
        /// One per group.
        inner: Vec<u8>,
        /// Groups per super-block.
        per: usize,
    },
    /// bitsandbytes' double quantization.
    Nested(Nested),
}

/// Scales as 8-bit codes: `map[code] · absmax + offset`.
#[derive(Debug, Clone, PartialEq)]
pub struct Nested {
    /// One per group.
    pub codes: Vec<u8>,
    /// The 256 values that codes stand for.
    pub map: Vec<f32>,
    /// One per `per` codes; the last one may have fewer.
    pub absmax: Vec<f32>,
    /// Codes that share an absolute maximum.
    pub per: usize,
    /// Mean of the scales.
    pub offset: f32,
}

impl Scales {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Flat(f) | Self::Divided { values: f, .. } => f.len(),
            Self::Super { inner, .. } => inner.len(),
            Self::Nested(n) => n.codes.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Scale `i` in f32, rounded once per operation in the order written down here.
    #[inline]
    pub fn get(&self, i: usize) -> f32 {
        match self {
            Self::Flat(f) => f.get(i),
            Self::Divided { values, divisor } => values.get(i) / divisor,
            Self::Super { outer, inner, per } => outer.get(i / per) * f32::from(inner[i]),
            Self::Nested(n) => n.map[usize::from(n.codes[i])] * n.absmax[i / n.per] + n.offset,
        }
    }

    /// All of them as F32, F16 or BF16 floats, which is what kernels read.
    pub fn plain(&self) -> Cow<'_, Floats> {
        match self {
            Self::Flat(f @ (Floats::F32(_) | Floats::F16(_) | Floats::Bf16(_))) => Cow::Borrowed(f),
            _ => Cow::Owned(Floats::F32((0..self.len()).map(|i| self.get(i)).collect())),
        }
    }

    /// Bytes that they take in a file.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Flat(f) => f.bytes(),
            Self::Divided { values, .. } => values.bytes() + 4,
            Self::Super { outer, inner, .. } => outer.bytes() + inner.len(),
            Self::Nested(n) => n.codes.len() + 4 * (n.absmax.len() + n.map.len() + 1),
        }
    }

    /// Whether the parts fit each other, so that `get` has an answer for every index.
    pub(super) fn is_sound(&self) -> bool {
        match self {
            Self::Flat(_) => true,
            Self::Divided { divisor, .. } => divisor.is_finite() && *divisor != 0.0,
            Self::Super { outer, inner, per } => *per > 0 && outer.len() * per >= inner.len(),
            Self::Nested(n) => {
                n.per > 0 && n.map.len() == 256 && n.absmax.len() * n.per >= n.codes.len()
            }
        }
    }
}
