//! Codes in 32-bit words, along a row and down a column.

use crate::pack::{codes_from_words, pack, words_from_codes, words_len};

/// How a run of codes lies in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// Without gaps: codes may straddle two words.
    Dense,
    /// Whole codes only: the highest `32 mod b` bits of a word are unused.
    PerWord,
}

impl Stream {
    /// Words that a run of `codes` takes.
    pub(super) fn words(self, codes: usize, bits: u8) -> usize {
        match self {
            Self::Dense => words_len(codes, bits),
            Self::PerWord => codes.div_ceil(32 / usize::from(bits)),
        }
    }

    /// The codes of one run.
    fn codes(self, words: &[u32], bits: u8, codes: &mut [u8]) {
        if self == Self::Dense {
            return codes_from_words(words, bits, codes);
        }
        let mask = (1u32 << bits) - 1;
        for (word, codes) in words.iter().zip(codes.chunks_mut(32 / usize::from(bits))) {
            for (i, code) in codes.iter_mut().enumerate() {
                *code = (word >> (i * usize::from(bits)) & mask) as u8;
            }
        }
    }

    /// The words of one run.
    fn pack(self, codes: &[u8], bits: u8) -> Vec<u32> {
        if self == Self::Dense {
            return words_from_codes(codes, bits);
        }
        let word = |codes: &[u8]| {
            let codes = codes.iter().enumerate();
            codes.fold(0, |word, (i, c)| {
                word | u32::from(*c) << (i * usize::from(bits))
            })
        };
        codes.chunks(32 / usize::from(bits)).map(word).collect()
    }

    /// The words of all rows of the in-memory form as this stream has them.
    pub(super) fn of_dense(self, words: &[u32], cols: usize, bits: u8) -> Vec<u32> {
        if self == Self::Dense || 32 % bits == 0 {
            return words.to_vec();
        }
        let mut codes = vec![0; cols];
        let rows = words.chunks_exact(words_len(cols, bits));
        rows.flat_map(|row| {
            codes_from_words(row, bits, &mut codes);
            self.pack(&codes, bits)
        })
        .collect()
    }

    /// The words of all rows as the in-memory form wants them; free when they are so already.
    pub(super) fn to_dense(self, words: Vec<u32>, cols: usize, bits: u8) -> Vec<u32> {
        if self == Self::Dense || 32 % bits == 0 {
            return words;
        }
        let mut codes = vec![0; cols];
        let width = words_len(cols, bits);
        let rows = words.chunks_exact(self.words(cols, bits));
        let mut dense = vec![0; rows.len() * width];
        for (row, dense) in rows.zip(dense.chunks_exact_mut(width)) {
            self.codes(row, bits, &mut codes);
            pack(&codes, bits, dense);
        }
        dense
    }
}

/// Packs `codes[rows, groups]` down each column: word w of column g lies at `[w, g]`.
pub(super) fn words_down(codes: &[u8], groups: usize, bits: u8, stream: Stream) -> Vec<u32> {
    let rows = codes.len() / groups;
    let mut words = vec![0; stream.words(rows, bits) * groups];
    for g in 0..groups {
        let column: Vec<u8> = codes.iter().skip(g).step_by(groups).copied().collect();
        let places = words.iter_mut().skip(g).step_by(groups);
        for (place, word) in places.zip(stream.pack(&column, bits)) {
            *place = word;
        }
    }
    words
}

/// Undoes `words_down` for a stream of either kind.
pub(super) fn codes_down(
    words: &[u32],
    rows: usize,
    groups: usize,
    bits: u8,
    stream: Stream,
) -> Vec<u8> {
    let mut codes = vec![0; rows * groups];
    let mut column = vec![0; rows];
    for g in 0..groups {
        let run: Vec<u32> = words.iter().skip(g).step_by(groups).copied().collect();
        stream.codes(&run, bits, &mut column);
        for (place, code) in codes.iter_mut().skip(g).step_by(groups).zip(&column) {
            *place = *code;
        }
    }
    codes
}
