//! Encoders and decoders against ggml's blocks and floats (`test/fixtures/make_gguf.py`).
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its fixture is not as written"
)]

use lowbit::container::safetensors;
use lowbit::gguf::{Importance, Type, decode, encode};
use lowbit::tensor::f32_from;
use lowbit::{Cpu, Dtype};
use sha2::{Digest, Sha256};

const FILE: &[u8] = include_bytes!("../../../test/fixtures/vectors/gguf.safetensors");
const COLS: usize = 512;

fn header() -> safetensors::Header {
    safetensors::parse(FILE, FILE.len() as u64).unwrap()
}

fn bytes(name: &str) -> Option<&'static [u8]> {
    let header = header();
    let entry = header.entries.iter().find(|e| e.name == name)?;
    let data = &FILE[header.data_start as usize..];
    Some(&data[entry.begin as usize..entry.end as usize])
}

fn floats(name: &str) -> Vec<f32> {
    let bytes = bytes(name).unwrap();
    let mut out = vec![0.0; bytes.len() / 4];
    f32_from(Dtype::F32, bytes, &mut out).unwrap();
    out
}

/// Names of types in the fixture.
fn types() -> Vec<String> {
    let names = header().entries.into_iter().map(|e| e.name);
    let plain = names.filter_map(|n| n.strip_suffix(".plain").map(String::from));
    plain.collect()
}

fn compare(name: &str, kind: &str, found: &[u8], want: &[u8]) {
    let ty = Type::by_name(name).unwrap();
    assert_eq!(found.len(), want.len(), "{name}");
    let pairs = found.chunks(ty.bytes).zip(want.chunks(ty.bytes));
    let differing: Vec<usize> = pairs
        .enumerate()
        .filter_map(|(i, (a, b))| (a != b).then_some(i))
        .collect();
    assert!(differing.is_empty(), "{name} {kind}: blocks {differing:?}");
}

#[test]
fn blocks_are_those_of_ggml() {
    let values = floats("rows");
    let importance = Importance::new(floats("importance")).unwrap();
    let cpu = Cpu::single();
    for name in types() {
        let ty = Type::by_name(&name).unwrap();
        let plain = bytes(&format!("{name}.plain")).unwrap();
        let found = encode(ty, &values, COLS, None, &cpu).unwrap();
        compare(&name, "plain", &found, plain);
        // Types that do not use an importance matrix have the same blocks with it.
        let weighted = bytes(&format!("{name}.weighted")).unwrap_or(plain);
        let found = encode(ty, &values, COLS, Some(&importance), &cpu).unwrap();
        compare(&name, "weighted", &found, weighted);
    }
    assert_eq!(types().len(), 15);
}

#[test]
fn floats_are_those_of_ggml() {
    let header = header();
    let names = header
        .metadata
        .keys()
        .filter_map(|k| k.strip_suffix(".decoded"));
    assert_eq!(names.clone().count(), 22);
    for name in names {
        let ty = Type::by_name(name).unwrap();
        let plain = bytes(&format!("{name}.plain"));
        let blocks = plain.or_else(|| bytes(&format!("{name}.blocks"))).unwrap();
        let mut out = vec![0.0f32; blocks.len() / ty.bytes * ty.block];
        decode(ty, blocks, &mut out).unwrap();
        let mut hash = Sha256::new();
        for v in &out {
            hash.update(v.to_le_bytes());
        }
        let digits = hash.finalize().into_iter().flat_map(|b| [b >> 4, b & 15]);
        let digits = digits.filter_map(|d| char::from_digit(u32::from(d), 16));
        let found: String = digits.collect();
        assert_eq!(found, header.metadata[&format!("{name}.decoded")], "{name}");
    }
}
