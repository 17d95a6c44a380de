//! The safetensors container: 8 bytes of length, a JSON header, the data section.
//!
//! ```text
//! [ N: u64 ][ {"name":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},…} ][ data ]
//! 0         8                                                              8+N
//! ```
//! Names are opaque data: `__proto__` and `../x` are names like any other, and nothing here makes a
//! path or a key of them. Refused with `name` are only those that a screen or a log would show as
//! something else: empty, longer than 256 bytes, or with control or direction-changing characters.

use super::check::{check, check_name};
use super::scan::{Item, scan};
use super::sniff;
use crate::error::{Code, Error, Result};
use crate::tensor::{Dtype, checked_bytes};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Longest header that a file may have, as in the reference implementation.
pub const HEADER_BYTES_MAX: u64 = 100_000_000;
/// Most tensors in one file; at the smallest entry size the header limit allows twice as many.
pub const TENSORS_MAX: usize = 1_000_000;
/// Most keys of `__metadata__`.
pub const METADATA_MAX: usize = 65_536;
/// Longest tensor name in bytes; the longest in use have about 100.
pub const NAME_BYTES_MAX: usize = 256;
/// Most dimensions of a tensor.
pub const DIMENSIONS_MAX: usize = 8;

pub(super) const LENGTH_BYTES: usize = 8;

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name inside the file.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Extent of each dimension, outermost first.
    pub shape: Vec<usize>,
    /// First byte, counted from the start of the data section.
    pub begin: u64,
    /// One past the last byte.
    pub end: u64,
}

/// Everything that a file says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The tensors in the order of their bytes.
    pub entries: Vec<Entry>,
    /// The `__metadata__` map.
    pub metadata: BTreeMap<String, String>,
    /// Where the data section begins in the file.
    pub data_start: u64,
}

/// Bytes of JSON that follow the first eight; `head` holds those eight or more.
///
/// `truncated` when the file is shorter than that, `header-limit` above 100,000,000,
/// `not-a-model` when the bytes are recognised as something else.
pub fn header_bytes(head: &[u8], file_bytes: u64) -> Result<u64> {
    let Some(length) = head.first_chunk::<LENGTH_BYTES>() else {
        let what = format!("the file has {file_bytes} bytes; a header starts with 8");
        return Err(Error::new(Code::Truncated, what).remedy("download it again"));
    };
    let bytes = u64::from_le_bytes(*length);
    let json = head
        .get(LENGTH_BYTES)
        .is_none_or(|b| b" \t\r\n{".contains(b));
    if let Some(error) = sniff::recognise(head).filter(|_| bytes > HEADER_BYTES_MAX || !json) {
        return Err(error);
    }
    if bytes > HEADER_BYTES_MAX {
        let what = format!("a header of {bytes} bytes; at most {HEADER_BYTES_MAX} are allowed");
        return Err(Error::new(Code::HeaderLimit, what).remedy("check that this is safetensors"));
    }
    if bytes + LENGTH_BYTES as u64 > file_bytes {
        return Err(truncated(bytes + LENGTH_BYTES as u64, file_bytes));
    }
    Ok(bytes)
}

/// Reads and checks a header; `head` holds at least the first 8 + N bytes of the file.
///
/// Everything is checked before anything is built, so that refusing a file takes at most 48 bytes
/// per tensor beside the header itself.
pub fn parse(head: &[u8], file_bytes: u64) -> Result<Header> {
    let bytes = header_bytes(head, file_bytes)? as usize;
    let Some(json) = head[LENGTH_BYTES..].get(..bytes) else {
        return Err(truncated((bytes + LENGTH_BYTES) as u64, head.len() as u64));
    };
    let text = std::str::from_utf8(json).map_err(|e| {
        let at = LENGTH_BYTES + e.valid_up_to();
        Error::new(
            Code::HeaderJson,
            format!("the header is not UTF-8 at byte {at}"),
        )
    })?;
    let data_start = (LENGTH_BYTES + bytes) as u64;
    check(text, file_bytes - data_start)?;
    build(text, data_start)
}

pub(super) fn truncated(wanted: u64, found: u64) -> Error {
    let what = format!("the file needs {wanted} bytes and has {found}");
    Error::new(Code::Truncated, what).remedy("download it again")
}

fn build(text: &str, data_start: u64) -> Result<Header> {
    let mut header = Header {
        entries: Vec::new(),
        metadata: BTreeMap::new(),
        data_start,
    };
    scan(text, |item| {
        match item {
            Item::Metadata(key, value) => {
                header.metadata.insert(key.text(), value.text());
            }
            Item::Tensor(raw) => header.entries.push(Entry {
                name: raw.name.text(),
                dtype: raw.dtype,
                shape: raw.shape[..raw.rank].to_vec(),
                begin: raw.begin,
                end: raw.end,
            }),
        }
        Ok(())
    })?;
    header
        .entries
        .sort_by(|a, b| (a.begin, a.end, &a.name).cmp(&(b.begin, b.end, &b.name)));
    Ok(header)
}

/// A tensor that will be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Name inside the file.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Extent of each dimension, outermost first.
    pub shape: Vec<usize>,
}

impl Planned {
    /// How many bytes its data takes.
    pub fn bytes(&self) -> Result<u64> {
        checked_bytes(self.dtype, &self.shape).map_err(|e| e.at(format!("tensor {:?}", self.name)))
    }
}

/// Fixes a file before any data exists, so that the data can be written in any order.
///
/// Gives the first bytes of the file (length and header), where each tensor's data begins in the
/// file in the order in which they were given, and the length of the whole file.
///
/// Types lie in the file from wide to narrow and otherwise in the given order: the data section
/// starts at a multiple of 8, so each tensor starts at a multiple of its element size, without
/// which some readers cannot map it. Without metadata `{"format":"pt"}` is written, which
/// transformers asks for. `name`, `duplicate-key` and `header-limit` as when reading.
pub fn layout_file(
    tensors: &[Planned],
    metadata: &BTreeMap<String, String>,
) -> Result<(Vec<u8>, Vec<u64>, u64)> {
    let mut seen = BTreeSet::new();
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|i| std::cmp::Reverse(tensors[*i].dtype.bits()));
    let metadata = if metadata.is_empty() {
        json!({ "format": "pt" })
    } else {
        json!(metadata)
    };
    let mut text = format!("{{\"__metadata__\":{metadata}");
    let mut offsets = vec![0; tensors.len()];
    let mut end = 0;
    for i in order {
        let t = &tensors[i];
        check_name(t.name.chars()).map_err(|e| e.at(format!("tensor {:?}", t.name)))?;
        if t.name == "__metadata__" || !seen.insert(&t.name) {
            return Err(Error::new(
                Code::DuplicateKey,
                format!("{:?} appears twice", t.name),
            ));
        }
        offsets[i] = end;
        end += t.bytes()?;
        let range = [offsets[i], end];
        let entry = json!({ "dtype": t.dtype.name(), "shape": t.shape, "data_offsets": range });
        text += &[",", &json!(t.name).to_string(), ":", &entry.to_string()].concat();
    }
    text.push('}');
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    if text.len() as u64 > HEADER_BYTES_MAX || tensors.len() > TENSORS_MAX {
        let what = format!("{} tensors make a header too long to read", tensors.len());
        return Err(Error::new(Code::HeaderLimit, what).remedy("write smaller shards"));
    }
    let start = (LENGTH_BYTES + text.len()) as u64;
    let header = [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    Ok((
        header,
        offsets.iter().map(|o| o + start).collect(),
        start + end,
    ))
}
