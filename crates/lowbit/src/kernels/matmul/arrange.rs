//! Stored forms → panels: columns sorted by group, groups padded, rows interleaved.

use super::panel::{self, Lanes, ROWS, Words};
use super::weight::{Decode, Dense, PADDING, Packed, Weight, Zeros};
use crate::cpu::{Compute, Isa};
use crate::error::{Code, Error, Result};
use crate::matrix::{Floats, Integer, Minifloat, QuantizedMatrix, Table, Values, Zero};
use crate::scheme::Element;
use crate::tensor::TensorRef;

/// Groups longer than this are cut, so that one input scale covers few inputs and integer sums of
/// 8-bit codes stay far below 2³¹.
const GROUP_MAX: usize = 256;

/// Length of the pieces that longer groups are cut into.
const PIECE: usize = 128;

/// Padded groups are a multiple of this, so that a step of 8 columns has one scale.
const STEP: usize = 8;

/// Where the padded columns of a packed matrix come from.
struct Plan {
    rows: usize,
    group: usize,
    /// Groups of a row in the source.
    source_groups: usize,
    /// Group of the source for each packed group.
    source: Vec<usize>,
    columns: Vec<u32>,
}

impl Plan {
    /// Sorts columns by group, cuts long groups, pads each piece to the longest one.
    fn new(matrix: &QuantizedMatrix, group: usize, group_of_col: Option<&[u32]>) -> Self {
        let cols = matrix.cols;
        let source_groups = cols.div_ceil(group);
        let mut members = vec![Vec::new(); source_groups];
        for j in 0..cols {
            let g = group_of_col.map_or(j / group, |g| g[j] as usize);
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
            rows: matrix.rows,
            group,
            source_groups,
            source,
            columns,
        }
    }

    fn groups(&self) -> usize {
        self.source.len()
    }

    /// Codes of `bits` in panels; `row(r, out)` gives those of a row in their own order.
    fn codes(&self, cols: usize, bits: u8, row: impl Fn(usize, &mut [u8])) -> Vec<Words> {
        let mut plain = vec![0u8; cols];
        panel::interleave_codes(self.rows, self.columns.len(), bits, |r, out| {
            row(r, &mut plain);
            for (o, &j) in out.iter_mut().zip(&self.columns) {
                *o = if j == PADDING { 0 } else { plain[j as usize] };
            }
        })
    }

    /// Floats per row and group, which `place(row, group)` finds in `values`.
    fn lanes(&self, values: &Floats, place: impl Fn(usize, usize) -> usize) -> Lanes {
        Lanes::interleave(values, self.rows, self.groups(), |r, g| {
            place(r, self.source[g])
        })
    }

    /// Floats `[rows, groups]`.
    fn per_group(&self, values: &Floats) -> Lanes {
        self.lanes(values, |r, g| r * self.source_groups + g)
    }

    fn zeros(&self, m: &Integer) -> Zeros {
        match &m.zero {
            Zero::Centre => Zeros::Centre(1 << (m.codes.bits - 1)),
            Zero::Float(z) => Zeros::Float(self.per_group(z)),
            Zero::Min(z) => Zeros::Min(self.per_group(z)),
            Zero::Int(z) => {
                let groups = self.groups();
                let mut lanes = vec![[0; ROWS]; self.rows.div_ceil(ROWS) * groups];
                for r in 0..self.rows {
                    for (g, source) in self.source.iter().enumerate() {
                        lanes[r / ROWS * groups + g][r % ROWS] = z[r * self.source_groups + source];
                    }
                }
                Zeros::Int(lanes)
            }
        }
    }

    /// Order of the columns, unless it is their own.
    fn order(self) -> Option<Vec<u32>> {
        let mut columns = self.columns.iter().enumerate();
        let in_order = columns.all(|(k, &j)| k == j as usize);
        (!in_order).then_some(self.columns)
    }
}

impl Weight {
    /// Takes a dense matrix; `dtype` unless it is F32, F16 or BF16.
    pub fn dense(tensor: TensorRef<'_>) -> Result<Self> {
        let (rows, cols) = tensor.matrix()?;
        let values = Floats::from_bytes(tensor.dtype, tensor.bytes)?;
        if matches!(values, Floats::E4m3(_) | Floats::E8m0(_)) {
            let what = format!("a plain matrix of dtype {}", tensor.dtype.name());
            return Err(Error::new(Code::Dtype, what).remedy("expected F32, F16 or BF16"));
        }
        let values = Lanes::interleave(&values, rows, cols, |r, j| r * cols + j);
        Ok(Self::Dense(Dense { rows, cols, values }))
    }

