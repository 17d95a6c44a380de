//! A matrix on the device: rearranged once, cut at the binding limit.
//!
//! ```text
//! row of 4-bit codes:  | block 0: 4 words | block 1 | … |    32 columns to a block, padded with 0
//! row of 8-bit codes:  | block 0: 8 words | …             2 and 3 bits are stored as 4, 5 to 7 as 8
//! row of halves:       | block 0: 16 words | …
//! ```
//! Rows of codes whose groups fill whole blocks, in the order of the columns, are the words of
//! `Codes` as they are. Otherwise columns are put into the order of their groups, each group padded
//! to whole blocks, and `order` says which input belongs where.

use super::device::Gpu;
use super::dispatch::{BLOCK, align};
use super::order::{order, rearranged};
use super::{bytes_from_f32, bytes_from_u32};
use crate::error::{Code, Error, Result};
use crate::matrix::{Floats, QuantizedMatrix, Values, Zero};
use crate::model::Stored;
use crate::pack;
use crate::tensor::{Dtype, Tensor};

/// How weights are stored on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Floats of a type.
    Dense(Dtype),
    /// Codes of 4 or 8 bits.
    Codes(u32),
}

impl Kind {
    /// The number that shaders know it by.
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::Dense(dtype) => dtype_code(dtype),
            Self::Codes(bits) => bits,
        }
    }

    /// Bits of a code, for codes.
    pub(crate) fn bits(self) -> Option<u32> {
        match self {
            Self::Dense(_) => None,
            Self::Codes(bits) => Some(bits),
        }
    }

    /// Bytes of a block of 32 columns.
    fn block_bytes(self) -> usize {
        match self {
            Self::Dense(dtype) => BLOCK * dtype.bits() / 8,
            Self::Codes(bits) => BLOCK * bits as usize / 8,
        }
    }
}

/// `KIND_F32`, `KIND_F16`, `KIND_BF16` of the prelude.
fn dtype_code(dtype: Dtype) -> u32 {
    match dtype {
        Dtype::F16 => 1,
        Dtype::BF16 => 2,
        _ => 0,
    }
}

/// Rows that fit into one binding.
#[derive(Debug)]
pub(crate) struct MatrixPart {
    pub(crate) first_row: usize,
    pub(crate) rows: usize,
    pub(crate) weights: wgpu::Buffer,
    pub(crate) scales: wgpu::Buffer,
    pub(crate) zeros: wgpu::Buffer,
}

/// A matrix on the device.
#[derive(Debug)]
pub(crate) struct Matrix {
    pub(crate) kind: Kind,
    /// Columns with their padding.
    pub(crate) cols_padded: usize,
    /// Columns in the order in which they lie, when that is not theirs.
    pub(crate) order: Option<wgpu::Buffer>,
    /// Groups of a row and blocks of a group.
    pub(crate) groups: usize,
    pub(crate) group_blocks: usize,
    /// Zero of every group, when they have none of their own.
    pub(crate) centre: f32,
    pub(crate) has_zeros: bool,
    pub(crate) has_bias: bool,
    pub(crate) scale_kind: u32,
    pub(crate) bias: wgpu::Buffer,
    pub(crate) parts: Vec<MatrixPart>,
}

impl Matrix {
    /// Blocks of a row.
    pub(crate) fn blocks(&self) -> usize {
        self.cols_padded / BLOCK
    }

    /// Uploads a matrix and its bias, a few rows at a time.
    pub(crate) fn upload(gpu: &Gpu, stored: &Stored, bias: Option<&[f32]>) -> Result<Self> {
        let mut matrix = match stored {
            Stored::Dense(tensor) => dense(gpu, tensor)?,
            Stored::Quantized(m) => codes(gpu, m)?,
        };
        if let Some(bias) = bias {
            matrix.bias = gpu.upload("bias", &bytes_from_f32(bias))?;
            matrix.has_bias = true;
        }
        // The queue keeps a copy of every write until the next submit.
        gpu.flush();
        Ok(matrix)
    }
}

/// Bytes handed over at once.
const STEP_BYTES: usize = 4 << 20;

/// Makes one part and fills its weights with what `row` appends for each row.
fn part(
    gpu: &Gpu,
    rows: std::ops::Range<usize>,
    row_bytes: usize,
    mut row: impl FnMut(usize, &mut Vec<u8>),
) -> Result<MatrixPart> {
    let weights = gpu.storage("weights", (rows.len() * row_bytes) as u64)?;
    let (mut bytes, mut offset) = (Vec::new(), 0u64);
    for r in rows.clone() {
        row(r, &mut bytes);
        if bytes.len() >= STEP_BYTES || r + 1 == rows.end {
            gpu.queue.write_buffer(&weights, offset, &bytes);
            offset += bytes.len() as u64;
            bytes.clear();
        }
    }
    Ok(MatrixPart {
        first_row: rows.start,
        rows: rows.len(),
        weights,
        scales: gpu.storage("no scales", 16)?,
        zeros: gpu.storage("no zeros", 16)?,
    })
}

