//! Golden vectors, and what must hold for every type.

use super::*;
use crate::cpu::{Cpu, Isa};
use crate::error::Code;
use sha2::{Digest, Sha256};

/// Types that are written and read here.
fn codecs() -> impl Iterator<Item = &'static Type> {
    let written = |t: &&Type| t.codec.is_some_and(|c| c.encode.is_some());
    types::TYPES.iter().copied().filter(written)
}

fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..8])
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|b| [b >> 4, b & 15]);
    digits
        .filter_map(|d| char::from_digit(d.into(), 16))
        .collect()
}

/// One row of 256 floats that are exact in every float type that matters.
fn row() -> Vec<f32> {
    (0..256)
        .map(|j| ((37 * j % 101) as f32 - 50.0) / 64.0)
        .collect()
}

/// Name, start of the first block, hashes of the row without and with importance, as ggml gives
/// them (gcc, x86-64, contraction off).
const GOLDEN: &[(&str, &str, &str, &str)] = &[
    (
        "Q4_0",
        "402ee046acf258bd1379df358be046acf268",
        "95db026ac175afe8",
        "34d90096017de5e2",
    ),
    (
        "Q4_1",
        "ab2e40bad0369bf257bd1369ce258ae0469cf258",
        "6f872499b1d02303",
        "35b041c5000e83ff",
    ),
    (
        "Q5_0",
        "402aa4a52d6dc07c38f3bf6b26e2ae5a15d18d49f4c0",
        "30a6df90472a3c3b",
        "4a4b49f311ed373a",
    ),
    (
        "Q5_1",
        "742a40baa4a52d6db07b37e3af6a26d29d5905c18c48f4b0",
        "dced0d408e967bdb",
        "3c935263b02796ca",
    ),
    (
        "Q8_0",
        "4d1e81df3d9af856b41270cd2b89e745a2005ebb1977d533",
        "1bd9ae3b23fa9170",
        "1bd9ae3b23fa9170",
    ),
    (
        "Q2_K",
        "dedecddffedeffcedebcdeeedcefbeef68b1d66cb11b6c86",
        "51b5fcfca3930c84",
        "26cdb44a97d5d6df",
    ),
    (
        "Q3_K",
        "86dc2bc6fd23d67923dc3986fc2bd6fda451fe045bae05fb",
        "d12d2dd3c10a1de9",
        "5242bccb82427572",
    ),
    (
        "Q4_K",
        "de162c22fefffffcfffdfefecfdcfffea0156bc1278cd348",
        "65631364f0f2dec2",
        "bd5f4e880ac019a1",
    ),
    (
        "Q5_K",
        "8e125322fffdfdfdfffcfeffdfeffdcf326c9936cc9366c9",
        "98c96294d82a03da",
        "5f5c2d5751490951",
    ),
    (
        "Q6_K",
        "d158bf37be25ad048b047bf37ad159d0c941ea63eb74fb74",
        "39b3c7e41708cfea",
        "b0633633a735007d",
    ),
    (
        "IQ4_NL",
        "ab1ee035acf157ce1369df249be136adf258",
        "7de74e51f53f8a4a",
        "7cdb94231fbb81fd",
    ),
    (
        "IQ4_XS",
        "ab8a0ccfe021fff2e035acf157ce1369df249be136adf258",
        "7f0f5c17aa945ecc",
        "2a97da169f36240b",
    ),
    (
        "TQ1_0",
        "296d7a486dd24676d36c7a456dcf466dd3467ad36c7a456d",
        "0d46548eac0f16f5",
        "0d46548eac0f16f5",
    ),
    (
        "TQ2_0",
        "146185586116584516618518618658611658851661851861",
        "5d4b19ae51ae8a8c",
        "5d4b19ae51ae8a8c",
    ),
    (
        "MXFP4",
        "7c6fdb257ec946fea267ec146fda357eb0",
        "e000ba594413b8fe",
        "e000ba594413b8fe",
    ),
];

#[test]
fn the_golden_vectors_on_every_instruction_set() {
    let importance = (0..256).map(|j| 1.0 + (7 * j % 13) as f32).collect();
    let importance = Importance::new(importance).unwrap();
    for (_, isa) in Isa::ALL.iter().filter(|(_, isa)| isa.available()) {
        let cpu = Cpu::with_isa(*isa);
        for (name, start, plain, weighted) in GOLDEN {
            let ty = Type::by_name(name).unwrap();
            let blocks = encode(ty, &row(), 256, None, &cpu).unwrap();
            let hex = hex(&blocks);
            assert!(hex.starts_with(start), "{name} on {}: {hex}", isa.name());
            assert_eq!(hash(&blocks), *plain, "{name} on {}", isa.name());
            let blocks = encode(ty, &row(), 256, Some(&importance), &cpu).unwrap();
            assert_eq!(
                hash(&blocks),
                *weighted,
                "{name} weighted on {}",
                isa.name()
            );
        }
    }
    assert_eq!(GOLDEN.len() + 3, codecs().count());
}

/// Rows with outliers, zeros, one sign and sizes far apart; the same for every run.
fn odd_rows(rows: usize, cols: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        f64::from(state) / f64::from(u32::MAX) - 0.5
    };
    (0..rows * cols)
        .map(|i| {
            let v = next() * next() * 0.1;
            match i / 96 % 7 {
                0 if i % 5 == 0 => 0.0,
                1 => v.abs() as f32,
                2 => -v.abs() as f32,
                3 => (v * 1e-12) as f32,
                4 if i % 31 == 0 => (v * 100.0) as f32,
                5 if i % 256 < 64 => 0.0,
                _ => v as f32,
            }
        })
        .collect()
}

