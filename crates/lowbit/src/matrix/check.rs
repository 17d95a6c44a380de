//! What holds for every matrix before a kernel reads it.

use super::{Codes, Integer, Minifloat, QuantizedMatrix, Scales, Table, Values, Zero};
use crate::error::{Code, Error, Result};
use crate::pack::words_len;
use crate::tensor::Dtype;

fn bad<T>(what: impl Into<String>) -> Result<T> {
    Err(Error::new(Code::Qparam, what))
}

impl QuantizedMatrix {
    /// Checks that sizes agree, scales are finite and zeros are codes; `qparam` otherwise.
    pub fn validate(&self) -> Result<()> {
        let (rows, cols) = (self.rows, self.cols);
        if let Some(scale) = self.inputs.and_then(|i| i.scale)
            && !(scale.is_finite() && scale > 0.0)
        {
            return bad(format!("the scale of the inputs is {scale}"));
        }
        match &self.values {
            Values::Integer(m) => integer(m, rows, cols),
            Values::Table(m) => table(m, rows, cols),
            Values::Minifloat(m) => minifloat(m, rows, cols),
            Values::Codebooks(m) => m.validate(rows, cols),
        }
    }
}

fn codes(codes: &Codes, rows: usize, cols: usize) -> Result<()> {
    let row_words = words_len(cols, codes.bits);
    if codes.row_words != row_words || codes.words.len() != rows * row_words {
        return bad(format!(
            "{} code words for {rows}×{cols}",
            codes.words.len()
        ));
    }
    Ok(())
}

/// Groups of a row.
fn groups(group: usize, cols: usize) -> Result<usize> {
    if group == 0 || !cols.is_multiple_of(group) {
        return bad(format!("group {group} does not divide {cols} columns"));
    }
    Ok(cols / group)
}

fn scales(scales: &Scales, wanted: usize) -> Result<()> {
    if scales.len() != wanted || !scales.is_sound() {
        return bad(format!("{} scales for {wanted} groups", scales.len()));
    }
    finite(wanted, |i| scales.get(i))
}

fn finite(count: usize, scale: impl Fn(usize) -> f32) -> Result<()> {
    match (0..count).find(|&i| !scale(i).is_finite()) {
        Some(i) => bad(format!("scale {i} is {}", scale(i))),
        None => Ok(()),
    }
}

fn integer(m: &Integer, rows: usize, cols: usize) -> Result<()> {
    let per_row = groups(m.group, cols)?;
    codes(&m.codes, rows, cols)?;
    scales(&m.scales, rows * per_row)?;
    let wanted = rows * per_row;
    match &m.zero {
        Zero::Centre => {}
        Zero::Int(zeros) => {
            if zeros.len() != wanted {
                return bad(format!("{} zero points for {wanted} groups", zeros.len()));
            }
            if let Some(z) = zeros.iter().find(|z| u32::from(**z) >> m.codes.bits != 0) {
                return bad(format!("zero point {z} does not fit {} bits", m.codes.bits));
            }
        }
        Zero::Float(zeros) | Zero::Min(zeros) => {
            if zeros.len() != wanted {
                return bad(format!("{} zero points for {wanted} groups", zeros.len()));
            }
            if let Some(i) = (0..wanted).find(|i| !zeros.get(*i).is_finite()) {
                return bad(format!("zero point {i} is {}", zeros.get(i)));
            }
        }
    }
    let outside = |g: &&u32| **g as usize >= per_row;
    match m
        .group_of_col
        .as_ref()
        .map(|g| (g.len(), g.iter().find(outside)))
    {
        Some((len, _)) if len != cols => bad(format!("{len} group indices for {cols} columns")),
        Some((_, Some(g))) => bad(format!("group index {g} of {per_row}")),
        _ => Ok(()),
    }
}

fn table(m: &Table, rows: usize, cols: usize) -> Result<()> {
    let per_row = groups(m.group, cols)?;
    codes(&m.codes, rows, cols)?;
    if m.codes.bits != 4 || m.values.len() != 16 {
        let (n, bits) = (m.values.len(), m.codes.bits);
        return bad(format!("a table of {n} values for codes of {bits} bits"));
    }
    if let Some(v) = m.values.iter().find(|v| !v.is_finite()) {
        return bad(format!("the table of values holds {v}"));
    }
    scales(&m.scales, rows * per_row)
}

fn minifloat(m: &Minifloat, rows: usize, cols: usize) -> Result<()> {
    if m.dtype != Dtype::F8E4M3 {
        let what = format!("weights of dtype {}", m.dtype.name());
        return Err(Error::new(Code::Unsupported, what).remedy("expected F8_E4M3"));
    }
    let (height, width) = m.block;
    if height == 0 || width == 0 || m.bytes.len() != rows * cols {
        let bytes = m.bytes.len();
        return bad(format!(
            "{bytes} weights in blocks of {height}×{width} for {rows}×{cols}"
        ));
    }
    if let Some(i) = m.bytes.iter().position(|b| b & 0x7f == 0x7f) {
        return bad(format!("weight [{}, {}] is NaN", i / cols, i % cols));
    }
    let wanted = rows.div_ceil(height) * cols.div_ceil(width);
    if m.scales.len() != wanted {
        return bad(format!("{} scales for {wanted} blocks", m.scales.len()));
    }
    finite(wanted, |i| m.scales.get(i))
}
