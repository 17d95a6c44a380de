//! Every way in which a header can be wrong that the public record of GGUF readers knows.

use super::tests::{file, read};
use super::*;
use crate::error::Code;

/// A file by its parts, so that any of them can be wrong.
struct Parts {
    version: u32,
    tensors: u64,
    keys: u64,
    body: Vec<u8>,
    data: usize,
}

fn text(s: &str) -> Vec<u8> {
    [&(s.len() as u64).to_le_bytes()[..], s.as_bytes()].concat()
}

fn key(name: &str, ty: i32, value: &[u8]) -> Vec<u8> {
    [&text(name)[..], &ty.to_le_bytes(), value].concat()
}

fn array(ty: i32, count: u64, values: &[u8]) -> Vec<u8> {
    let value = [&ty.to_le_bytes()[..], &count.to_le_bytes(), values].concat();
    key("a", 9, &value)
}

/// Dimensions innermost first, as in the file.
fn info(name: &str, dims: &[u64], ty: i32, offset: u64) -> Vec<u8> {
    let mut out = text(name);
    out.extend((dims.len() as u32).to_le_bytes());
    for d in dims {
        out.extend(d.to_le_bytes());
    }
    out.extend(ty.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out
}

fn keys(bodies: &[Vec<u8>]) -> Parts {
    Parts {
        version: 3,
        tensors: 0,
        keys: bodies.len() as u64,
        body: bodies.concat(),
        data: 0,
    }
}

fn tensors(infos: &[Vec<u8>], data: usize) -> Parts {
    Parts {
        tensors: infos.len() as u64,
        keys: 0,
        data,
        ..keys(infos)
    }
}

impl Parts {
    fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.tensors.to_le_bytes());
        out.extend(self.keys.to_le_bytes());
        out.extend(&self.body);
        if self.data > 0 {
            out.resize(out.len().next_multiple_of(32) + self.data, 0);
        }
        out
    }

    fn code(&self) -> Code {
        let error = read(&self.bytes()).unwrap_err();
        assert!(error.place.contains("byte"), "no byte position: {error}");
        assert!(error.to_string().len() < 700, "{error}");
        error.code
    }
}

const F32: i32 = 0;
const MAX: u64 = u64::MAX;

#[test]
fn counts() {
    let plain = || keys(&[key("a", 4, &[0; 4])]);
    for (tensors, keys, code) in [
        (0, MAX, Code::CountLimit),
        (0, 1 << 60, Code::CountLimit),
        (0, 65_537, Code::CountLimit),
        (0, 60_000, Code::Truncated),
        (MAX, 1, Code::CountLimit),
        (1 << 62, 1, Code::CountLimit),
        (900_000, 1, Code::Truncated),
    ] {
        let parts = Parts {
            tensors,
            keys,
            ..plain()
        };
        assert_eq!(parts.code(), code, "{tensors} tensors, {keys} keys");
    }
    read(&plain().bytes()).unwrap();
}

#[test]
fn versions() {
    let file = |version| Parts {
        version,
        ..keys(&[])
    };
    let what = |version| read(&file(version).bytes()).unwrap_err().what;
    let whats = [0, 1, 4, 3 << 24].map(what);
    for (version, what) in [0, 1, 4, 3 << 24].iter().zip(&whats) {
        assert_eq!(file(*version).code(), Code::Version, "{what}");
    }
    assert_eq!(
        whats
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        4
    );
    assert!(whats[3].contains("swapped"), "{}", whats[3]);
    for good in [2, 3] {
        read(&file(good).bytes()).unwrap();
    }
    for (bytes, code) in [
        (&b"GGML\x03\0\0\0 etc"[..], Code::NotAModel),
        (b"<!doctype html><html>", Code::NotAModel),
        (b"version https://git-lfs", Code::NotAModel),
        (b"GGU", Code::Truncated),
        (b"", Code::Truncated),
    ] {
        assert_eq!(read(bytes).unwrap_err().code, code);
    }
}

#[test]
fn strings_and_arrays() {
    let long = |n: u64| [&n.to_le_bytes()[..], b"abcdefgh"].concat();
    let nested = |depth: usize| {
        let level = [&9i32.to_le_bytes()[..], &1u64.to_le_bytes()].concat();
        [key("a", 9, &[]), level.repeat(depth)].concat()
    };
    for (body, code) in [
        (key("a", 8, &long(MAX)), Code::StringLimit),
        (key("a", 8, &long((16 << 20) + 1)), Code::StringLimit),
        (key("a", 8, &long(9)), Code::Truncated),
        (long(MAX), Code::StringLimit),
        (long(65_536), Code::StringLimit),
        (
            key("a", 8, &[&2u64.to_le_bytes()[..], &[0xff, 0xff]].concat()),
            Code::Metadata,
        ),
        (key("", 4, &[0; 8]), Code::Name),
        (key("a\u{7}", 4, &[0; 4]), Code::Name),
        (array(4, MAX, &[0; 8]), Code::ArrayLimit),
        (array(4, 1 << 62, &[0; 8]), Code::ArrayLimit),
        (array(8, 1 << 61, &[0; 8]), Code::ArrayLimit),
        (array(12, 1 << 59, &[0; 8]), Code::ArrayLimit),
        (array(4, 3, &[0; 8]), Code::Truncated),
        (array(8, 3, &text("a")), Code::Truncated),
        (array(8, 1, &MAX.to_le_bytes()), Code::StringLimit),
        (nested(1), Code::Nesting),
        (nested(100_000), Code::Nesting),
        (array(13, 1, &[0; 8]), Code::Metadata),
        (array(-1, 1, &[0; 8]), Code::Metadata),
        (key("a", 13, &[0; 8]), Code::Metadata),
        (key("a", -1, &[0; 8]), Code::Metadata),
        (key("a", 7, &[2]), Code::Metadata),
        (array(7, 2, &[1, 2]), Code::Metadata),
    ] {
        assert_eq!(keys(std::slice::from_ref(&body)).code(), code, "{body:?}");
    }
    read(&keys(&[array(4, 0, &[]), key("b", 7, &[1])]).bytes()).unwrap();
}

