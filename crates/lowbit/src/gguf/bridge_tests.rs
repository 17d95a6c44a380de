//! A matrix of blocks gives the floats of the blocks, bit for bit.

use super::bridge::matrix;
use super::codec::{decode, encode};
use super::types::{self, TYPES};
use crate::Cpu;
use crate::error::Code;

#[test]
fn every_type_gives_its_floats() {
    let (rows, cols) = (3, 512);
    let values: Vec<f32> = (0..rows * cols)
        .map(|i| ((i * 7919 % 1009) as f32 - 500.0) / 4096.0 * (1.0 + (i / 100) as f32))
        .collect();
    let mut seen = 0;
    for ty in TYPES
        .iter()
        .filter(|t| t.codec.is_some_and(|c| c.encode.is_some()))
    {
        let blocks = encode(ty, &values, cols, None, &Cpu::single()).unwrap();
        let mut want = vec![0.0; values.len()];
        decode(ty, &blocks, &mut want).unwrap();
        let Some(m) = matrix(ty, &blocks, cols).unwrap() else {
            assert_eq!(ty.block, 1, "{}", ty.name);
            continue;
        };
        assert_eq!((m.rows, m.cols), (rows, cols));
        m.validate().unwrap();
        let mut found = vec![0.0; cols];
        for (row, want) in want.chunks(cols).enumerate() {
            m.dequantize_row(row, &mut found).unwrap();
            assert!(found == want, "{} row {row}", ty.name);
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
    assert_eq!(code(&types::Q8_1, &[0; 36], 32), Code::Unsupported);
    let infinite = [&[0u8, 0x7c][..], &[0; 16]].concat();
    assert_eq!(code(&types::Q4_0, &infinite, 32), Code::Qparam);
}
