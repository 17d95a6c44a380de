//! Sixteen rows interleaved: the one layout that every instruction set reads.
//!
//! ```text
//! floats   [panel][column] → 16 values, one per row
//! 4 bits   [panel][8 columns] → 16 words, one per row:
//!          word = c7 c3 | c6 c2 | c5 c1 | c4 c0        (bytes 3 2 1 0, high nibble first)
//! 8 bits   [panel][4 columns] → 16 words, one per row:
//!          word = c3 | c2 | c1 | c0
//! scales   [panel][group] → 16 values, one per row
//! ```
//! One AND and one shift turn 64 bytes of 4-bit codes into the operands of two dot products whose
//! 32-bit lanes each belong to one row, so nothing is folded across lanes.
//! Rows are padded with zeros to a whole panel.

use crate::matrix::Floats;
use crate::tensor::Dtype;
use half::{bf16, f16};

/// Rows of a panel.
pub const ROWS: usize = 16;

/// Sixteen code words, aligned so that a 64-byte load touches one cache line.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub struct Words(pub [u32; ROWS]);

/// Sixteen single-precision values.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub struct Singles(pub [f32; ROWS]);

/// Sixteen half-precision values of either kind, raw bits.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(32))]
pub struct Halves(pub [u16; ROWS]);

/// Floats in panel order, in the type they are stored in.
#[derive(Debug, Clone)]
pub enum Lanes {
    /// Single precision.
    F32(Vec<Singles>),
    /// IEEE half precision.
    F16(Vec<Halves>),
    /// bfloat16.
    Bf16(Vec<Halves>),
}

impl Lanes {
    /// Interleaves a row-major matrix `[rows, cols]`; element (r, j) of the result is element
    /// `source(r, j)` of `values`. Floats of one byte are widened.
    pub fn interleave(
        values: &Floats,
        rows: usize,
        cols: usize,
        source: impl Fn(usize, usize) -> usize,
    ) -> Self {
        let len = rows.div_ceil(ROWS) * cols;
        let mut singles = vec![];
        let mut halves = vec![];
        let wide = !matches!(values, Floats::F16(_) | Floats::Bf16(_));
        singles.resize(if wide { len } else { 0 }, Singles::default());
        halves.resize(if wide { 0 } else { len }, Halves::default());
        for r in 0..rows {
            let (panel, lane) = (r / ROWS, r % ROWS);
            for j in 0..cols {
                let (i, at) = (source(r, j), panel * cols + j);
                match values {
                    Floats::F16(v) | Floats::Bf16(v) => halves[at].0[lane] = v[i],
                    _ => singles[at].0[lane] = values.get(i),
                }
            }
        }
        match values {
            Floats::F16(_) => Self::F16(halves),
            Floats::Bf16(_) => Self::Bf16(halves),
            _ => Self::F32(singles),
        }
    }

    /// Lane `lane` of vector `at`, widened exactly.
    #[inline]
    pub fn get(&self, at: usize, lane: usize) -> f32 {
        match self {
            Self::F32(v) => v[at].0[lane],
            Self::F16(v) => f16::from_bits(v[at].0[lane]).to_f32(),
            Self::Bf16(v) => bf16::from_bits(v[at].0[lane]).to_f32(),
        }
    }

    /// The type of the values.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::F16(_) => Dtype::F16,
            Self::Bf16(_) => Dtype::BF16,
        }
    }

    /// Lane `lane` of the vectors from `at` on, as little-endian bytes of their own type.
    pub fn copy_lane(&self, at: usize, lane: usize, out: &mut [u8]) {
        match self {
            Self::F32(v) => {
                for (out, v) in out.as_chunks_mut::<4>().0.iter_mut().zip(&v[at..]) {
                    *out = v.0[lane].to_le_bytes();
                }
            }
            Self::F16(v) | Self::Bf16(v) => {
                for (out, v) in out.as_chunks_mut::<2>().0.iter_mut().zip(&v[at..]) {
                    *out = v.0[lane].to_le_bytes();
                }
            }
        }
    }

    /// Calls `line` with the address of each cache line of `len` vectors from `at` on.
    #[inline(always)]
    pub(super) fn prefetch(&self, at: usize, len: usize, line: impl Fn(*const u8)) {
        match self {
            Self::F32(v) => v
                .iter()
                .skip(at)
                .take(len)
                .for_each(|v| line(v.0.as_ptr().cast())),
            Self::F16(v) | Self::Bf16(v) => {
                let lines = v.iter().skip(at).take(len).step_by(2);
                lines.for_each(|v| line(v.0.as_ptr().cast()));
            }
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        match self {
            Self::F32(v) => size_of_val(v.as_slice()),
            Self::F16(v) | Self::Bf16(v) => size_of_val(v.as_slice()),
        }
    }
}

/// Kernels by what codes stand for: numbers of 4 or 8 bits, places in a table, E4M3. The low digit
/// is the number of bits.
pub(super) const NIBBLE: u8 = 0x04;
pub(super) const BYTE: u8 = 0x08;
pub(super) const TABLE: u8 = 0x14;
pub(super) const E4M3: u8 = 0x18;

/// Bits of a kernel's codes.
pub(super) const fn bits_of(kind: u8) -> u8 {
    kind & 15
}

/// Codes in one word.
pub const fn codes_per_word(bits: u8) -> usize {
    32 / bits as usize
}

/// Bit at which code `k` of a word starts.
pub const fn shift_of(bits: u8, k: usize) -> u32 {
    let byte = 8 * (k as u32 % 4);
    if bits == 4 {
        byte + 4 * (k as u32 / 4)
    } else {
        byte
    }
}

/// Interleaves codes: `code(r, k)` is the code of row r at padded column k, below `2^bits`.
///
/// `width` padded columns make whole words.
pub fn interleave_codes(
    rows: usize,
    width: usize,
    bits: u8,
    mut row_codes: impl FnMut(usize, &mut [u8]),
) -> Vec<Words> {
    let per = codes_per_word(bits);
    let steps = width / per;
    let mut words = vec![Words::default(); rows.div_ceil(ROWS) * steps];
    let mut row = vec![0u8; width];
    for r in 0..rows {
        row_codes(r, &mut row);
        for (step, codes) in row.chunks_exact(per).enumerate() {
            let mut word = 0;
            for (k, &code) in codes.iter().enumerate() {
                word |= u32::from(code) << shift_of(bits, k);
            }
            words[(r / ROWS) * steps + step].0[r % ROWS] = word;
        }
    }
    words
}
