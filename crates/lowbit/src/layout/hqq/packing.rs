//! Codes of several groups in one line.

use crate::layout::parts::{bytes_from_words, words_from_bytes};

/// How codes of a width are packed.
pub(super) struct Packing {
    pub(super) name: &'static str,
    /// Lines of codes in one line of `W_q`.
    pub(super) lines: usize,
    /// Whether `W_q` is I32 rather than U8.
    pub(super) words: bool,
}

pub(super) const fn packing(bits: u8) -> Packing {
    let (name, lines) = match bits {
        2 => ("2bit_u8", 4),
        3 => ("3bit_32", 10),
        4 => ("4bit_u8", 2),
        _ => ("8bit_u8", 1),
    };
    Packing {
        name,
        lines,
        words: bits == 3,
    }
}

/// Where line `i` of `n` lies: the line of `W_q` and the bit at which it starts.
fn place(i: usize, n: usize, bits: u8) -> (usize, usize) {
    let Packing { lines, .. } = packing(bits);
    let step = n.div_ceil(lines);
    (i % step, (lines - 1 - i / step) * usize::from(bits))
}

/// `W_q` of codes `[rows, cols]`.
pub(super) fn pack(codes: &[u8], bits: u8, group: usize) -> Vec<u8> {
    let n = codes.len() / group;
    let Packing { lines, words, .. } = packing(bits);
    let mut packed = vec![0u32; n.div_ceil(lines) * group];
    for (i, line) in codes.chunks_exact(group).enumerate() {
        let (to, shift) = place(i, n, bits);
        for (word, code) in packed[to * group..][..group].iter_mut().zip(line) {
            *word |= u32::from(*code) << shift;
        }
    }
    if words {
        bytes_from_words(&packed)
    } else {
        packed.iter().map(|w| *w as u8).collect()
    }
}

/// The `count` codes of `W_q`.
pub(super) fn unpack(bytes: &[u8], bits: u8, group: usize, count: usize) -> Vec<u8> {
    let n = count / group;
    let packed: Vec<u32> = if packing(bits).words {
        words_from_bytes(bytes)
    } else {
        bytes.iter().map(|b| u32::from(*b)).collect()
    };
    let mask = (1u32 << bits) - 1;
    let mut codes = vec![0; count];
    for (i, line) in codes.chunks_exact_mut(group).enumerate() {
        let (from, shift) = place(i, n, bits);
        for (code, word) in line.iter_mut().zip(&packed[from * group..][..group]) {
            *code = (word >> shift & mask) as u8;
        }
    }
    codes
}
