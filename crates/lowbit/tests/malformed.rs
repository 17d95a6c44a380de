//! Every malformed container of `test/fixtures/malformed.json` gives its code.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its table is not as written"
)]

use lowbit::container::{safetensors, shards};
use lowbit::{Code, Error};
use serde_json::Value;
use std::collections::BTreeMap;

/// Bytes of a recipe: strings of bytes as Latin-1, or `[string, times]` with `$i` counted up.
fn bytes(parts: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let mut push = |text: &str| out.extend(text.chars().map(|c| c as u8));
    for part in parts.as_array().unwrap() {
        match part {
            Value::String(text) => push(text),
            Value::Array(pair) => {
                let text = pair[0].as_str().unwrap();
                for i in 0..pair[1].as_u64().unwrap() {
                    push(&text.replace("$i", &i.to_string()));
                }
            }
            other => panic!("{other}"),
        }
    }
    out
}

fn file(case: &Value) -> Vec<u8> {
    if case.get("raw").is_some() {
        return bytes(&case["raw"]);
    }
    let header = bytes(&case["header"]);
    let length = case.get("length").map_or(header.len() as u64, |l| {
        l.as_str().unwrap().parse().unwrap()
    });
    let data = vec![0; case["data"].as_u64().unwrap() as usize];
    [&length.to_le_bytes()[..], &header, &data].concat()
}

fn code_of<T>(result: Result<T, Error>) -> &'static str {
    result.map_or_else(|e| e.code.name(), |_| "ok")
}

fn table() -> Value {
    let text = include_str!("../../../test/fixtures/malformed.json");
    serde_json::from_str(text).unwrap()
}

fn parse(bytes: &[u8]) -> Result<safetensors::Header, Error> {
    safetensors::parse(bytes, bytes.len() as u64)
}

#[test]
fn every_malformed_file_gives_its_code() {
    for case in table()["files"].as_array().unwrap() {
        let result = parse(&file(case));
        let shown = result
            .as_ref()
            .map_or_else(ToString::to_string, |_| String::new());
        assert_eq!(code_of(result), case["code"], "{}: {shown}", case["name"]);
        assert!(
            shown.len() < 700,
            "{}: {} bytes of message",
            case["name"],
            shown.len()
        );
        assert!(
            !shown.contains(|c: char| c.is_control()),
            "{}: {shown:?}",
            case["name"]
        );
    }
}

fn open(case: &Value) -> Result<(), Error> {
    let index = shards::parse_index(&bytes(&case["index"]))?;
    let mut headers = BTreeMap::new();
    for (name, shard) in case["files"].as_object().unwrap() {
        headers.insert(name.clone(), parse(&file(shard))?);
    }
    shards::check(&index, &headers)
}

#[test]
fn every_malformed_index_gives_its_code() {
    for case in table()["indexes"].as_array().unwrap() {
        assert_eq!(code_of(open(case)), case["code"], "{}", case["name"]);
    }
}

/// About 4 KB: 24 tensors of several types and some metadata.
fn sample() -> (Vec<u8>, safetensors::Header) {
    let planned: Vec<_> = (0..24)
        .map(|i| safetensors::Planned {
            name: format!("model.layers.{i}.self_attn.q_proj.weight_{}", i % 3),
            dtype: [lowbit::Dtype::BF16, lowbit::Dtype::I32, lowbit::Dtype::F32][i % 3],
            shape: vec![2 + i, 3],
        })
        .collect();
    let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    let (mut bytes, _, total) = safetensors::layout_file(&planned, &metadata).unwrap();
    bytes.resize(total as usize, 0x5a);
    let header = parse(&bytes).unwrap();
    (bytes, header)
}

#[test]
fn a_cut_at_any_byte_is_truncated() {
    let (bytes, _) = sample();
    for cut in 0..bytes.len() {
        let result = parse(&bytes[..cut]);
        assert_eq!(code_of(result), "truncated", "cut at {cut}");
    }
    // The same when only the header was read and the file's length is known.
    let start = parse(&bytes).unwrap().data_start;
    for cut in start..bytes.len() as u64 {
        let result = safetensors::parse(&bytes[..start as usize], cut);
        assert_eq!(code_of(result), "truncated", "cut at {cut}");
    }
}

/// What a header means, apart from the text of names and metadata.
fn meaning(header: &safetensors::Header) -> Vec<(lowbit::Dtype, Vec<usize>, u64, u64)> {
    let entries = header.entries.iter();
    entries
        .map(|e| (e.dtype, e.shape.clone(), e.begin, e.end))
        .collect()
}

#[test]
fn a_flipped_bit_is_refused_or_changes_only_text() {
    let (bytes, header) = sample();
    let mut accepted = 0;
    for at in 0..header.data_start as usize {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            if let Ok(other) = parse(&flipped) {
                assert_eq!(meaning(&other), meaning(&header), "byte {at} bit {bit}");
                accepted += 1;
            }
        }
    }
    assert!(accepted > 0, "names can change");
}

#[test]
fn what_is_laid_out_is_read_back() {
    let (bytes, header) = sample();
    assert_eq!(header.data_start % 8, 0);
    assert_eq!(header.metadata["format"], "pt");
    assert!(
        header
            .entries
            .iter()
            .all(|e| { (header.data_start + e.begin).is_multiple_of(e.dtype.bits() as u64 / 8) })
    );
    assert_eq!(
        bytes.len() as u64,
        header.data_start + header.entries[23].end
    );
}

#[test]
fn layout_refuses_what_parse_would() {
    let planned = |name: &str| safetensors::Planned {
        name: name.into(),
        dtype: lowbit::Dtype::F32,
        shape: vec![1],
    };
    let code = |tensors: &[_]| {
        safetensors::layout_file(tensors, &BTreeMap::new())
            .unwrap_err()
            .code
    };
    assert_eq!(code(&[planned("a"), planned("a")]), Code::DuplicateKey);
    assert_eq!(code(&[planned("__metadata__")]), Code::DuplicateKey);
    assert_eq!(code(&[planned("a\u{202e}")]), Code::Name);
}

#[test]
fn split_cuts_in_order_and_names_the_shards() {
    let planned: Vec<_> = [4, 4, 100, 1, 1]
        .iter()
        .enumerate()
        .map(|(i, n)| safetensors::Planned {
            name: format!("t{i}"),
            dtype: lowbit::Dtype::U8,
            shape: vec![*n],
        })
        .collect();
    let shards = shards::split(&planned, 8).unwrap();
    let ranges: Vec<_> = shards.iter().map(|s| s.tensors.clone()).collect();
    assert_eq!(ranges, [0..2, 2..3, 3..5]);
    assert_eq!(shards[1].file, "model-00002-of-00003.safetensors");
    let index =
        shards::parse_index(shards::write_index(&planned, &shards).unwrap().as_bytes()).unwrap();
    assert_eq!(index.total_size, Some(110));
    assert_eq!(
        index.file_of("t3"),
        Some("model-00003-of-00003.safetensors")
    );
    assert_eq!(
        shards::split(&planned, 1000).unwrap()[0].file,
        "model.safetensors"
    );
}
