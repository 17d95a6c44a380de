//! The in-memory form that every format decodes to and every kernel is packed from.
//!
//! A `QuantizedMatrix` is never widened into a dense matrix on the way to a kernel. Scales stay in
//! the type they are stored in, so that writing a matrix back gives the bytes it was read from.

use crate::error::{Code, Error, Result};
use crate::pack;
use crate::scheme::Element;
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
}

impl Floats {
    /// Rounds values to `dtype`, ties to even; `dtype` when it is not F32, F16 or BF16.
    pub fn from_f32(dtype: Dtype, values: &[f32]) -> Result<Self> {
        Self::from_bytes(dtype, &bytes_from_f32(dtype, values)?)
    }

    /// Takes little-endian bytes as they lie in a file.
    pub fn from_bytes(dtype: Dtype, bytes: &[u8]) -> Result<Self> {
        let halves = || {
            bytes
                .as_chunks::<2>()
                .0
                .iter()
                .map(|b| u16::from_le_bytes(*b))
                .collect()
        };
        match dtype {
            Dtype::F32 => Ok(Self::F32(
                bytes
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|b| f32::from_le_bytes(*b))
                    .collect(),
            )),
            Dtype::F16 => Ok(Self::F16(halves())),
            Dtype::BF16 => Ok(Self::Bf16(halves())),
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
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F16(v) | Self::Bf16(v) => v.len(),
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
        }
    }

    /// Little-endian bytes as they lie in a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::F16(v) | Self::Bf16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }
}

/// Unsigned codes of a matrix: per row a dense bit stream, element 0 in the lowest bits.
///
/// ```text
/// word 0 of a row, 4 bits:  [31..28 | … | 7..4 | 3..0] = code 7 … code 1, code 0
/// ```
/// Rows start on a word; 32 codes take exactly `bits` words and may straddle two of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Codes {
    /// Bits per code.
    pub bits: u8,
    /// Words per row: `ceil(cols · bits / 32)`.
    pub row_words: usize,
    /// Row after row.
    pub words: Vec<u32>,
}

/// Where the codes' zero is; `q` is the unsigned code, `s` the scale.
#[derive(Debug, Clone, PartialEq)]
pub enum Zero {
    /// `s · (q − 2^(bits−1))`.
    Centre,
    /// `s · (q − z)` with an integer z per group, unsigned like the codes.
    Int(Vec<u8>),
    /// `s · (q − z)` with a float z per group (HQQ).
    Float(Floats),
    /// `s · q − m` with a minimum per group (GGUF legacy and k-quants).
    Min(Floats),
}

/// Scale factors, kept as stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Scales {
    /// One float per group, `[rows, groups]`.
    Flat(Floats),
    /// A float per super-block times a small integer per group.
    Super {
        /// One per `per` groups.
        outer: Floats,
        /// One per group.
        inner: Vec<u8>,
        /// Groups per super-block.
        per: usize,
    },
}

/// Integer codes with scales: GPTQ, AWQ, compressed-tensors, HQQ, INT8, k-quants.
#[derive(Debug, Clone, PartialEq)]
pub struct Integer {
    /// The codes, `[rows, cols]`.
    pub codes: Codes,
    /// Columns that share a scale; divides `cols`.
    pub group: usize,
    /// Scale per row and group.
    pub scales: Scales,
    /// Zero per row and group.
    pub zero: Zero,
    /// `order[j]` is the group of input column j when groups are not runs (`g_idx`).
    pub group_of_col: Option<Vec<u32>>,
}

/// Codes into a table of at most 16 values: NF4, FP4, MXFP4, NVFP4, IQ4.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// 4-bit codes, `[rows, cols]`.
    pub codes: Codes,
    /// The values that codes stand for.
    pub values: Vec<f32>,
    /// Columns that share a scale.
    pub group: usize,
    /// Scale per row and group.
    pub scales: Scales,
}

/// One byte per weight in a small float type: FP8.
#[derive(Debug, Clone, PartialEq)]
pub struct Minifloat {
    /// The element type.
    pub dtype: Dtype,
    /// Raw bytes, `[rows, cols]`.
    pub bytes: Vec<u8>,
    /// Rows and columns that share a scale.
    pub block: (usize, usize),
    /// Scale per block, row-major over blocks.
    pub scales: Floats,
}