/// Cuts `rows` so that each part fits into a binding.
fn cuts(gpu: &Gpu, rows: usize, row_bytes: usize) -> Result<Vec<std::ops::Range<usize>>> {
    let limit = gpu.info().max_binding;
    let most = usize::try_from(limit).unwrap_or(usize::MAX) / row_bytes.max(1);
    if most == 0 {
        let what = format!("a row of {row_bytes} bytes is more than one binding holds, {limit}");
        return Err(Error::new(Code::Unsupported, what).remedy("use device \"cpu\""));
    }
    let starts = (0..rows).step_by(most);
    Ok(starts.map(|r| r..(r + most).min(rows)).collect())
}

fn dense(gpu: &Gpu, tensor: &Tensor) -> Result<Matrix> {
    let view = tensor.view()?;
    let (rows, cols) = view.matrix()?;
    if !matches!(view.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
        let what = format!("a matrix of dtype {} on the GPU", view.dtype.name());
        return Err(Error::new(Code::Dtype, what)
            .at(&tensor.name)
            .remedy("expected F32, F16 or BF16"));
    }
    let kind = Kind::Dense(view.dtype);
    let source_bytes = cols * view.dtype.bits() / 8;
    let row_bytes = align(cols) / BLOCK * kind.block_bytes();
    let mut parts = Vec::new();
    for range in cuts(gpu, rows, row_bytes)? {
        parts.push(part(gpu, range, row_bytes, |r, bytes| {
            bytes.extend_from_slice(&view.bytes[r * source_bytes..][..source_bytes]);
            bytes.resize(bytes.len() + row_bytes - source_bytes, 0);
        })?);
    }
    Ok(Matrix {
        kind,
        cols_padded: align(cols),
        order: None,
        groups: 1,
        group_blocks: align(cols) / BLOCK,
        centre: 0.0,
        has_zeros: false,
        has_bias: false,
        scale_kind: 0,
        bias: gpu.storage("no bias", 16)?,
        parts,
    })
}

fn codes(gpu: &Gpu, m: &QuantizedMatrix) -> Result<Matrix> {
    m.validate()?;
    let refuse = |what: &str| Err(Error::new(Code::Unsupported, what).remedy("use device \"cpu\""));
    let Values::Integer(integer) = &m.values else {
        return refuse("weights that are no integers have no shader");
    };
    if matches!(integer.zero, Zero::Float(_) | Zero::Min(_)) {
        return refuse("float zero points have no shader");
    }
    if m.inputs.is_some() {
        return refuse("rounded inputs have no shader");
    }
    let scales = &*integer.scales.plain();
    let groups = m.cols / integer.group;
    let order = order(integer, m.cols)?;
    let cols_padded = order.as_ref().map_or(align(m.cols), Vec::len);
    let bits = if integer.codes.bits > 4 { 8u8 } else { 4 };
    let kind = Kind::Codes(u32::from(bits));
    let row_bytes = cols_padded / BLOCK * kind.block_bytes();
    let same = order.is_none() && bits == integer.codes.bits && cols_padded == m.cols;
    let mut parts = Vec::new();
    for range in cuts(gpu, m.rows, row_bytes)? {
        let of_groups = range.start * groups..range.end * groups;
        let mut row_codes = vec![0u8; m.cols];
        let mut part = part(gpu, range, row_bytes, |r, bytes| {
            let words =
                &integer.codes.words[r * integer.codes.row_words..][..integer.codes.row_words];
            if same {
                bytes.extend(words.iter().flat_map(|w| w.to_le_bytes()));
                return;
            }
            pack::codes_from_words(words, integer.codes.bits, &mut row_codes);
            let moved = rearranged(&row_codes, order.as_deref(), cols_padded);
            bytes.extend(bytes_from_u32(&pack::words_from_codes(&moved, bits)));
        })?;
        part.scales = gpu.upload("scales", &scale_bytes(scales, of_groups.clone()))?;
        if let Zero::Int(zeros) = &integer.zero {
            part.zeros = gpu.upload("zeros", &whole_words(zeros[of_groups].to_vec()))?;
        }
        parts.push(part);
    }
    Ok(Matrix {
        kind,
        cols_padded,
        order: order
            .map(|o| gpu.upload("order", &bytes_from_u32(&o)))
            .transpose()?,
        groups,
        group_blocks: cols_padded / BLOCK / groups,
        centre: f32::from(1u8 << (integer.codes.bits - 1)),
        has_zeros: matches!(integer.zero, Zero::Int(_)),
        has_bias: false,
        scale_kind: dtype_code(scales.dtype()),
        bias: gpu.storage("no bias", 16)?,
        parts,
    })
}

/// Bytes of a range of scales in their stored type.
fn scale_bytes(scales: &Floats, range: std::ops::Range<usize>) -> Vec<u8> {
    let bytes = match scales {
        Floats::F32(v) => bytes_from_f32(&v[range]),
        Floats::F16(v) | Floats::Bf16(v) => v[range].iter().flat_map(|x| x.to_le_bytes()).collect(),
        Floats::E4m3(v) | Floats::E8m0(v) => v[range].to_vec(),
    };
    whole_words(bytes)
}

fn whole_words(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
