//! Matrices in the form that kernels read; `arrange.rs` makes it from stored forms.

use super::panel::{self, Lanes, ROWS, Words};
use crate::cpu::Compute;
use crate::error::{Code, Error, Result};
use crate::matrix::Inputs;
use crate::minifloat::f32_from_e4m3;
use crate::tensor::Dtype;

/// Marks a padded column in [`Packed::columns`]; its input counts as zero.
pub const PADDING: u32 = u32::MAX;

/// A matrix in the form that the kernels of this host read.
#[derive(Debug, Clone)]
pub enum Weight {
    /// Floats as stored in the checkpoint, widened tile by tile in registers or cache.
    Dense(Dense),
    /// Integer codes rearranged once for the kernels and a compute mode.
    Packed(Packed),
}

/// A dense matrix in panels, in its stored type.
#[derive(Debug, Clone)]
pub struct Dense {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// `[panel][column]`, see [`panel`].
    pub values: Lanes,
}

/// Zeros in panel order; the meaning is that of [`Zero`].
#[derive(Debug, Clone)]
pub enum Zeros {
    /// The same integer for the whole matrix.
    Centre(i32),
    /// One integer per row and group, `[panel][group]`.
    Int(Vec<[u8; ROWS]>),
    /// One float per row and group: `s · (q − z)`.
    Float(Lanes),
    /// One minimum per row and group: `s · q − m`.
    Min(Lanes),
}

/// What the codes of a packed matrix stand for.
#[derive(Debug, Clone)]
pub enum Decode {
    /// Themselves.
    Number,
    /// Values of a table.
    Table(Box<[f32; 16]>),
    /// E4M3 floats.
    E4m3,
}

/// A quantized matrix in panels.
#[derive(Debug, Clone)]
pub struct Packed {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// The compute mode it runs in; [`Weight::packed`] says when this is not the one asked for.
    pub compute: Compute,
    /// Bits of a packed code: 8, or 4 for codes of 2, 3 and 4 bits.
    pub bits: u8,
    /// What codes stand for.
    pub decode: Decode,
    /// How inputs are rounded before the product.
    pub inputs: Option<Inputs>,
    /// Columns of a group after padding; a multiple of 8.
    pub group: usize,
    /// Groups of a row.
    pub groups: usize,
    /// `[panel][step]`, see [`panel`].
    pub codes: Vec<Words>,
    /// `[panel][group]`.
    pub scales: Lanes,
    /// `[panel][group]`.
    pub zeros: Zeros,
    /// Input column of each padded column, or [`PADDING`]; none when they are the same.
    pub columns: Option<Vec<u32>>,
}

impl Packed {
    /// Padded columns of a row.
    pub fn width(&self) -> usize {
        self.group * self.groups
    }

    /// Vectors of codes in a panel.
    pub fn steps(&self) -> usize {
        self.width() / panel::codes_per_word(self.bits)
    }

    /// The code of `row` at padded column `k`.
    pub fn code(&self, row: usize, k: usize) -> u32 {
        let per = panel::codes_per_word(self.bits);
        let words = &self.codes[(row / ROWS) * self.steps() + k / per];
        let mask = (1 << self.bits) - 1;
        (words.0[row % ROWS] >> panel::shift_of(self.bits, k % per)) & mask
    }

    /// Which kernel reads it: a constant of [`panel`].
    pub(super) fn kind(&self) -> u8 {
        match (&self.decode, self.bits) {
            (Decode::Number, 4) => panel::NIBBLE,
            (Decode::Number, _) => panel::BYTE,
            (Decode::Table(_), _) => panel::TABLE,
            (Decode::E4m3, _) => panel::E4M3,
        }
    }

    /// The weight of `row` at padded column `k`, rounded as `dequantize_row` does.
    pub fn value(&self, row: usize, k: usize) -> f32 {
        let (at, lane) = ((row / ROWS) * self.groups + k / self.group, row % ROWS);
        let (code, s) = (self.code(row, k), self.scales.get(at, lane));
        let q = match &self.decode {
            Decode::Number => code as f32,
            Decode::Table(values) => values[code as usize],
            Decode::E4m3 => f32_from_e4m3(code as u8),
        };
        match &self.zeros {
            Zeros::Centre(z) => s * (q - *z as f32),
            Zeros::Int(z) => s * (q - f32::from(z[at][lane])),
            Zeros::Float(z) => s * (q - z.get(at, lane)),
            Zeros::Min(m) => s * q - m.get(at, lane),
        }
    }
}

impl Weight {
    /// Outputs.
    pub fn rows(&self) -> usize {
        match self {
            Self::Dense(d) => d.rows,
            Self::Packed(p) => p.rows,
        }
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        match self {
            Self::Dense(d) => d.cols,
            Self::Packed(p) => p.cols,
        }
    }

    /// Bytes that one product with a vector reads, padding included.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Dense(d) => d.values.bytes(),
            Self::Packed(p) => {
                let zeros = match &p.zeros {
                    Zeros::Centre(_) => 0,
                    Zeros::Int(z) => size_of_val(z.as_slice()),
                    Zeros::Float(z) | Zeros::Min(z) => z.bytes(),
                };
                let columns = p.columns.as_ref().map_or(0, |c| size_of_val(c.as_slice()));
                size_of_val(p.codes.as_slice()) + p.scales.bytes() + zeros + columns
            }
        }
    }

    /// The type of [`Weight::row_bytes`]: the stored one of floats, F32 of codes.
    pub fn row_dtype(&self) -> Dtype {
        match self {
            Self::Dense(d) => d.values.dtype(),
            Self::Packed(_) => Dtype::F32,
        }
    }

    /// Row `row`, which is below `rows`, as little-endian bytes of `row_dtype`, all of them.
    pub fn row_bytes(&self, row: usize, out: &mut [u8]) {
        assert_eq!(
            out.len(),
            self.cols() * self.row_dtype().bits() / 8,
            "a row"
        );
        match self {
            Self::Dense(d) => d.values.copy_lane(row / ROWS * d.cols, row % ROWS, out),
            Self::Packed(p) => {
                let out = out.as_chunks_mut::<4>().0;
                for k in 0..p.width() {
                    let column = p.columns.as_ref().map_or(k as u32, |c| c[k]);
                    if (column as usize) < p.cols {
                        out[column as usize] = p.value(row, k).to_le_bytes();
                    }
                }
            }
        }
    }

    /// How inputs are rounded before the product, if they are.
    pub fn inputs(&self) -> Option<&Inputs> {
        match self {
            Self::Dense(_) => None,
            Self::Packed(p) => p.inputs.as_ref(),
        }
    }

    /// Row `row` as floats: the embedding lookup; `shape` when it is out of range.
    pub fn row(&self, row: usize, out: &mut [f32]) -> Result<()> {
        if row >= self.rows() || out.len() != self.cols() {
            let what = format!("row {row} of {}×{}", self.rows(), self.cols());
            return Err(Error::new(Code::Shape, what));
        }
        match self {
            Self::Dense(d) => {
                for (j, o) in out.iter_mut().enumerate() {
                    *o = d.values.get(row / ROWS * d.cols + j, row % ROWS);
                }
            }
            Self::Packed(p) => {
                for k in 0..p.width() {
                    let column = p.columns.as_ref().map_or(k as u32, |c| c[k]);
                    if column != PADDING {
                        out[column as usize] = p.value(row, k);
                    }
                }
            }
        }
        Ok(())
    }
}
