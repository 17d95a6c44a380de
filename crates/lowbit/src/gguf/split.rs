//! Models in several files: `name-00001-of-00003.gguf`, the metadata in the first.

use super::header::Header;
use super::value::{Metadata, Value};
use super::write::Planned;
use crate::error::{Code, Error, Result};
use std::collections::BTreeSet;
use std::ops::Range;

/// Most files of one model, as the five digits of the names allow.
pub const PARTS_MAX: usize = 99_999;

const NUMBER: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// One file of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Its name: `stem.gguf` when it is the only one.
    pub file: String,
    /// Its tensors, of those that were given.
    pub tensors: Range<usize>,
    /// Its keys.
    pub metadata: Metadata,
}

/// The name of part `number` (from 0) of `count`.
pub fn file_name(stem: &str, number: usize, count: usize) -> String {
    format!("{stem}-{:05}-of-{count:05}.gguf", number + 1)
}

/// Stem, number (from 0) and count of a part's name; nothing for other names.
pub fn parse_name(file: &str) -> Option<(&str, usize, usize)> {
    let rest = file.strip_suffix(".gguf")?;
    let (rest, count) = rest.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let digits = |s: &str| {
        let plain = s.len() == 5 && s.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| s.parse::<usize>().ok()).flatten()
    };
    let (number, count) = (digits(number)?, digits(count)?);
    (1..=count)
        .contains(&number)
        .then(|| (stem, number - 1, count))
}

/// Cuts tensors in their order into files of at most `most_bytes` data each, or one tensor where
/// that alone has more. `count-limit` when that would be more than 99,999 files.
pub fn split(
    stem: &str,
    metadata: &Metadata,
    tensors: &[Planned],
    most_bytes: u64,
) -> Result<Vec<Part>> {
    let mut ranges = Vec::new();
    let (mut from, mut held) = (0, 0u64);
    for (i, tensor) in tensors.iter().enumerate() {
        let bytes = tensor.bytes()?;
        if i > from && held.saturating_add(bytes) > most_bytes {
            ranges.push(from..i);
            (from, held) = (i, 0);
        }
        held = held.saturating_add(bytes);
    }
    ranges.push(from..tensors.len());
    let count = ranges.len();
    if count == 1 {
        return Ok(vec![Part {
            file: format!("{stem}.gguf"),
            tensors: 0..tensors.len(),
            metadata: metadata.clone(),
        }]);
    }
    // The number and the count are stored as u16.
    let Ok(stored) = u16::try_from(count) else {
        let what = format!("{count} files of {most_bytes} bytes");
        let error = Error::new(Code::CountLimit, what);
        return Err(error.remedy("allow larger files"));
    };
    let parts = ranges.into_iter().enumerate().map(|(i, range)| {
        let mut keys = if i == 0 {
            metadata.clone()
        } else {
            Metadata::new()
        };
        keys.set(NUMBER, Value::U16(i as u16));
        keys.set(COUNT, Value::U16(stored));
        keys.set(TENSORS, Value::I32(tensors.len() as i32));
        Part {
            file: file_name(stem, i, count),
            tensors: range,
            metadata: keys,
        }
    });
    Ok(parts.collect())
}

/// How many files the model has of which `header` is one; 1 for a model in one file.
pub fn count(header: &Header) -> Result<usize> {
    match header.metadata.index(COUNT)? {
        None | Some(0 | 1) => Ok(1),
        Some(n) if n <= PARTS_MAX as u64 => Ok(n as usize),
        Some(n) => Err(Error::new(Code::CountLimit, format!("{COUNT} is {n}"))),
    }
}

/// Checks that `parts`, in their order, are the files of one model; `index` otherwise.
pub fn check(parts: &[Header]) -> Result<()> {
    let wrong = |what: String| Err(Error::new(Code::Index, what));
    let mut names = BTreeSet::new();
    let mut announced = None;
    for (i, part) in parts.iter().enumerate() {
        let (number, count) = (part.metadata.index(NUMBER)?, count(part)?);
        if count != parts.len() {
            return wrong(format!(
                "file {i} says {count} files, there are {}",
                parts.len()
            ));
        }
        if count > 1 && number != Some(i as u64) {
            return wrong(format!("file {i} says that it is {number:?}"));
        }
        let total = part.metadata.index(TENSORS)?;
        if i > 0 && total != announced {
            return wrong(format!(
                "file {i} announces {total:?} tensors, not {announced:?}"
            ));
        }
        announced = total;
        if let Some(twice) = part.tensors.iter().find(|t| !names.insert(t.name.as_str())) {
            return wrong(format!("tensor {:?} is in two files", twice.name));
        }
    }
    match announced {
        Some(total) if total != names.len() as u64 => wrong(format!(
            "the files announce {total} tensors and hold {}",
            names.len()
        )),
        _ => Ok(()),
    }
}