#[test]
fn duplicates() {
    let one = key("a", 4, &[0; 4]);
    assert_eq!(keys(&[one.clone(), one]).code(), Code::DuplicateKey);
    let two = [info("t", &[8], F32, 0), info("t", &[8], F32, 32)];
    assert_eq!(tensors(&two, 64).code(), Code::DuplicateKey);
}

#[test]
fn alignments() {
    for bad in [0u32, 13, 1 << 31, 1 << 21] {
        let body = key("general.alignment", 4, &bad.to_le_bytes());
        assert_eq!(keys(&[body]).code(), Code::Alignment, "{bad}");
    }
    for (ty, value) in [(8, text("32")), (5, 32i32.to_le_bytes().to_vec())] {
        let body = key("general.alignment", ty, &value);
        assert_eq!(keys(&[body]).code(), Code::Alignment);
    }
    let body = key("general.alignment", 4, &1u32.to_le_bytes());
    assert_eq!(read(&keys(&[body]).bytes()).unwrap().alignment, 1);
}

#[test]
fn tensors_by_themselves() {
    let half = 1u64 << 32;
    for (info, code) in [
        (info("t", &[half, half], F32, 0), Code::Shape),
        (info("t", &[half, half, 4, 4], F32, 0), Code::Shape),
        (info("t", &[MAX], F32, 0), Code::Shape),
        (info("t", &[(1 << 63) - 1], F32, 0), Code::Shape),
        (info("t", &[1; 5], F32, 0), Code::Rank),
        (info("t", &[8], -1, 0), Code::Dtype),
        (info("t", &[8], 4, 0), Code::Dtype),
        (info("t", &[8], 99, 0), Code::Dtype),
        (info("t", &[33], 2, 0), Code::Block),
        (info("t", &[128, 4], 12, 0), Code::Block),
        (info("", &[8], F32, 0), Code::Name),
        (info("t\u{202e}", &[8], F32, 0), Code::Name),
        (info(&"t".repeat(257), &[8], F32, 0), Code::StringLimit),
        (info("t", &[1 << 40], F32, 0), Code::Truncated),
        (info("t", &[64], F32, 0), Code::Truncated),
    ] {
        assert_eq!(
            tensors(std::slice::from_ref(&info), 64).code(),
            code,
            "{info:?}"
        );
    }
    let rank = [text("t"), u32::MAX.to_le_bytes().to_vec(), vec![0; 64]].concat();
    assert_eq!(tensors(&[rank], 64).code(), Code::Rank);
    let scalar_and_empty = [info("s", &[], F32, 0), info("e", &[0, 7], F32, 32)];
    let header = read(&tensors(&scalar_and_empty, 32).bytes()).unwrap();
    assert_eq!((header.tensors[0].bytes, header.tensors[1].bytes), (4, 0));
}

#[test]
fn tensors_among_each_other() {
    let big = |name, offset| info(name, &[1 << 60], F32, offset);
    let three = [
        big("a", 0),
        big("b", 1 << 62),
        big("c", 1 << 63),
        big("d", 3 << 62),
    ];
    assert_eq!(tensors(&three, 32).code(), Code::DataLimit);
    let last = [
        info("a", &[(1 << 62) - 1], 25, 0),
        info("b", &[(1 << 62) - 1], 25, 1 << 63),
    ];
    assert_eq!(tensors(&last[..1], 32).code(), Code::Truncated);
    let eight = |name, offset| info(name, &[8], F32, offset);
    for (second, code) in [
        (0, Code::Overlap),
        (16, Code::Overlap),
        (33, Code::Hole),
        (64, Code::Hole),
        (MAX, Code::Hole),
    ] {
        let pair = [eight("a", 0), eight("b", second)];
        assert_eq!(tensors(&pair, 64).code(), code, "second at {second}");
    }
    assert_eq!(tensors(&[eight("a", 32)], 64).code(), Code::Hole);
    assert_eq!(tensors(&[eight("a", 0)], 64).code(), Code::TrailingBytes);
    read(&tensors(&[eight("a", 0), eight("b", 32)], 64).bytes()).unwrap();
}

#[test]
fn a_limit_is_lifted_by_the_caller_only() {
    let long = "x".repeat(300);
    let bytes = tensors(&[info(&long, &[8], F32, 0)], 32).bytes();
    assert_eq!(read(&bytes).unwrap_err().code, Code::StringLimit);
    let limits = Limits {
        name_bytes: 400,
        ..Limits::default()
    };
    // `check_name` still asks for names that can be shown.
    let error = parse(&bytes, bytes.len() as u64, &limits).unwrap_err();
    assert_eq!(error.code, Code::Name);
    let small = Limits {
        header_bytes: 40,
        ..Limits::default()
    };
    let bytes = file();
    let error = parse(&bytes, bytes.len() as u64, &small).unwrap_err();
    assert_eq!(error.code, Code::HeaderLimit);
}
