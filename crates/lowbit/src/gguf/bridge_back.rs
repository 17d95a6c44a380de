//! Quantized matrices as blocks, where the blocks give exactly the floats that the matrix gives.
//!
//! A group may be as wide as several blocks, which then repeat its scale. Types with scales of
//! scales are not written from matrices: nothing says which of the many pairs of an outer and an
//! inner scale is meant, so they are encoded from floats.

use super::encode_32::IQ4;
use super::encode_plain::{MXFP4, mxfp4_scale};
use super::types::Type;
use crate::error::{Code, Error, Result};
use crate::matrix::{Codes, Integer, QuantizedMatrix, Table, Values, Zero};
use crate::pack;
use half::f16;

/// Types that matrices are written as, with the kind of matrix that each takes.
const KINDS: &[(&str, Kind)] = &[
    ("Q4_0", Kind::Centre { bits: 4 }),
    ("Q5_0", Kind::Centre { bits: 5 }),
    ("Q8_0", Kind::Centre { bits: 8 }),
    ("Q4_1", Kind::Min { bits: 4 }),
    ("Q5_1", Kind::Min { bits: 5 }),
    ("IQ4_NL", Kind::Table(&IQ4)),
    ("MXFP4", Kind::Table(&MXFP4)),
];

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Integers around the middle code.
    Centre { bits: u8 },
    /// Integers above a minimum.
    Min { bits: u8 },
    /// Codes into a table.
    Table(&'static [i8; 16]),
}

fn refuse<T>(ty: &Type, why: impl std::fmt::Display) -> Result<T> {
    let what = format!("{} cannot hold this matrix exactly: {why}", ty.name);
    Err(Error::new(Code::Unsupported, what).remedy("convert it through floats"))
}

/// A half that is exactly `value`.
fn half(ty: &Type, value: f32) -> Result<[u8; 2]> {
    let h = f16::from_f32(value);
    if h.to_f32().to_bits() == value.to_bits() {
        return Ok(h.to_le_bytes());
    }
    refuse(ty, format!("{value} is no half-precision number"))
}

/// The byte of a power of two.
fn exponent(ty: &Type, scale: f32) -> Result<u8> {
    match (0..=254).find(|e| mxfp4_scale(*e) == scale) {
        Some(e) => Ok(e),
        None => refuse(ty, format!("the scale {scale} is no power of two")),
    }
}

/// Whether a type holds some matrices of so many bits exactly.
pub fn may_hold(ty: &Type, bits: u8) -> bool {
    KINDS.iter().any(|(name, kind)| {
        let its = match kind {
            Kind::Centre { bits } | Kind::Min { bits } => *bits,
            Kind::Table(_) => 4,
        };
        *name == ty.name && its == bits
    })
}

/// The blocks of a matrix, row after row; `unsupported` with the reason when the type has no place
/// for something of it, `block` when rows are no whole blocks.
pub fn blocks(ty: &Type, matrix: &QuantizedMatrix) -> Result<Vec<u8>> {
    ty.row_bytes(matrix.cols)?;
    matrix.validate()?;
    let Some((_, kind)) = KINDS.iter().find(|(name, _)| *name == ty.name) else {
        return refuse(ty, "its scales are scaled themselves");
    };
    match (&matrix.values, kind) {
        (Values::Integer(m), Kind::Centre { bits } | Kind::Min { bits })
            if m.codes.bits == *bits =>
        {
            integers(ty, matrix, m, matches!(kind, Kind::Min { .. }))
        }
        (Values::Table(m), Kind::Table(values)) => table(ty, matrix, m, values),
        _ => refuse(ty, "its codes are of another kind"),
    }
}

/// Codes of every block, with the index of its group.
fn each_block(
    codes: &Codes,
    group: usize,
    matrix: &QuantizedMatrix,
    mut put: impl FnMut(&[u8; 32], usize) -> Result<()>,
) -> Result<()> {
    let mut row_codes = vec![0; matrix.cols];
    for row in 0..matrix.rows {
        let words = &codes.words[row * codes.row_words..][..codes.row_words];
        pack::codes_from_words(words, codes.bits, &mut row_codes);
        for (b, block) in row_codes.as_chunks::<32>().0.iter().enumerate() {
            put(block, row * (matrix.cols / group) + b * 32 / group)?;
        }
    }
    Ok(())
}

fn nibbles(codes: &[u8; 32], out: &mut Vec<u8>) {
    out.extend((0..16).map(|j| codes[j] & 15 | (codes[j + 16] & 15) << 4));
}

fn integers(ty: &Type, matrix: &QuantizedMatrix, m: &Integer, with_min: bool) -> Result<Vec<u8>> {
    if !m.group.is_multiple_of(32) {
        return refuse(ty, format!("groups of {} are no blocks of 32", m.group));
    }
    if m.group_of_col.is_some() {
        return refuse(ty, "its groups are no runs of columns");
    }
    let five = m.codes.bits == 5;
    let mut out = Vec::new();
    each_block(&m.codes, m.group, matrix, |codes, g| {
        let scale = m.scales.get(g);
        out.extend(half(ty, scale)?);
        match (&m.zero, with_min) {
            (Zero::Centre, false) => {}
            // The matrix takes its minimum away, the file adds its own.
            (Zero::Min(min), true) => out.extend(half(ty, -min.get(g))?),
            (Zero::Int(zeros), true) => out.extend(half(ty, -scale * f32::from(zeros[g]))?),
            (Zero::Int(zeros), false) if zeros[g] == 1 << (m.codes.bits - 1) => {}
            _ => return refuse(ty, "its zeros are of another kind"),
        }
        if five {
            let bit = |bits: u32, i: usize| bits | u32::from(codes[i] >> 4) << i;
            out.extend((0..32).fold(0, bit).to_le_bytes());
        }
        if m.codes.bits == 8 {
            out.extend(codes.iter().map(|q| q ^ 0x80));
        } else {
            nibbles(codes, &mut out);
        }
        Ok(())
    })?;
    Ok(out)
}

fn table(ty: &Type, matrix: &QuantizedMatrix, m: &Table, values: &[i8; 16]) -> Result<Vec<u8>> {
    if !m.group.is_multiple_of(32) {
        return refuse(ty, format!("groups of {} are no blocks of 32", m.group));
    }
    // The same table may be written at another scale, as E2M1 is at half of MXFP4's.
    let of = |i: usize| f32::from(values[i]);
    let factor = m.values.get(1).map_or(0.0, |v| v / of(1));
    let same = |i: usize| m.values.get(i).is_some_and(|v| *v == of(i) * factor);
    if factor == 0.0 || !(0..16).all(same) {
        return refuse(ty, "its table has other values");
    }
    let mut out = Vec::new();
    each_block(&m.codes, m.group, matrix, |codes, g| {
        let scale = m.scales.get(g) * factor;
        if *values == MXFP4 {
            out.push(exponent(ty, scale)?);
        } else {
            out.extend(half(ty, scale)?);
        }
        nibbles(codes, &mut out);
        Ok(())
    })?;
    Ok(out)
}