    /// Rearranges a quantized matrix for the kernels; `qparam` when it is not sound.
    ///
    /// Codes of 2 and 3 bits take 4 bits here, and [`Weight::bytes`] counts them so. What cannot be
    /// multiplied as integers runs in `f32` whatever is asked for: tables, small floats, float
    /// zeros, minimums, and inputs that are rounded to something else than 8-bit integers with one
    /// scale per token; [`Packed::compute`] tells. The layout is the same for every `isa`.
    /// Sums out of codebooks are widened, since no kernel reads them.
    pub fn packed(matrix: &QuantizedMatrix, compute: Compute, isa: Isa) -> Result<Self> {
        let _ = isa;
        matrix.validate()?;
        let mut packed = match &matrix.values {
            Values::Integer(m) => integer(m, matrix),
            Values::Table(m) => table(m, matrix),
            Values::Minifloat(m) => minifloat(m, matrix),
            Values::Codebooks(_) => return dense(matrix),
        };
        let integers = matches!(packed.decode, Decode::Number)
            && matches!(packed.zeros, Zeros::Centre(_) | Zeros::Int(_));
        let inputs = matrix.inputs.is_none_or(|inputs| {
            inputs.element == Element::Int && inputs.bits == 8 && inputs.group.is_none()
        });
        if integers && inputs {
            packed.compute = compute;
        }
        Ok(Self::Packed(packed))
    }
}

/// The floats that a matrix stands for.
fn dense(matrix: &QuantizedMatrix) -> Result<Weight> {
    let (rows, cols) = (matrix.rows, matrix.cols);
    let mut values = vec![0.0; rows * cols];
    for (r, row) in values.chunks_exact_mut(cols.max(1)).enumerate() {
        matrix.dequantize_row(r, row)?;
    }
    let values = Lanes::interleave(&Floats::F32(values), rows, cols, |r, j| r * cols + j);
    Ok(Weight::Dense(Dense { rows, cols, values }))
}

/// A packed matrix that runs in f32.
fn assemble(
    matrix: &QuantizedMatrix,
    plan: Plan,
    (bits, codes): (u8, Vec<Words>),
    decode: Decode,
    (scales, zeros): (Lanes, Zeros),
) -> Packed {
    Packed {
        rows: matrix.rows,
        cols: matrix.cols,
        compute: Compute::F32,
        bits,
        decode,
        inputs: matrix.inputs,
        group: plan.group,
        groups: plan.groups(),
        codes,
        scales,
        zeros,
        columns: plan.order(),
    }
}

fn integer(m: &Integer, matrix: &QuantizedMatrix) -> Packed {
    let plan = Plan::new(matrix, m.group, m.group_of_col.as_deref());
    let bits = if m.codes.bits <= 4 { 4 } else { 8 };
    let codes = plan.codes(matrix.cols, bits, |r, out| m.codes.row(r, out));
    let scaling = (plan.per_group(&m.scales.plain()), plan.zeros(m));
    assemble(matrix, plan, (bits, codes), Decode::Number, scaling)
}

fn table(m: &Table, matrix: &QuantizedMatrix) -> Packed {
    let plan = Plan::new(matrix, m.group, None);
    let codes = plan.codes(matrix.cols, 4, |r, out| m.codes.row(r, out));
    let scaling = (plan.per_group(&m.scales.plain()), Zeros::Centre(0));
    let mut values = Box::new([0.0; 16]);
    values.copy_from_slice(&m.values);
    assemble(matrix, plan, (4, codes), Decode::Table(values), scaling)
}

fn minifloat(m: &Minifloat, matrix: &QuantizedMatrix) -> Packed {
    let (height, width) = m.block;
    let cols = matrix.cols;
    let plan = Plan::new(matrix, width.min(cols.max(1)), None);
    let codes = plan.codes(cols, 8, |r, out| {
        out.copy_from_slice(&m.bytes[r * cols..][..cols]);
    });
    let blocks = cols.div_ceil(width);
    let scales = plan.lanes(&m.scales, |r, g| r / height * blocks + g);
    let scaling = (scales, Zeros::Centre(0));
    assemble(matrix, plan, (8, codes), Decode::E4m3, scaling)
}
