//! Which weights of a matrix stay when it is pruned.

/// One bit per weight: set when the weight stays.
///
/// ```text
/// word 0 of a row:  [63 … 1 0] = columns 63 … 1 0;  every row starts on a word
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    rows: usize,
    cols: usize,
    words: Vec<u64>,
}

impl Mask {
    /// Every weight of a matrix `[rows, cols]` stays.
    pub fn all(rows: usize, cols: usize) -> Self {
        let mut mask = Self {
            rows,
            cols,
            words: vec![u64::MAX; rows * cols.div_ceil(64)],
        };
        let rest = cols % 64;
        if rest > 0 {
            for row in mask.words.chunks_exact_mut(cols.div_ceil(64)) {
                row[cols / 64] = (1 << rest) - 1;
            }
        }
        mask
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// Whether a weight stays.
    #[inline]
    pub fn keeps(&self, row: usize, col: usize) -> bool {
        self.words[self.word(row, col)] >> (col % 64) & 1 == 1
    }

    /// A weight becomes zero.
    #[inline]
    pub fn prune(&mut self, row: usize, col: usize) {
        let word = self.word(row, col);
        self.words[word] &= !(1 << (col % 64));
    }

    /// How many weights stay.
    pub fn kept(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// Sets the weights `[rows, cols]` that do not stay to zero.
    pub fn apply(&self, values: &mut [f32]) {
        assert_eq!(values.len(), self.rows * self.cols, "the mask's shape");
        for (r, row) in values.chunks_exact_mut(self.cols).enumerate() {
            for (c, value) in row.iter_mut().enumerate() {
                if !self.keeps(r, c) {
                    *value = 0.0;
                }
            }
        }
    }

    fn word(&self, row: usize, col: usize) -> usize {
        row * self.cols.div_ceil(64) + col / 64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pruned_weights_become_zero() {
        for cols in [1, 31, 64, 65, 127] {
            let mut mask = Mask::all(3, cols);
            assert_eq!(mask.kept(), 3 * cols);
            mask.prune(1, cols - 1);
            let mut values = vec![2.0; 3 * cols];
            mask.apply(&mut values);
            let zeros: Vec<_> = (0..3 * cols).filter(|i| values[*i] == 0.0).collect();
            assert_eq!(zeros, [2 * cols - 1]);
            assert!(!mask.keeps(1, cols - 1) && mask.keeps(2, cols - 1));
            assert_eq!(mask.kept(), 3 * cols - 1);
        }
    }
}
