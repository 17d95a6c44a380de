//! Rows as floats: what every kernel's weights are equal to.

use super::{Codes, Integer, Minifloat, QuantizedMatrix, Table, Values, Zero};
use crate::error::{Code, Error, Result};
use crate::minifloat::f32_from_e4m3;
use crate::pack;

impl QuantizedMatrix {
    /// Row `row` as floats, for reports, tests and lookups of single rows; `shape` when it is out
    /// of range.
    ///
    /// `s · (q − z)`, `s · table[q]`, `s · value` or `s · Σ vector`, each operation rounded once to
    /// f32.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) -> Result<()> {
        if row >= self.rows || out.len() != self.cols {
            let what = format!("row {row} of {}×{}", self.rows, self.cols);
            return Err(Error::new(Code::Shape, what));
        }
        match &self.values {
            Values::Integer(m) => integer(m, row, out),
            Values::Table(m) => table(m, row, out),
            Values::Minifloat(m) => minifloat(m, row, out),
            Values::Codebooks(m) => m.row(row, out),
        }
        Ok(())
    }
}

impl Codes {
    /// Packs codes `[rows, cols]`, each below `2^bits`; `cols` is not 0.
    pub fn pack(codes: &[u8], cols: usize, bits: u8) -> Self {
        let rows = codes.chunks_exact(cols);
        let words = rows.flat_map(|row| pack::words_from_codes(row, bits));
        Self {
            bits,
            row_words: pack::words_len(cols, bits),
            words: words.collect(),
        }
    }

    /// All codes, `[rows, cols]`.
    pub fn unpack(&self, cols: usize) -> Vec<u8> {
        let rows = self.words.len() / self.row_words;
        let mut codes = vec![0; rows * cols];
        for (r, row) in codes.chunks_exact_mut(cols).enumerate() {
            self.row(r, row);
        }
        codes
    }

    /// The codes of one row, as many as `out` holds.
    pub fn row(&self, row: usize, out: &mut [u8]) {
        let words = &self.words[row * self.row_words..][..self.row_words];
        pack::codes_from_words(words, self.bits, out);
    }
}

fn integer(m: &Integer, row: usize, out: &mut [f32]) {
    let mut codes = vec![0u8; out.len()];
    m.codes.row(row, &mut codes);
    let groups = out.len() / m.group;
    let centre = f32::from(1u8 << (m.codes.bits - 1));
    // Taking nothing away changes no bit of a product.
    let line = |g: usize| {
        let scale = m.scales.get(g);
        match &m.zero {
            Zero::Centre => (scale, centre, 0.0),
            Zero::Int(z) => (scale, f32::from(z[g]), 0.0),
            Zero::Float(z) => (scale, z.get(g), 0.0),
            Zero::Min(min) => (scale, 0.0, min.get(g)),
        }
    };
    let lines: Vec<_> = (row * groups..(row + 1) * groups).map(line).collect();
    let value = |(scale, zero, min): (f32, f32, f32), q: u8| scale * (f32::from(q) - zero) - min;
    if let Some(index) = m.group_of_col.as_deref() {
        for ((o, q), g) in out.iter_mut().zip(&codes).zip(index) {
            *o = value(lines[*g as usize], *q);
        }
        return;
    }
    let parts = out.chunks_mut(m.group).zip(codes.chunks(m.group));
    for ((out, codes), line) in parts.zip(lines) {
        for (o, q) in out.iter_mut().zip(codes) {
            *o = value(line, *q);
        }
    }
}

fn table(m: &Table, row: usize, out: &mut [f32]) {
    let mut codes = vec![0u8; out.len()];
    m.codes.row(row, &mut codes);
    let first = row * (out.len() / m.group);
    let parts = out.chunks_mut(m.group).zip(codes.chunks(m.group));
    for (g, (out, codes)) in parts.enumerate() {
        let scale = m.scales.get(first + g);
        for (o, q) in out.iter_mut().zip(codes) {
            *o = scale * m.values[usize::from(*q)];
        }
    }
}

fn minifloat(m: &Minifloat, row: usize, out: &mut [f32]) {
    let cols = out.len();
    let (height, width) = m.block;
    let first = row / height * cols.div_ceil(width);
    let bytes = &m.bytes[row * cols..][..cols];
    let parts = out.chunks_mut(width).zip(bytes.chunks(width));
    for (b, (out, bytes)) in parts.enumerate() {
        let scale = m.scales.get(first + b);
        for (o, byte) in out.iter_mut().zip(bytes) {
            *o = scale * f32_from_e4m3(*byte);
        }
    }
}
