//! Matrices in the form that kernels read, and the way there from their stored forms.

use super::panel::{self, Lanes, ROWS, Words};
use crate::cpu::{Compute, Isa};
use crate::error::{Code, Error, Result};
use crate::matrix::{Floats, Integer, QuantizedMatrix, Scales, Zero};
use crate::pack::codes_from_words;
use crate::tensor::TensorRef;

/// Groups longer than this are cut, so that one input scale covers few inputs and integer sums of
/// 8-bit codes stay far below 2³¹.
const GROUP_MAX: usize = 256;

/// Length of the pieces that longer groups are cut into.
const PIECE: usize = 128;

/// Padded groups are a multiple of this, so that a step of 8 columns has one scale.
const STEP: usize = 8;

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

    /// The weight of `row` at padded column `k`, rounded as `dequantize_row` does.
    pub fn value(&self, row: usize, k: usize) -> f32 {
        let (at, lane) = ((row / ROWS) * self.groups + k / self.group, row % ROWS);
        let (q, s) = (self.code(row, k) as f32, self.scales.get(at, lane));
        match &self.zeros {
            Zeros::Centre(z) => s * (q - *z as f32),
            Zeros::Int(z) => s * (q - f32::from(z[at][lane])),
            Zeros::Float(z) => s * (q - z.get(at, lane)),
            Zeros::Min(m) => s * q - m.get(at, lane),
        }
    }
}

/// Where the padded columns of a packed matrix come from.
struct Plan {
    group: usize,
    /// Group of the source for each packed group.
    source: Vec<usize>,
    columns: Vec<u32>,
}

impl Plan {
    /// Sorts columns by group, cuts long groups, pads each piece to the longest one.
    fn new(m: &Integer, cols: usize) -> Self {
        let mut members = vec![Vec::new(); cols / m.group];
        for j in 0..cols {
            let g = m
                .group_of_col
                .as_ref()
                .map_or(j / m.group, |g| g[j] as usize);
            members[g].push(j as u32);
        }
        let longest = members.iter().map(Vec::len).max().unwrap_or(0);
        let piece = if longest > GROUP_MAX { PIECE } else { longest };
        let group = piece.next_multiple_of(STEP);
        let (mut source, mut columns) = (vec![], vec![]);
        for (g, members) in members.iter().enumerate() {
            for part in members.chunks(piece) {
                source.push(g);
                columns.extend_from_slice(part);
                columns.resize(source.len() * group, PADDING);
            }
        }
        Self {
            group,
            source,
            columns,
        }
    }
}

impl Weight {
    /// Takes a dense matrix; `dtype` unless it is F32, F16 or BF16.
    pub fn dense(tensor: TensorRef<'_>) -> Result<Self> {
        let (rows, cols) = tensor.matrix()?;
        let values = Floats::from_bytes(tensor.dtype, tensor.bytes)?;
        let values = Lanes::interleave(&values, rows, cols, |r, j| r * cols + j);
        Ok(Self::Dense(Dense { rows, cols, values }))
    }

    /// Rearranges a quantized matrix for the kernels; `unsupported` unless it holds integer codes.
    ///
    /// Codes of 2 and 3 bits take 4 bits here, and [`Weight::bytes`] counts them so. Matrices with
    /// float zeros or minimums always run in `f32`; [`Packed::compute`] tells. The layout is the
    /// same for every `isa`.
    pub fn packed(matrix: &QuantizedMatrix, compute: Compute, isa: Isa) -> Result<Self> {
        let _ = isa;
        matrix.validate()?;
        let m = matrix.integer("a packed weight")?;
        let Scales::Flat(scales) = &m.scales else {
            return Err(Error::new(
                Code::Unsupported,
                "a packed weight needs flat scales",
            ));
        };
        let (rows, cols) = (matrix.rows, matrix.cols);
        let plan = Plan::new(m, cols);
        let bits = if m.codes.bits <= 4 { 4 } else { 8 };
        let mut plain = vec![0u8; cols];
        let codes = panel::interleave_codes(rows, plan.columns.len(), bits, |r, out| {
            let words = &m.codes.words[r * m.codes.row_words..][..m.codes.row_words];
            codes_from_words(words, m.codes.bits, &mut plain);
            for (o, &j) in out.iter_mut().zip(&plan.columns) {
                *o = if j == PADDING { 0 } else { plain[j as usize] };
            }
        });
        let (groups, source_groups) = (plan.source.len(), cols / m.group);
        let per_group = |values: &Floats| {
            Lanes::interleave(values, rows, groups, |r, g| {
                r * source_groups + plan.source[g]
            })
        };
        let zeros = match &m.zero {
            Zero::Centre => Zeros::Centre(1 << (m.codes.bits - 1)),
            Zero::Float(z) => Zeros::Float(per_group(z)),
            Zero::Min(z) => Zeros::Min(per_group(z)),
            Zero::Int(z) => {
                let mut lanes = vec![[0; ROWS]; rows.div_ceil(ROWS) * groups];
                for r in 0..rows {
                    for g in 0..groups {
                        lanes[r / ROWS * groups + g][r % ROWS] =
                            z[r * source_groups + plan.source[g]];
                    }
                }
                Zeros::Int(lanes)
            }
        };
        let integer = matches!(zeros, Zeros::Centre(_) | Zeros::Int(_));
        let in_order = plan
            .columns
            .iter()
            .enumerate()
            .all(|(k, &j)| k == j as usize);
        Ok(Self::Packed(Packed {
            rows,
            cols,
            compute: if integer { compute } else { Compute::F32 },
            bits,
            group: plan.group,
            groups,
            codes,
            scales: per_group(scales),
            zeros,
            columns: (!in_order).then_some(plan.columns),
        }))
    }

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
