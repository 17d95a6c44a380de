//! A matrix of blocks gives the floats of the blocks, bit for bit.

use super::bridge::matrix;
use super::bridge_back::blocks;
use super::codec::{decode, encode};
use super::types::{self, TYPES, Type};
use crate::Cpu;
use crate::error::Code;
use crate::matrix::{Floats, Scales, Values, Zero};

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

/// Blocks of three rows of 256 values.
fn sample(name: &str) -> (&'static Type, Vec<u8>) {
    let values: Vec<f32> = (0..768)
        .map(|i| ((i * 37 % 101) as f32 - 47.0) / 32.0)
        .collect();
    let ty = Type::by_name(name).unwrap();
    (ty, encode(ty, &values, 256, None, &Cpu::single()).unwrap())
}

#[test]
fn blocks_come_back_as_they_were() {
    for name in ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "MXFP4"] {
        let (ty, bytes) = sample(name);
        let m = matrix(ty, &bytes, 256).unwrap().unwrap();
        assert!(blocks(ty, &m).unwrap() == bytes, "{name}");
    }
    let (ty, bytes) = sample("Q4_K");
    let m = matrix(ty, &bytes, 256).unwrap().unwrap();
    assert_eq!(blocks(ty, &m).unwrap_err().code, Code::Unsupported);
}

#[test]
fn wide_groups_repeat_their_scale_and_inexact_ones_are_refused() {
    let (ty, bytes) = sample("Q4_0");
    let mut m = matrix(ty, &bytes, 256).unwrap().unwrap();
    let Values::Integer(integer) = &mut m.values else {
        panic!("integers");
    };
    integer.group = 128;
    integer.scales = Scales::Flat(Floats::Bf16(vec![0x3e80; 6]));
    let wide = blocks(ty, &m).unwrap();
    assert!(wide.chunks(18).all(|b| b[..2] == [0x00, 0x34]), "a quarter");
    let mut out = vec![0.0; 256];
    let mut found = vec![0.0; 768];
    decode(ty, &wide, &mut found).unwrap();
    for (row, found) in found.chunks(256).enumerate() {
        m.dequantize_row(row, &mut out).unwrap();
        assert_eq!(out, found);
    }
    let refused = |change: &dyn Fn(&mut crate::matrix::Integer)| {
        let mut other = m.clone();
        if let Values::Integer(integer) = &mut other.values {
            change(integer);
        }
        blocks(ty, &other).unwrap_err().what
    };
    let tenth = refused(&|i| i.scales = Scales::Flat(Floats::F32(vec![0.1; 6])));
    assert!(tenth.contains("half-precision"), "{tenth}");
    let zeros = refused(&|i| i.zero = Zero::Int(vec![7; 6]));
    assert!(zeros.contains("zeros"), "{zeros}");
    let order = refused(&|i| i.group_of_col = Some((0..256).map(|j| j / 128).collect()));
    assert!(order.contains("runs of columns"), "{order}");
}

#[test]
fn ternary_values_come_back_exactly() {
    let values: Vec<f32> = (0..512).map(|i| (i * 7 % 3) as f32 * 0.5 - 0.5).collect();
    for ty in [&types::TQ1_0, &types::TQ2_0] {
        let blocks = encode(ty, &values, 512, None, &Cpu::single()).unwrap();
        let mut back = vec![0.0; 512];
        decode(ty, &blocks, &mut back).unwrap();
        assert_eq!(back, values, "{}", ty.name);
    }
}
