//! What is written is read back, whole, in pieces and in parts.

use super::write::{Planned, layout_file};
use super::*;
use crate::error::{Code, Result};

/// Every kind of value, and tensors of several types.
pub(super) fn sample() -> (Metadata, Vec<Planned>) {
    let mut m = Metadata::new();
    m.set_string("general.architecture", "llama");
    m.set("a.u8", Value::U8(200));
    m.set("a.i8", Value::I8(-3));
    m.set("a.u16", Value::U16(65_000));
    m.set("a.i16", Value::I16(-300));
    m.set("a.u32", Value::U32(7));
    m.set("a.i32", Value::I32(-7));
    m.set("a.f32", Value::F32(1.5));
    m.set("a.f64", Value::F64(-2.25));
    m.set("a.u64", Value::U64(1 << 40));
    m.set("a.i64", Value::I64(-(1 << 40)));
    m.set("a.bool", Value::Bool(true));
    m.set("a.bools", Value::Array(Array::Bool(vec![true, false])));
    m.set("a.u32s", Value::Array(Array::U32(vec![3, 4, 5])));
    m.set("a.i32s", Value::Array(Array::I32(vec![1, -1])));
    m.set("a.f32s", Value::Array(Array::F32(vec![0.5, -0.5])));
    let texts = ["", "中文", "<s>"].map(String::from).to_vec();
    m.set("a.texts", Value::Array(Array::String(texts)));
    let planned = |name: &str, ty, shape: &[usize]| Planned {
        name: name.into(),
        ty,
        shape: shape.to_vec(),
    };
    let tensors = vec![
        planned("token_embd.weight", &types::Q4_K, &[3, 512]),
        planned("blk.0.attn_norm.weight", &types::F32, &[5]),
        planned("empty", &types::F16, &[0, 7]),
        planned("one", &types::I64, &[]),
        planned("blk.0.ffn_down_exps.weight", &types::Q8_0, &[2, 3, 64]),
    ];
    (m, tensors)
}

pub(super) fn file() -> Vec<u8> {
    let (metadata, tensors) = sample();
    let layout = layout_file(&metadata, &tensors).unwrap();
    let mut bytes = layout.head;
    bytes.resize(layout.file_bytes as usize, 0x5a);
    bytes
}

pub(super) fn read(bytes: &[u8]) -> Result<Header> {
    match parse(bytes, bytes.len() as u64, &Limits::default())? {
        Parsed::Header(header) => Ok(*header),
        Parsed::Need(n) => panic!("all {} bytes are there, {n} wanted", bytes.len()),
    }
}

#[test]
fn what_is_laid_out_is_read_back() {
    let (metadata, tensors) = sample();
    let header = read(&file()).unwrap();
    assert_eq!((header.version, header.alignment), (3, 32));
    assert_eq!(header.metadata, metadata);
    for (found, wanted) in header.tensors.iter().zip(&tensors) {
        assert_eq!(found.name, wanted.name);
        assert_eq!((found.ty, &found.shape), (wanted.ty, &wanted.shape));
        assert_eq!(found.bytes, wanted.bytes().unwrap());
        assert!((header.data_start + found.offset).is_multiple_of(32));
    }
    assert_eq!(header.tensors.len(), tensors.len());
    assert_eq!(header.tensors[4].bytes, 6 * 2 * 34);
}

#[test]
fn values_are_read_as_their_own_type_only() {
    let m = read(&file()).unwrap().metadata;
    assert_eq!(m.index("a.u8").unwrap(), Some(200));
    assert_eq!(m.index("a.u64").unwrap(), Some(1 << 40));
    assert_eq!(m.float("a.f64").unwrap(), Some(-2.25));
    assert_eq!(m.bool("a.bool").unwrap(), Some(true));
    assert_eq!(m.strings("a.texts").unwrap().unwrap()[1], "中文");
    assert_eq!(m.integers("a.i32s").unwrap(), Some(&[1, -1][..]));
    assert_eq!(m.string("missing").unwrap(), None);
    assert_eq!(m.per_layer("a.u32", 4).unwrap(), Some(vec![7; 4]));
    assert_eq!(m.per_layer("a.u32s", 3).unwrap(), Some(vec![3, 4, 5]));
    let code = |r: Result<()>| r.unwrap_err().code;
    assert_eq!(code(m.index("a.i8").map(drop)), Code::Metadata);
    assert_eq!(code(m.floats("a.i32s").map(drop)), Code::Metadata);
    assert_eq!(code(m.strings("a.f32s").map(drop)), Code::Metadata);
    assert_eq!(code(m.per_layer("a.u32s", 4).map(drop)), Code::Metadata);
}

#[test]
fn a_reader_with_few_bytes_asks_for_more_and_ends() {
    let (mut metadata, tensors) = sample();
    let tokens = (0..40_000).map(|i| format!("token {i}")).collect();
    metadata.set("tokens", Value::Array(Array::String(tokens)));
    let layout = layout_file(&metadata, &tensors).unwrap();
    let mut bytes = layout.head;
    bytes.resize(layout.file_bytes as usize, 0);
    let (mut have, mut calls) = (0, 0);
    let header = loop {
        calls += 1;
        match parse(&bytes[..have], bytes.len() as u64, &Limits::default()).unwrap() {
            Parsed::Header(header) => break header,
            Parsed::Need(n) => {
                assert!(n as usize > have && n as usize <= bytes.len());
                have = n as usize;
            }
        }
    };
    assert!(calls <= 6, "{calls} calls for {} bytes", bytes.len());
    assert_eq!(header.metadata, metadata);
}

