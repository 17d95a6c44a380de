//! Reads and checks a header: first everything is walked over, then it is built.

use super::cursor::{Cursor, Step, Stop};
use super::extent::{self, ALIGNMENT_KEY, after, padded};
use super::types::Type;
use super::value::Metadata;
use super::walk::{self, INFO_LEAST, KEY_LEAST, Raw, RawTensor};
use crate::container::recognise;
use crate::error::{Code, Error, Result};

/// What a header may be at most; a caller may allow more, a file may not.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a string value.
    pub string_bytes: u64,
    /// Bytes of a key.
    pub key_bytes: u64,
    /// Bytes of a tensor name.
    pub name_bytes: u64,
    /// Keys.
    pub keys: u64,
    /// Tensors.
    pub tensors: u64,
    /// Bytes of the header, which bound every array in it.
    pub header_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            string_bytes: 16 << 20,
            key_bytes: 65_535,
            name_bytes: 256,
            keys: 65_536,
            tensors: 1_000_000,
            header_bytes: 100_000_000,
        }
    }
}

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name inside the file.
    pub name: String,
    /// Type of its blocks.
    pub ty: &'static Type,
    /// Extent of each dimension, outermost first; empty for a single number.
    pub shape: Vec<usize>,
    /// First byte, counted from the start of the data section.
    pub offset: u64,
    /// How many bytes it has, padding not counted.
    pub bytes: u64,
}

/// Everything that a file says about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Version of the container, 2 or 3.
    pub version: u32,
    /// Keys and values.
    pub metadata: Metadata,
    /// The tensors in the order of their bytes.
    pub tensors: Vec<TensorInfo>,
    /// Multiple that tensors begin at.
    pub alignment: u32,
    /// Where the data section begins in the file.
    pub data_start: u64,
}

/// What reading the first bytes of a file gave.
#[derive(Debug, Clone, PartialEq)]
pub enum Parsed {
    /// The header; boxed because it is large beside a number.
    Header(Box<Header>),
    /// The header is longer: call again with this many of the file's first bytes. The number at
    /// least doubles each time, so that a reader asks no more than about a dozen times.
    Need(u64),
}

/// Fewest bytes that are worth asking for.
const READ_LEAST: u64 = 1 << 16;

/// Reads a header from the first bytes of a file of `file_bytes` bytes.
///
/// Codes, each with the byte at which it was noticed: `not-a-model` and `version` for the start,
/// `count-limit`, `string-limit`, `array-limit` and `header-limit` for sizes above `limits`,
/// `nesting`, `metadata` and `name` for values and names, `rank`, `shape`, `dtype`, `block` and
/// `data-limit` for tensors, `alignment`, `duplicate-key`, `overlap`, `hole`, `trailing-bytes`, and
/// `truncated` when the file ends before what it announces.
pub fn parse(head: &[u8], file_bytes: u64, limits: &Limits) -> Result<Parsed> {
    assert!(head.len() as u64 <= file_bytes, "more bytes than the file");
    let mut cursor = Cursor::new(head, file_bytes, limits);
    let checked = start(&mut cursor, head).and_then(|start| {
        let body = cursor.clone();
        check(&mut cursor, &start).map(|data| (start, body, data))
    });
    match checked {
        Ok((start, body, data)) => {
            let built = build(body, &start, &data);
            built.map(|h| Parsed::Header(Box::new(h)))
        }
        Err(Stop::Bad(error)) => Err(error),
        Err(Stop::Need(bytes)) => {
            let twice = (2 * head.len() as u64).max(READ_LEAST);
            let most = file_bytes.min(limits.header_bytes);
            Ok(Parsed::Need(bytes.max(twice).min(most)))
        }
    }
}

/// The fixed part of a header.
struct Start {
    version: u32,
    tensors: u64,
    keys: u64,
}

fn start(c: &mut Cursor<'_>, head: &[u8]) -> Step<Start> {
    let magic = c.take(4)?;
    if magic != b"GGUF" {
        let known = (head.len() >= 8).then(|| recognise(head)).flatten();
        let other = || Error::new(Code::NotAModel, "the file does not start with GGUF");
        return Err(known.unwrap_or_else(other).at("byte 0").into());
    }
    let place = c.clone();
    let version = c.u32()?;
    let refused = |what: String, remedy: &str| -> Step<Start> {
        Err(place.bad(Code::Version, what).remedy(remedy).into())
    };
    match version {
        2 | 3 => {}
        0 => {
            return refused(
                "version 0 of GGUF never existed".into(),
                "download it again",
            );
        }
        1 => {
            let remedy = "convert the model again: version 1 had 32-bit lengths";
            return refused("version 1 of GGUF is not read".into(), remedy);
        }
        v if v.trailing_zeros() >= 16 => {
            let what = format!("GGUF version {} with its bytes swapped", v.swap_bytes());
            return refused(what, "convert it to little-endian");
        }
        v => {
            let what = format!("GGUF version {v} is newer than this reader, which knows 2 and 3");
            return refused(what, "update lowbit");
        }
    }
    let tensors = c.count(c.limits.tensors, INFO_LEAST, "tensors")?;
    let keys = c.count(c.limits.keys, KEY_LEAST, "keys")?;
    Ok(Start {
        version,
        tensors,
        keys,
    })
}

