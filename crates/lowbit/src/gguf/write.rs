//! Fixes a file before any data exists, so that the data can be written in any order.

use super::extent::{after, alignment, tensor_bytes};
use super::header::Limits;
use super::types::Type;
use super::value::{ARRAY, Array, Metadata, Value};
use super::walk::INFO_LEAST;
use crate::container::check_name;
use crate::error::{Code, Error, Result};
use std::collections::BTreeSet;

/// The version that is written.
pub const VERSION: u32 = 3;
/// Longest tensor name that llama.cpp loads, in bytes.
pub const NAME_BYTES_MAX: usize = 63;

/// A tensor that will be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Name inside the file.
    pub name: String,
    /// Type of its blocks.
    pub ty: &'static Type,
    /// Extent of each dimension, outermost first; at most four.
    pub shape: Vec<usize>,
}

impl Planned {
    /// How many bytes its data takes; `shape`, `block` or `rank` with the tensor named.
    pub fn bytes(&self) -> Result<u64> {
        let place = |e: Error| e.at(format!("tensor {:?}", self.name));
        if self.shape.len() > super::extent::DIMENSIONS_MAX {
            let what = format!("{} dimensions", self.shape.len());
            return Err(place(Error::new(Code::Rank, what)));
        }
        let shape: Vec<u64> = self.shape.iter().map(|d| *d as u64).collect();
        tensor_bytes(self.ty, &shape).map_err(place)
    }
}

/// A file whose every byte has its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// First bytes of the file, up to the data section.
    pub head: Vec<u8>,
    /// Where each tensor's data begins in the file, in the order in which they were given.
    pub offsets: Vec<u64>,
    /// Length of the whole file; what no tensor covers is zero.
    pub file_bytes: u64,
}

/// Lays out a file with `tensors` in their order; `general.alignment` is obeyed if it is set.
///
/// `name`, `duplicate-key`, `alignment`, `string-limit`, `header-limit`, `shape`, `block` and `rank`
/// as when reading: what is written here can be read there.
pub fn layout_file(metadata: &Metadata, tensors: &[Planned]) -> Result<Layout> {
    let limits = Limits::default();
    let alignment = alignment(metadata)?;
    let mut head = b"GGUF".to_vec();
    head.extend(VERSION.to_le_bytes());
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        put_key(&mut head, key, value, &limits).map_err(|e| e.at(format!("key {key:?}")))?;
    }
    let mut seen = BTreeSet::new();
    let (mut offsets, mut reached) = (Vec::with_capacity(tensors.len()), 0);
    head.reserve(tensors.len() * INFO_LEAST as usize);
    for tensor in tensors {
        let bytes = tensor.bytes()?;
        check(tensor, &mut seen).map_err(|e| e.at(format!("tensor {:?}", tensor.name)))?;
        put_info(&mut head, tensor, reached);
        offsets.push(reached);
        reached = after(reached, bytes, alignment)?;
    }
    if head.len() as u64 > limits.header_bytes
        || tensors.len() as u64 > limits.tensors
        || metadata.len() as u64 > limits.keys
    {
        let what = format!("{} tensors make a header too long to read", tensors.len());
        return Err(Error::new(Code::HeaderLimit, what));
    }
    head.resize(head.len().next_multiple_of(alignment as usize), 0);
    let start = head.len() as u64;
    let too_much = || Error::new(Code::DataLimit, "header and data overflow");
    let file_bytes = start.checked_add(reached).ok_or_else(too_much)?;
    for offset in &mut offsets {
        *offset += start;
    }
    Ok(Layout {
        head,
        offsets,
        file_bytes,
    })
}

fn check<'a>(tensor: &'a Planned, seen: &mut BTreeSet<&'a str>) -> Result<()> {
    check_name(tensor.name.chars())?;
    if tensor.name.len() > NAME_BYTES_MAX {
        let what = format!("the name has {} bytes", tensor.name.len());
        let error = Error::new(Code::Name, what);
        return Err(error.remedy(format!("llama.cpp loads names of {NAME_BYTES_MAX} at most")));
    }
    if !seen.insert(&tensor.name) {
        return Err(Error::new(Code::DuplicateKey, "the name appears twice"));
    }
    Ok(())
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_info(out: &mut Vec<u8>, tensor: &Planned, offset: u64) {
    put_text(out, &tensor.name);
    out.extend((tensor.shape.len() as u32).to_le_bytes());
    for d in tensor.shape.iter().rev() {
        out.extend((*d as u64).to_le_bytes());
    }
    out.extend(tensor.ty.id.to_le_bytes());
    out.extend(offset.to_le_bytes());
}

fn put_key(out: &mut Vec<u8>, key: &str, value: &Value, limits: &Limits) -> Result<()> {
    if key.is_empty() || key.contains(char::is_control) || key.len() as u64 > limits.key_bytes {
        return Err(Error::new(Code::Name, "the key cannot be written"));
    }
    put_text(out, key);
    out.extend(value.id().to_le_bytes());
    let texts: &[String] = match value {
        Value::String(text) => std::slice::from_ref(text),
        Value::Array(Array::String(texts)) => texts,
        _ => &[],
    };
    if let Some(text) = texts.iter().find(|t| t.len() as u64 > limits.string_bytes) {
        let what = format!("a string of {} bytes", text.len());
        return Err(Error::new(Code::StringLimit, what));
    }
    put_value(out, value);
    Ok(())
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(v) => out.push(*v),
        Value::I8(v) => out.push(v.cast_unsigned()),
        Value::Bool(v) => out.push(u8::from(*v)),
        Value::U16(v) => out.extend(v.to_le_bytes()),
        Value::I16(v) => out.extend(v.to_le_bytes()),
        Value::U32(v) => out.extend(v.to_le_bytes()),
        Value::I32(v) => out.extend(v.to_le_bytes()),
        Value::F32(v) => out.extend(v.to_le_bytes()),
        Value::U64(v) => out.extend(v.to_le_bytes()),
        Value::I64(v) => out.extend(v.to_le_bytes()),
        Value::F64(v) => out.extend(v.to_le_bytes()),
        Value::String(v) => put_text(out, v),
        Value::Array(array) => {
            debug_assert_ne!(array.id(), ARRAY, "arrays do not nest");
            out.extend(array.id().to_le_bytes());
            out.extend((array.len() as u64).to_le_bytes());
            put_array(out, array);
        }
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    match array {
        Array::U8(v) => out.extend(v),
        Array::I8(v) => out.extend(v.iter().map(|x| x.cast_unsigned())),
        Array::Bool(v) => out.extend(v.iter().map(|x| u8::from(*x))),
        Array::U16(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::I16(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::U32(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::I32(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::F32(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::U64(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::I64(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::F64(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::String(v) => v.iter().for_each(|x| put_text(out, x)),
    }
}