#[test]
fn threads_instruction_sets_and_neighbours_do_not_matter() {
    let (rows, cols) = (37, 1280);
    let values = odd_rows(rows, cols);
    let importance = (0..cols).map(|j| (j % 17) as f32 * 0.25).collect();
    let importance = Importance::new(importance).unwrap();
    for ty in codecs() {
        for importance in [None, Some(&importance)] {
            let alone = Cpu::with_isa(Isa::Scalar);
            let want: Vec<u8> = values
                .chunks(cols)
                .flat_map(|row| encode(ty, row, cols, importance, &alone).unwrap())
                .collect();
            for (_, isa) in Isa::ALL.iter().filter(|(_, isa)| isa.available()) {
                let cpu = Cpu::new(*isa, 3).unwrap();
                let found = encode(ty, &values, cols, importance, &cpu).unwrap();
                assert!(found == want, "{} on {cpu:?}", ty.name);
            }
        }
    }
}

#[test]
fn encoding_what_was_decoded_keeps_the_error_small() {
    // Relative root mean square errors that ggml's encoders reach on heavy-tailed weights, plus room for rows
    // that are odder than those.
    let bounds = [
        ("Q4_0", 0.18),
        ("Q4_1", 0.18),
        ("Q5_0", 0.1),
        ("Q5_1", 0.1),
        ("Q8_0", 0.015),
        ("Q2_K", 0.5),
        ("Q3_K", 0.3),
        ("Q4_K", 0.15),
        ("Q5_K", 0.08),
        ("Q6_K", 0.04),
        ("IQ4_NL", 0.17),
        ("IQ4_XS", 0.17),
        ("MXFP4", 0.2),
        ("F32", 0.0),
        ("F16", 5e-4),
        ("BF16", 4e-3),
    ];
    let cpu = Cpu::single();
    let values = odd_rows(16, 512);
    for (name, bound) in bounds {
        let ty = Type::by_name(name).unwrap();
        let blocks = encode(ty, &values, 512, None, &cpu).unwrap();
        let mut back = vec![0.0; values.len()];
        decode(ty, &blocks, &mut back).unwrap();
        let sum = |f: &dyn Fn(usize) -> f64| (0..values.len()).map(f).sum::<f64>();
        let error = sum(&|i| f64::from(values[i] - back[i]).powi(2));
        let size = sum(&|i| f64::from(values[i]).powi(2));
        let relative = (error / size).sqrt();
        assert!(relative <= bound, "{name}: {relative}");
    }
}

#[test]
fn inactive_columns_do_not_erase_their_weights() {
    let values = odd_rows(4, 512);
    let dead = (0..512).map(|j| if j < 288 { 0.0 } else { 2.0 }).collect();
    let dead = Importance::new(dead).unwrap();
    assert_eq!((dead.values()[0], dead.values()[300]), (2.0, 2.0));
    for name in ["Q4_0", "Q4_K", "Q6_K", "Q2_K", "Q3_K", "IQ4_XS"] {
        let ty = Type::by_name(name).unwrap();
        let blocks = encode(ty, &values, 512, Some(&dead), &Cpu::single()).unwrap();
        let mut back = vec![0.0; values.len()];
        decode(ty, &blocks, &mut back).unwrap();
        assert!(back[..64].iter().any(|v| *v != 0.0), "{name}");
        assert!(back.iter().all(|v| v.is_finite()), "{name}");
    }
    for bad in [f32::NAN, -1.0, f32::INFINITY] {
        let error = Importance::new(vec![1.0, bad]).unwrap_err();
        assert_eq!(error.code, Code::Imatrix);
    }
}

#[test]
fn what_cannot_be_encoded_is_refused() {
    let cpu = Cpu::single();
    let code = |ty, values: &[f32], cols| encode(ty, values, cols, None, &cpu).unwrap_err();
    assert_eq!(code(&types::Q4_K, &[0.0; 128], 128).code, Code::Block);
    assert_eq!(
        code(&types::IQ2_XS, &[0.0; 256], 256).code,
        Code::Unsupported
    );
    let mut values = vec![0.5; 3 * 256];
    values[2 * 256 + 9] = f32::NAN;
    let error = code(&types::Q6_K, &values, 256);
    assert_eq!(
        (error.code, error.what.as_str()),
        (Code::NonfiniteWeight, "weight [2, 9] is NaN")
    );
    values[2 * 256 + 9] = 1e30;
    assert_eq!(code(&types::Q4_0, &values, 256).code, Code::Qparam);
    assert_eq!(code(&types::F16, &values, 256).code, Code::Qparam);
    let short = Importance::new(vec![1.0; 128]).unwrap();
    let error = encode(&types::Q4_K, &values[..256], 256, Some(&short), &cpu).unwrap_err();
    assert_eq!(error.code, Code::Imatrix);
    let mut blocks = vec![0u8; 144];
    let mut out = vec![0.0; 256];
    decode(&types::Q4_K, &blocks, &mut out).unwrap();
    assert_eq!(
        decode(&types::Q4_K, &blocks[1..], &mut out)
            .unwrap_err()
            .code,
        Code::Shape
    );
    blocks[1] = 0x7c;
    assert_eq!(
        decode(&types::Q4_K, &blocks, &mut out).unwrap_err().code,
        Code::Qparam
    );
}
