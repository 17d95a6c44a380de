//! Walks over a header without keeping it, checking each value and tensor by itself.

use super::cursor::{Cursor, Step, Stop};
use super::extent::{DIMENSIONS_MAX, tensor_bytes};
use super::types::Type;
use super::value::{ARRAY, Array, BOOL, STRING, Value, type_name};
use crate::container::check_name;
use crate::error::{Code, Error, Result};

/// Fewest bytes of a key with its value: length, one letter, type, one byte.
pub(super) const KEY_LEAST: u64 = 14;
/// Fewest bytes of a tensor info: length, one letter, rank, type, offset.
pub(super) const INFO_LEAST: u64 = 25;

/// A value whose bytes have been checked and not copied.
#[derive(Clone, Copy)]
pub(super) enum Raw<'a> {
    Scalar(u32, &'a [u8]),
    Text(&'a str),
    Numbers(u32, &'a [u8]),
    /// Count and the bytes of length-prefixed strings.
    Texts(u64, &'a [u8]),
}

/// One tensor as it stands in the header.
pub(super) struct RawTensor<'a> {
    pub(super) name: &'a str,
    /// Where its info begins.
    pub(super) at: usize,
    pub(super) ty: &'static Type,
    /// Outermost first; only the first `rank` count.
    pub(super) shape: [u64; DIMENSIONS_MAX],
    pub(super) rank: usize,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// A key with its value.
pub(super) fn key<'a>(c: &mut Cursor<'a>) -> Step<(&'a str, Raw<'a>)> {
    let start = c.clone();
    let key = c.string(c.limits.key_bytes, "key")?;
    if key.is_empty() || key.contains(char::is_control) {
        let what = "a key is empty or has control characters";
        return Err(start.bad(Code::Name, what).into());
    }
    let named = |stop| match stop {
        Stop::Bad(e) => Stop::Bad(e.at(format!("key {key:?}"))),
        need @ Stop::Need(_) => need,
    };
    let value = c.u32().and_then(|id| value(c, id)).map_err(named)?;
    Ok((key, value))
}

/// Bytes of a number or bool; `metadata` for ids that are no type.
fn width(c: &Cursor<'_>, id: u32) -> Result<u64> {
    match id {
        0 | 1 | BOOL => Ok(1),
        2 | 3 => Ok(2),
        4..=6 => Ok(4),
        10..=12 => Ok(8),
        other => {
            let what = format!("value type {} is unknown", other.cast_signed());
            Err(c.bad(Code::Metadata, what))
        }
    }
}

fn value<'a>(c: &mut Cursor<'a>, id: u32) -> Step<Raw<'a>> {
    match id {
        STRING => c.string(c.limits.string_bytes, "string").map(Raw::Text),
        ARRAY => array(c),
        _ => {
            let bytes = width(c, id)?;
            let start = c.clone();
            let value = c.take(bytes)?;
            check_bools(&start, id, value)?;
            Ok(Raw::Scalar(id, value))
        }
    }
}

fn check_bools(c: &Cursor<'_>, id: u32, bytes: &[u8]) -> Result<()> {
    match bytes.iter().find(|b| id == BOOL && **b > 1) {
        Some(byte) => Err(c.bad(Code::Metadata, format!("a bool is {byte}"))),
        None => Ok(()),
    }
}

fn array<'a>(c: &mut Cursor<'a>) -> Step<Raw<'a>> {
    let start = c.clone();
    let id = c.u32()?;
    if id == ARRAY {
        let what = "an array holds arrays, which no reader needs";
        return Err(start.bad(Code::Nesting, what).into());
    }
    let least = if id == STRING { 8 } else { width(&start, id)? };
    let start = c.clone();
    let count = c.u64()?;
    let bytes = count.checked_mul(least);
    let Some(bytes) = bytes.filter(|b| *b <= c.limits.header_bytes) else {
        let what = format!(
            "an array of {count} {}; it alone is more than the {} bytes a header may have",
            type_name(id),
            c.limits.header_bytes
        );
        return Err(start.bad(Code::ArrayLimit, what).into());
    };
    if id != STRING {
        let values = c.clone();
        let bytes = c.take(bytes)?;
        check_bools(&values, id, bytes)?;
        return Ok(Raw::Numbers(id, bytes));
    }
    if bytes > c.left() {
        c.take(bytes)?;
    }
    let from = c.clone();
    for _ in 0..count {
        c.string(c.limits.string_bytes, "string")?;
    }
    let length = (c.at - from.at) as u64;
    Ok(Raw::Texts(count, from.clone().take(length)?))
}

