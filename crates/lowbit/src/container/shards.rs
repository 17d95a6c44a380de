//! Checkpoints of several files: `model.safetensors.index.json` and the names in it.
//!
//! ```text
//! { "metadata": { "total_size": 123 }, "weight_map": { tensor: file, … } }
//! ```
//! File names in an index are a stranger's: only a plain name beside the index is followed, never a
//! path, a drive or a URL.

use super::json::{Literal, Number, Reader};
use super::safetensors::{HEADER_BYTES_MAX, Header, Planned};
use crate::error::{Code, Error, Result};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Most tensors of one index: a quantized mixture of 23,000 expert layers has half as many.
pub const INDEX_TENSORS_MAX: usize = 500_000;
/// Most files of one checkpoint.
pub const SHARDS_MAX: usize = 10_000;

/// The name of a checkpoint's only file.
pub const SINGLE_FILE: &str = "model.safetensors";
/// The name of an index.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// Which file holds which tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The files, sorted.
    pub files: Vec<String>,
    /// Position in `files` by tensor name.
    pub weight_map: BTreeMap<String, usize>,
    /// Bytes of all tensors together, if the index says.
    pub total_size: Option<u64>,
}

impl Index {
    /// The file that holds `tensor`.
    pub fn file_of(&self, tensor: &str) -> Option<&str> {
        self.weight_map.get(tensor).map(|i| self.files[*i].as_str())
    }
}

/// Reads an index; `path-escape` for a file name that is more than a name, `index` otherwise.
pub fn parse_index(text: &[u8]) -> Result<Index> {
    if text.len() as u64 > HEADER_BYTES_MAX {
        return Err(wrong(format!("an index of {} bytes", text.len())));
    }
    let text = std::str::from_utf8(text).map_err(|e| {
        wrong(format!(
            "the index is not UTF-8 at byte {}",
            e.valid_up_to()
        ))
    })?;
    let mut reader = Reader::new(text, 0, Code::Index);
    let mut total_size = None;
    let mut map = None;
    let mut keys = BTreeSet::new();
    reader.object(|r, key| {
        if !keys.insert(key.text()) {
            return Err(wrong(format!("{} appears twice", key.shown())));
        }
        match () {
            () if key.is("weight_map") => map = Some(weight_map(r)?),
            () if key.is("metadata") => total_size = metadata(r)?,
            () => r.skip()?,
        }
        Ok(())
    })?;
    reader.end()?;
    let (files, weight_map) = map.ok_or_else(|| wrong("the index has no weight_map".into()))?;
    Ok(Index {
        files,
        weight_map,
        total_size,
    })
}

fn wrong(what: String) -> Error {
    Error::new(Code::Index, what).remedy("fetch the index and its shards again, together")
}

type Map = (Vec<String>, BTreeMap<String, usize>);

fn weight_map(r: &mut Reader<'_>) -> Result<Map> {
    // The number of a file is its place of first mention until all are known and sorted.
    let mut numbers = BTreeMap::<String, usize>::new();
    let mut map = BTreeMap::new();
    r.object(|r, tensor| {
        let file = r.string()?;
        let count = numbers.len();
        let number = match numbers.get(&short_text(file)?) {
            Some(number) => *number,
            None if count == SHARDS_MAX => {
                return Err(wrong(format!("more than {SHARDS_MAX} shards")));
            }
            None => *numbers.entry(file_name(file)?).or_insert(count),
        };
        if map.len() == INDEX_TENSORS_MAX {
            return Err(wrong(format!("more than {INDEX_TENSORS_MAX} tensors")));
        }
        match map.insert(tensor.text(), number) {
            Some(_) => Err(wrong(format!("tensor {} is in two shards", tensor.shown()))),
            None => Ok(()),
        }
    })?;
    let mut sorted = vec![0; numbers.len()];
    for (place, number) in numbers.values().enumerate() {
        sorted[*number] = place;
    }
    for number in map.values_mut() {
        *number = sorted[*number];
    }
    Ok((numbers.into_keys().collect(), map))
}

fn short_text(file: Literal<'_>) -> Result<String> {
    match file.chars().nth(255) {
        Some(_) => Err(escape(file, "is longer than 255 characters")),
        None => Ok(file.text()),
    }
}

/// Accepts a plain file name: what could leave the folder here, in a URL or on Windows is refused.
fn file_name(file: Literal<'_>) -> Result<String> {
    let name = short_text(file)?;
    let reserved = |c: char| c.is_control() || "/\\:*?\"<>|#%".contains(c);
    if let Some(c) = name.chars().find(|c| reserved(*c)) {
        return Err(escape(file, &format!("contains {c:?}")));
    }
    match name.as_str() {
        "" | "." | ".." => Err(escape(file, "is not a file name")),
        n if n.ends_with(['.', ' ']) => Err(escape(file, "ends with a dot or a space")),
        _ => Ok(name),
    }
}