/// What the check of a header finds out beside that it is fine.
struct Data {
    alignment: u32,
    start: u64,
}

/// Names with the place where each begins.
type Names<'a> = Vec<(&'a str, usize)>;

fn check(c: &mut Cursor<'_>, start: &Start) -> Step<Data> {
    let (mut keys, mut names) = (Names::new(), Names::new());
    let mut alignment = extent::ALIGNMENT;
    for _ in 0..start.keys {
        let at = c.at;
        let (key, raw) = walk::key(c)?;
        if key == ALIGNMENT_KEY {
            let value = match raw {
                Raw::Scalar(..) => raw.value().as_u32(),
                _ => None,
            };
            let checked = extent::checked_alignment(value);
            alignment = checked.map_err(|e| e.at(format!("byte {at}")))?;
        }
        keys.push((key, at));
    }
    unique(&mut keys, "key")?;
    let (mut reached, mut end) = (0u64, 0u64);
    for _ in 0..start.tensors {
        let tensor = walk::tensor(c)?;
        let place = |e: Error| e.at(format!("tensor {:?} at byte {}", tensor.name, tensor.at));
        (reached, end) = place_tensor(&tensor, reached, alignment).map_err(place)?;
        names.push((tensor.name, tensor.at));
    }
    unique(&mut names, "tensor")?;
    let file_bytes = c.at as u64 + c.left();
    let data_start = if start.tensors == 0 {
        padded(c.at as u64, alignment)?.min(file_bytes)
    } else {
        padded(c.at as u64, alignment)?
    };
    cover(c, file_bytes, data_start, (end, reached))?;
    Ok(Data {
        alignment,
        start: data_start,
    })
}

/// Where the next tensor must begin, and where this one's own bytes end.
fn place_tensor(t: &RawTensor<'_>, reached: u64, alignment: u32) -> Result<(u64, u64)> {
    if t.offset != reached {
        let (code, what) = if t.offset < reached {
            (Code::Overlap, "the bytes before it reach to")
        } else {
            (Code::Hole, "the bytes before it end at")
        };
        let what = format!("data begins at {}, {what} {reached}", t.offset);
        return Err(Error::new(code, what));
    }
    let next = after(t.offset, t.bytes, alignment)?;
    Ok((next, t.offset + t.bytes))
}

/// The file must hold every tensor, and nothing behind the padding of the last.
fn cover(c: &Cursor<'_>, file_bytes: u64, start: u64, (end, padded): (u64, u64)) -> Result<()> {
    let too_much = || Error::new(Code::DataLimit, "header and data overflow");
    let needed = start.checked_add(end).ok_or_else(too_much)?;
    if needed > file_bytes {
        let what = format!("the tensors need {needed} bytes, the file has {file_bytes}");
        return Err(c.bad(Code::Truncated, what).remedy("download it again"));
    }
    let most = start.checked_add(padded).ok_or_else(too_much)?;
    if file_bytes > most {
        let what = format!("{} bytes follow the last tensor", file_bytes - most);
        return Err(Error::new(Code::TrailingBytes, what).at(format!("byte {most}")));
    }
    Ok(())
}

fn unique(names: &mut Names<'_>, what: &str) -> Result<()> {
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => {
            let text = format!("{what} {:?} appears twice", pair[0].0);
            let place = format!("bytes {} and {}", pair[0].1, pair[1].1);
            Err(Error::new(Code::DuplicateKey, text).at(place))
        }
        None => Ok(()),
    }
}

/// The shape in this host's integers, of which 32-bit hosts have too few for some files.
fn shape(t: &RawTensor<'_>) -> Result<Vec<usize>> {
    let wide = t.shape[..t.rank].iter();
    let here: std::result::Result<_, _> = wide.map(|d| usize::try_from(*d)).collect();
    here.map_err(|_| {
        let what = format!("shape {:?} is too large for this host", &t.shape[..t.rank]);
        Error::new(Code::Shape, what).at(format!("tensor {:?}", t.name))
    })
}

/// Copies what was checked.
fn build(mut c: Cursor<'_>, start: &Start, data: &Data) -> Result<Header> {
    // The same bytes were walked over to their end.
    let again = |_: Stop| Error::new(Code::Internal, "a header changed while it was read");
    let mut metadata = Metadata::new();
    for _ in 0..start.keys {
        let (key, raw) = walk::key(&mut c).map_err(again)?;
        metadata.push(key.into(), raw.value());
    }
    let mut tensors = Vec::with_capacity(start.tensors as usize);
    for _ in 0..start.tensors {
        let t = walk::tensor(&mut c).map_err(again)?;
        tensors.push(TensorInfo {
            name: t.name.into(),
            ty: t.ty,
            shape: shape(&t)?,
            offset: t.offset,
            bytes: t.bytes,
        });
    }
    Ok(Header {
        version: start.version,
        metadata,
        tensors,
        alignment: data.alignment,
        data_start: data.start,
    })
}