/// A tensor info, its size computed and checked.
pub(super) fn tensor<'a>(c: &mut Cursor<'a>) -> Step<RawTensor<'a>> {
    let start = c.clone();
    let name = c.string(c.limits.name_bytes, "tensor name")?;
    check_name(name.chars()).map_err(|e| e.at(format!("byte {}", start.at)))?;
    let place = |e: Error| e.at(format!("tensor {name:?} at byte {}", start.at));
    let rank = c.u32()? as usize;
    if rank > DIMENSIONS_MAX {
        let what = format!("{rank} dimensions; at most {DIMENSIONS_MAX} are allowed");
        return Err(place(Error::new(Code::Rank, what)).into());
    }
    let mut shape = [0; DIMENSIONS_MAX];
    for d in shape[..rank].iter_mut().rev() {
        *d = c.u64()?;
    }
    let ty = Type::by_id(c.u32()?).map_err(place)?;
    let offset = c.u64()?;
    let bytes = tensor_bytes(ty, &shape[..rank]).map_err(place)?;
    Ok(RawTensor {
        name,
        at: start.at,
        ty,
        shape,
        rank,
        offset,
        bytes,
    })
}

fn numbers<const N: usize, T>(bytes: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|b| from(*b)).collect()
}

fn texts(mut bytes: &[u8], count: u64) -> Vec<String> {
    let mut out = Vec::with_capacity(count as usize);
    while let Some((length, rest)) = bytes.split_first_chunk::<8>() {
        // Both were checked when the array was walked over.
        let (text, rest) = rest.split_at(u64::from_le_bytes(*length) as usize);
        out.push(String::from_utf8_lossy(text).into_owned());
        bytes = rest;
    }
    out
}

impl Raw<'_> {
    /// Copies the value.
    pub(super) fn value(self) -> Value {
        match self {
            Raw::Text(text) => Value::String(text.into()),
            Raw::Texts(count, bytes) => Value::Array(Array::String(texts(bytes, count))),
            Raw::Numbers(id, bytes) => Value::Array(array_from(id, bytes)),
            Raw::Scalar(id, bytes) => first(&array_from(id, bytes)),
        }
    }
}

fn array_from(id: u32, bytes: &[u8]) -> Array {
    match id {
        0 => Array::U8(bytes.to_vec()),
        1 => Array::I8(numbers(bytes, i8::from_le_bytes)),
        2 => Array::U16(numbers(bytes, u16::from_le_bytes)),
        3 => Array::I16(numbers(bytes, i16::from_le_bytes)),
        4 => Array::U32(numbers(bytes, u32::from_le_bytes)),
        5 => Array::I32(numbers(bytes, i32::from_le_bytes)),
        6 => Array::F32(numbers(bytes, f32::from_le_bytes)),
        BOOL => Array::Bool(bytes.iter().map(|b| *b == 1).collect()),
        10 => Array::U64(numbers(bytes, u64::from_le_bytes)),
        11 => Array::I64(numbers(bytes, i64::from_le_bytes)),
        _ => Array::F64(numbers(bytes, f64::from_le_bytes)),
    }
}

fn first(array: &Array) -> Value {
    match array {
        Array::U8(v) => Value::U8(v[0]),
        Array::I8(v) => Value::I8(v[0]),
        Array::U16(v) => Value::U16(v[0]),
        Array::I16(v) => Value::I16(v[0]),
        Array::U32(v) => Value::U32(v[0]),
        Array::I32(v) => Value::I32(v[0]),
        Array::F32(v) => Value::F32(v[0]),
        Array::Bool(v) => Value::Bool(v[0]),
        Array::String(v) => Value::String(v[0].clone()),
        Array::U64(v) => Value::U64(v[0]),
        Array::I64(v) => Value::I64(v[0]),
        Array::F64(v) => Value::F64(v[0]),
    }
}
