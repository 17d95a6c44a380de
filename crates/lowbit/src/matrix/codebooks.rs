//! Sums of vectors out of codebooks: AQLM (arXiv 2401.06118).

use super::Floats;
use crate::error::{Code, Error, Result};

/// Blocks of weights, each the sum of one vector out of every codebook, times the scale of its rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Codebooks {
    /// Number of the vector, `[rows / height, cols / width, books]`.
    pub codes: Vec<u16>,
    /// Vectors in a codebook.
    pub size: usize,
    /// `[books, size, height, width]`.
    pub vectors: Floats,
    /// Rows and columns of a block: height and width.
    pub block: (usize, usize),
    /// A scale per `height` rows, `[rows / height]`.
    pub scales: Floats,
}

impl Codebooks {
    /// How many vectors are added up.
    pub fn books(&self) -> usize {
        self.vectors.len() / (self.size * self.block.0 * self.block.1).max(1)
    }

    /// Checks that sizes agree and every code has a vector; `qparam` otherwise.
    pub(super) fn validate(&self, rows: usize, cols: usize) -> Result<()> {
        let bad = |what: String| Err(Error::new(Code::Qparam, what));
        let (height, width) = self.block;
        let whole = height > 0 && width > 0 && self.size > 0;
        if !whole || !rows.is_multiple_of(height) || !cols.is_multiple_of(width) {
            return bad(format!("blocks of {height}×{width} in {rows}×{cols}"));
        }
        let books = self.books();
        if books == 0 || self.vectors.len() != books * self.size * height * width {
            return bad(format!("{} values in codebooks", self.vectors.len()));
        }
        let blocks = rows / height * (cols / width);
        if self.codes.len() != blocks * books || self.scales.len() != rows / height {
            let (codes, scales) = (self.codes.len(), self.scales.len());
            return bad(format!(
                "{codes} codes and {scales} scales for {rows}×{cols}"
            ));
        }
        if let Some(code) = self.codes.iter().find(|c| usize::from(**c) >= self.size) {
            return bad(format!("code {code} of {}", self.size));
        }
        let finite = |f: &Floats| (0..f.len()).all(|i| f.get(i).is_finite());
        if !finite(&self.vectors) || !finite(&self.scales) {
            return bad("a scale or vector is not finite".into());
        }
        Ok(())
    }

    /// Row `row` as floats: the vectors added in the order of their books, then times the scale.
    pub(super) fn row(&self, row: usize, out: &mut [f32]) {
        let (height, width) = self.block;
        let books = self.books();
        let first = row / height * (out.len() / width);
        let scale = self.scales.get(row / height);
        for (b, out) in out.chunks_exact_mut(width).enumerate() {
            out.fill(0.0);
            for book in 0..books {
                let code = usize::from(self.codes[(first + b) * books + book]);
                let vector = ((book * self.size + code) * height + row % height) * width;
                for (i, o) in out.iter_mut().enumerate() {
                    *o += self.vectors.get(vector + i);
                }
            }
            for o in out {
                *o *= scale;
            }
        }
    }

    /// Bytes that the matrix takes in a file.
    pub fn bytes(&self) -> usize {
        let code = if self.size > 256 { 2 } else { 1 };
        code * self.codes.len() + self.vectors.bytes() + self.scales.bytes()
    }
}