/// The values of a quantized matrix, by kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Integer codes.
    Integer(Integer),
    /// Table codes.
    Table(Table),
    /// Small floats.
    Minifloat(Minifloat),
}

/// A matrix of `rows` outputs × `cols` inputs in quantized form.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedMatrix {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// The values, by kind.
    pub values: Values,
    /// How inputs are rounded before the product; none when they are left alone.
    pub inputs: Option<Inputs>,
}

/// Rounding of the inputs of a matrix at run time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Inputs {
    /// `Element::Int` for integers of `bits`, `Element::Fp8` for E4M3, `Element::Nvfp4` for E2M1.
    pub element: Element,
    /// Bits per value.
    pub bits: u8,
    /// One scale for every input, from calibration; a scale per token otherwise.
    pub scale: Option<f32>,
}

impl QuantizedMatrix {
    /// The integer kind; `unsupported` for the others, naming who asked.
    pub fn integer(&self, asked_by: &str) -> Result<&Integer> {
        match &self.values {
            Values::Integer(m) => Ok(m),
            Values::Table(_) | Values::Minifloat(_) => Err(Error::new(
                Code::Unsupported,
                format!("{asked_by} needs integer codes"),
            )),
        }
    }

    /// Checks that sizes agree, scales are finite and zeros are codes; `qparam` otherwise.
    pub fn validate(&self) -> Result<()> {
        let m = self.integer("validation")?;
        let bad = |what: String| Err(Error::new(Code::Qparam, what));
        if m.group == 0 || !self.cols.is_multiple_of(m.group) {
            return bad(format!(
                "group {} does not divide {} columns",
                m.group, self.cols
            ));
        }
        let groups = self.rows * (self.cols / m.group);
        let row_words = (self.cols * usize::from(m.codes.bits)).div_ceil(32);
        if m.codes.row_words != row_words || m.codes.words.len() != self.rows * row_words {
            return bad(format!(
                "{} code words for {}×{}",
                m.codes.words.len(),
                self.rows,
                self.cols
            ));
        }
        let Scales::Flat(scales) = &m.scales else {
            return bad("super-block scales are not handled yet".into());
        };
        if scales.len() != groups {
            return bad(format!("{} scales for {groups} groups", scales.len()));
        }
        if let Some(i) = (0..groups).find(|&i| !scales.get(i).is_finite()) {
            return bad(format!("scale {i} is {}", scales.get(i)));
        }
        if let Zero::Int(zeros) = &m.zero {
            if zeros.len() != groups {
                return bad(format!("{} zero points for {groups} groups", zeros.len()));
            }
            if let Some(z) = zeros.iter().find(|z| u32::from(**z) >> m.codes.bits != 0) {
                return bad(format!("zero point {z} does not fit {} bits", m.codes.bits));
            }
        }
        match m
            .group_of_col
            .as_ref()
            .and_then(|g| g.iter().find(|g| **g as usize >= self.cols / m.group))
        {
            Some(g) => bad(format!("group index {g} of {}", self.cols / m.group)),
            None => Ok(()),
        }
    }

    /// Row `row` as floats, for reports, tests and lookups of single rows.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) -> Result<()> {
        let m = self.integer("dequantize_row")?;
        let words = &m.codes.words[row * m.codes.row_words..][..m.codes.row_words];
        let mut codes = vec![0u8; self.cols];
        pack::codes_from_words(words, m.codes.bits, &mut codes);
        let Scales::Flat(scales) = &m.scales else {
            return Err(Error::new(
                Code::Unsupported,
                "dequantize_row needs flat scales",
            ));
        };
        let groups = self.cols / m.group;
        for (j, o) in out.iter_mut().enumerate() {
            let in_row = m
                .group_of_col
                .as_ref()
                .map_or(j / m.group, |g| g[j] as usize);
            let g = row * groups + in_row;
            let q = f32::from(codes[j]);
            *o = match &m.zero {
                Zero::Centre => scales.get(g) * (q - f32::from(1u8 << (m.codes.bits - 1))),
                Zero::Int(z) => scales.get(g) * (q - f32::from(z[g])),
                Zero::Float(z) => scales.get(g) * (q - z.get(g)),
                Zero::Min(min) => scales.get(g) * q - min.get(g),
            };
        }
        Ok(())
    }
}
