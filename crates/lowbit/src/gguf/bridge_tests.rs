//! A matrix of blocks gives the floats of the blocks, bit for bit.

use super::bridge::matrix;
use super::codec::{decode, encode};
use super::types::{self, TYPES};
use crate::Cpu;
use crate::error::Code;
use crate::matrix::{QuantizedMatrix, Values, Zero};
use crate::pack;

/// Value [row, col] by the definitions in `matrix.rs`.
fn value(m: &QuantizedMatrix, row: usize, col: usize) -> f32 {
    let (codes, group, scales) = match &m.values {
        Values::Integer(i) => (&i.codes, i.group, &i.scales),
        Values::Table(t) => (&t.codes, t.group, &t.scales),
        Values::Minifloat(_) => panic!("blocks are no small floats"),
    };
    let mut row_codes = vec![0; m.cols];
    let words = &codes.words[row * codes.row_words..][..codes.row_words];
    pack::codes_from_words(words, codes.bits, &mut row_codes);
    let g = row * (m.cols / group) + col / group;
    let scale = scales.get(g);
    let q = f32::from(row_codes[col]);
    match &m.values {
        Values::Table(t) => scale * t.values[usize::from(row_codes[col])],
        Values::Integer(i) => match &i.zero {
            Zero::Centre => scale * (q - (1u32 << (codes.bits - 1)) as f32),
            Zero::Int(z) => scale * (q - f32::from(z[g])),
            Zero::Min(min) => scale * q - min.get(g),
            Zero::Float(_) => panic!("blocks have no float zeros"),
        },
        Values::Minifloat(_) => panic!("blocks are no small floats"),
    }
}

#[test]
fn every_type_gives_its_floats() {
    let (rows, cols) = (3, 512);
    let values: Vec<f32> = (0..rows * cols)
        .map(|i| ((i * 7919 % 1009) as f32 - 500.0) / 4096.0 * (1.0 + (i / 100) as f32))
        .collect();
    let mut seen = 0;
    for ty in TYPES.iter().filter(|t| t.codec.is_some()) {
        let blocks = encode(ty, &values, cols, None, &Cpu::single()).unwrap();
        let mut want = vec![0.0; values.len()];
        decode(ty, &blocks, &mut want).unwrap();
        let Some(m) = matrix(ty, &blocks, cols).unwrap() else {
            assert_eq!(ty.block, 1, "{}", ty.name);
            continue;
        };
        assert_eq!((m.rows, m.cols), (rows, cols));
        for (i, want) in want.iter().enumerate() {
            let found = value(&m, i / cols, i % cols);
            assert!(found == *want, "{} [{i}]: {found} for {want}", ty.name);
        }
        seen += 1;
    }
    assert_eq!(seen, 15);
}

#[test]
fn what_does_not_fit_is_refused() {
    let code = |ty, bytes: &[u8], cols| matrix(ty, bytes, cols).unwrap_err().code;
    assert_eq!(code(&types::Q4_K, &[0; 144], 128), Code::Block);
    assert_eq!(code(&types::Q4_K, &[0; 143], 256), Code::Shape);
    assert_eq!(code(&types::IQ2_XS, &[0; 74], 256), Code::Unsupported);
    let infinite = [&[0u8, 0x7c][..], &[0; 16]].concat();
    assert_eq!(code(&types::Q4_0, &infinite, 32), Code::Qparam);
}