#[test]
fn an_alignment_of_its_own_is_kept() {
    let (mut metadata, tensors) = sample();
    metadata.set("general.alignment", Value::U32(4096));
    let layout = layout_file(&metadata, &tensors).unwrap();
    let mut bytes = layout.head.clone();
    bytes.resize(layout.file_bytes as usize, 0);
    let header = read(&bytes).unwrap();
    assert_eq!((header.alignment, header.data_start % 4096), (4096, 0));
    assert!(layout.offsets.iter().all(|o| o.is_multiple_of(4096)));
}

#[test]
fn version_two_is_read() {
    let mut bytes = file();
    bytes[4] = 2;
    assert_eq!(read(&bytes).unwrap().version, 2);
}

#[test]
fn the_padding_behind_the_last_tensor_may_be_missing() {
    let bytes = file();
    let header = read(&bytes).unwrap();
    let last = header.tensors.last().unwrap();
    let end = (header.data_start + last.offset + last.bytes) as usize;
    assert!(end < bytes.len(), "408 bytes need padding");
    read(&bytes[..end]).unwrap();
    let mut longer = bytes;
    longer.push(0);
    assert_eq!(read(&longer).unwrap_err().code, Code::TrailingBytes);
}

#[test]
fn writing_refuses_what_reading_would() {
    let plan = |name: &str, ty, shape: &[usize]| {
        let planned = Planned {
            name: name.into(),
            ty,
            shape: shape.to_vec(),
        };
        layout_file(&Metadata::new(), &[planned.clone(), planned])
            .unwrap_err()
            .code
    };
    assert_eq!(plan("a", &types::F32, &[1]), Code::DuplicateKey);
    assert_eq!(plan("a\n", &types::F32, &[1]), Code::Name);
    assert_eq!(plan(&"a".repeat(64), &types::F32, &[1]), Code::Name);
    assert_eq!(plan("a", &types::Q4_K, &[2, 255]), Code::Block);
    assert_eq!(plan("a", &types::F32, &[1; 5]), Code::Rank);
    assert_eq!(plan("a", &types::F32, &[usize::MAX, 2]), Code::Shape);
    let mut odd = Metadata::new();
    odd.set("general.alignment", Value::U32(12));
    assert_eq!(layout_file(&odd, &[]).unwrap_err().code, Code::Alignment);
}

#[test]
fn parts_are_cut_named_and_checked() {
    let (metadata, tensors) = sample();
    let parts = split::split("m", &metadata, &tensors, 400).unwrap();
    let ranges: Vec<_> = parts.iter().map(|p| p.tensors.clone()).collect();
    assert_eq!(ranges, [0..1, 1..4, 4..5]);
    assert_eq!(parts[2].file, "m-00003-of-00003.gguf");
    assert_eq!(split::parse_name(&parts[2].file), Some(("m", 2, 3)));
    assert_eq!(split::parse_name("m-00004-of-00003.gguf"), None);
    assert_eq!(split::parse_name("m-4-of-5.gguf"), None);
    let headers: Vec<_> = parts
        .iter()
        .map(|p| {
            let layout = layout_file(&p.metadata, &tensors[p.tensors.clone()]).unwrap();
            let mut bytes = layout.head;
            bytes.resize(layout.file_bytes as usize, 0);
            read(&bytes).unwrap()
        })
        .collect();
    split::check(&headers).unwrap();
    assert_eq!(headers[1].metadata.len(), 3);
    let code = |h: &[Header]| split::check(h).unwrap_err().code;
    assert_eq!(code(&headers[..2]), Code::Index);
    let swapped = [headers[1].clone(), headers[0].clone(), headers[2].clone()];
    assert_eq!(code(&swapped), Code::Index);
    let mut twice = headers.clone();
    twice[2].tensors = twice[1].tensors.clone();
    assert_eq!(code(&twice), Code::Index);
    let one = split::split("m", &metadata, &tensors, u64::MAX).unwrap();
    assert_eq!((one.len(), one[0].file.as_str()), (1, "m.gguf"));
}

#[test]
fn a_cut_at_any_byte_is_truncated() {
    let bytes = file();
    let header = read(&bytes).unwrap();
    let last = header.tensors.last().unwrap();
    let end = header.data_start + last.offset + last.bytes;
    for cut in 0..end as usize {
        let error = read(&bytes[..cut]).unwrap_err();
        assert_eq!(error.code, Code::Truncated, "cut at {cut}: {error}");
    }
    // The same when only the header was read and the file's length is known.
    let head = &bytes[..header.data_start as usize];
    for cut in header.data_start..end {
        let error = parse(head, cut, &Limits::default()).unwrap_err();
        assert_eq!(error.code, Code::Truncated, "cut at {cut}: {error}");
    }
}

#[test]
fn a_flipped_bit_is_refused_or_leaves_the_tensors_where_they_are() {
    let bytes = file();
    let header = read(&bytes).unwrap();
    let places = |h: &Header| -> Vec<_> {
        h.tensors
            .iter()
            .map(|t| (t.offset, t.shape.iter().product::<usize>()))
            .collect()
    };
    let mut accepted = 0;
    for at in 0..header.data_start as usize {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            if let Ok(other) = read(&flipped) {
                assert_eq!(places(&other).len(), places(&header).len());
                let inside =
                    |t: &TensorInfo| other.data_start + t.offset + t.bytes <= bytes.len() as u64;
                assert!(other.tensors.iter().all(inside), "byte {at} bit {bit}");
                accepted += 1;
            }
        }
    }
    assert!(accepted > 0, "names can change");
}