fn escape(file: Literal<'_>, why: &str) -> Error {
    let what = format!("shard name {} {why}", file.shown());
    Error::new(Code::PathEscape, what).remedy("shards lie beside their index")
}

fn metadata(r: &mut Reader<'_>) -> Result<Option<u64>> {
    let mut total = None;
    if r.peek() != Some(b'{') {
        r.skip()?;
        return Err(wrong("metadata is not an object".into()));
    }
    r.object(|r, key| {
        if !key.is("total_size") {
            return r.skip();
        }
        let size = match r.number()? {
            Number::Whole(n) => Some(n),
            // Some writers print the sum as a float.
            Number::Other(text) => text.strip_suffix(".0").and_then(|t| t.parse().ok()),
        };
        let size = size.ok_or_else(|| wrong("total_size is not a size".into()))?;
        match total.replace(size) {
            Some(_) => Err(wrong("total_size appears twice".into())),
            None => Ok(()),
        }
    })?;
    Ok(total)
}

/// Checks an index against the headers of its files; `index` when they disagree.
///
/// `headers` are those that exist, by file name. Every tensor must be in the one file that the
/// index names and in no other, and `total_size`, where given, must be the sum of all.
pub fn check(index: &Index, headers: &BTreeMap<String, Header>) -> Result<()> {
    if let Some(file) = headers
        .keys()
        .find(|f| index.files.binary_search(f).is_err())
    {
        return Err(wrong(format!("shard {file:?} is not in the index")));
    }
    let (mut total, mut tensors) = (0u64, 0);
    for (number, file) in index.files.iter().enumerate() {
        let header = headers
            .get(file)
            .ok_or_else(|| wrong(format!("shard {file:?} is missing")))?;
        for entry in &header.entries {
            let name = &entry.name;
            match index.weight_map.get(name) {
                Some(n) if *n == number => {}
                Some(n) => {
                    let other = &index.files[*n];
                    return Err(wrong(format!(
                        "tensor {name:?} is in {file:?} and {other:?}"
                    )));
                }
                None => {
                    return Err(wrong(format!(
                        "tensor {name:?} of {file:?} is not in the index"
                    )));
                }
            }
            total = total.saturating_add(entry.end - entry.begin);
            tensors += 1;
        }
    }
    if tensors != index.weight_map.len() {
        return Err(missing(index, headers));
    }
    match index.total_size.filter(|t| *t != total) {
        Some(claimed) => Err(wrong(format!(
            "total_size is {claimed}, the shards hold {total}"
        ))),
        None => Ok(()),
    }
}

fn missing(index: &Index, headers: &BTreeMap<String, Header>) -> Error {
    let present: BTreeSet<&str> = headers
        .values()
        .flat_map(|h| h.entries.iter().map(|e| e.name.as_str()))
        .collect();
    let absent = index
        .weight_map
        .keys()
        .find(|t| !present.contains(t.as_str()));
    let name = absent.map_or("", String::as_str);
    let file = index.file_of(name).unwrap_or_default();
    wrong(format!("tensor {name:?} is not in its shard {file:?}"))
}

/// One output file and the tensors that go into it, as positions in the list that was split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// `model.safetensors` or `model-00001-of-0000N.safetensors`.
    pub file: String,
    /// Which of the given tensors it holds.
    pub tensors: std::ops::Range<usize>,
}

/// Cuts a list of tensors, in order, into files of at most `bytes_max` of data each; a tensor
/// larger than that gets a file of its own.
pub fn split(tensors: &[Planned], bytes_max: u64) -> Result<Vec<Shard>> {
    let mut ranges = Vec::<std::ops::Range<usize>>::new();
    let mut filled = 0u64;
    for (i, tensor) in tensors.iter().enumerate() {
        let bytes = tensor.bytes()?;
        match ranges.last_mut() {
            Some(last) if filled.saturating_add(bytes) <= bytes_max => {
                last.end = i + 1;
                filled += bytes;
            }
            _ => {
                ranges.push(i..i + 1);
                filled = bytes;
            }
        }
    }
    let count = ranges.len();
    if count > SHARDS_MAX {
        let what = format!("{count} shards of {bytes_max} bytes; at most {SHARDS_MAX} are allowed");
        return Err(Error::new(Code::Option, what).remedy("allow larger shards"));
    }
    let name = |i: usize| match count {
        1 => SINGLE_FILE.to_string(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
    };
    let shards = ranges.into_iter().enumerate();
    Ok(shards
        .map(|(i, tensors)| Shard {
            file: name(i),
            tensors,
        })
        .collect())
}

/// The text of the index for shards made by `split`.
pub fn write_index(tensors: &[Planned], shards: &[Shard]) -> Result<String> {
    let mut map = BTreeMap::new();
    let mut total = 0;
    for shard in shards {
        for tensor in &tensors[shard.tensors.clone()] {
            total += tensor.bytes()?;
            map.insert(tensor.name.as_str(), shard.file.as_str());
        }
    }
    let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
    Ok(format!("{index:#}\n"))
}
