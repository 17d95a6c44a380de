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
    let index = m.group_of_col.as_deref();
    for (j, o) in out.iter_mut().enumerate() {
        let g = row * groups + index.map_or(j / m.group, |g| g[j] as usize);
        let q = f32::from(codes[j]);
        *o = match &m.zero {
            Zero::Centre => m.scales.get(g) * (q - f32::from(1u8 << (m.codes.bits - 1))),
            Zero::Int(z) => m.scales.get(g) * (q - f32::from(z[g])),
            Zero::Float(z) => m.scales.get(g) * (q - z.get(g)),
            Zero::Min(min) => m.scales.get(g) * q - min.get(g),
        };
    }
}

fn table(m: &Table, row: usize, out: &mut [f32]) {
    let mut codes = vec![0u8; out.len()];
    m.codes.row(row, &mut codes);
    let groups = out.len() / m.group;
    for (j, o) in out.iter_mut().enumerate() {
        *o = m.scales.get(row * groups + j / m.group) * m.values[usize::from(codes[j])];
    }
}

fn minifloat(m: &Minifloat, row: usize, out: &mut [f32]) {
    let cols = out.len();
    let (height, width) = m.block;
    let first = row / height * cols.div_ceil(width);
    let bytes = &m.bytes[row * cols..][..cols];
    for (j, (o, byte)) in out.iter_mut().zip(bytes).enumerate() {
        *o = m.scales.get(first + j / width) * f32_from_e4m3(*byte);
    }
}
