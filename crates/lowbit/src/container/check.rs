//! What a safetensors header must satisfy, checked before anything is built from it.

use super::json::{Literal, Reader};
use super::safetensors::{LENGTH_BYTES, NAME_BYTES_MAX, TENSORS_MAX, truncated};
use super::scan::{Item, Raw, scan};
use crate::error::{Code, Error, Result};
use crate::tensor::checked_bytes;

/// What a check needs to keep of a tensor.
struct Span {
    begin: u64,
    end: u64,
    name: Key,
}

/// A key by its place in the text; the hash only brings equal ones together.
#[derive(Clone, Copy)]
struct Key {
    hash: u32,
    at: u32,
}

impl Key {
    fn new(literal: Literal<'_>) -> Self {
        // FNV-1a over code points; equal hashes are compared as text.
        let step = |h: u32, c: char| (h ^ c as u32).wrapping_mul(16_777_619);
        Self {
            hash: literal.chars().fold(2_166_136_261, step),
            at: literal.at as u32, // below the header limit
        }
    }

    fn literal(self, text: &str) -> Result<Literal<'_>> {
        Reader::literal_at(text, self.at as usize)
    }
}

/// Checks everything in `text` against itself and against `data_bytes`, building nothing.
pub(super) fn check(text: &str, data_bytes: u64) -> Result<()> {
    let (mut spans, mut keys) = (Vec::<Span>::new(), Vec::<Key>::new());
    scan(text, |item| {
        match item {
            Item::Metadata(key, _) => keys.push(Key::new(key)),
            Item::Tensor(raw) => {
                if spans.len() == TENSORS_MAX {
                    let what = format!("more than {TENSORS_MAX} tensors");
                    return Err(Error::new(Code::HeaderLimit, what));
                }
                spans.push(span(&raw).map_err(|e| e.at(format!("tensor {}", raw.name.shown())))?);
            }
        }
        Ok(())
    })?;
    unique(text, &mut keys, |k| *k)?;
    unique(text, &mut spans, |s| s.name)?;
    cover(text, &mut spans, data_bytes)
}

fn span(raw: &Raw<'_>) -> Result<Span> {
    let shape = &raw.shape[..raw.rank];
    let bytes = checked_bytes(raw.dtype, shape)?;
    if raw.begin > raw.end || raw.end - raw.begin != bytes {
        let what = format!(
            "{} {shape:?} takes {bytes} bytes, data_offsets are [{}, {}]",
            raw.dtype.name(),
            raw.begin,
            raw.end
        );
        return Err(Error::new(Code::Shape, what));
    }
    check_name(raw.name.chars())?;
    Ok(Span {
        begin: raw.begin,
        end: raw.end,
        name: Key::new(raw.name),
    })
}

/// Whether a name can be shown as what it is.
pub(crate) fn check_name(mut chars: impl Iterator<Item = char> + Clone) -> Result<()> {
    let bytes = chars
        .clone()
        .take(NAME_BYTES_MAX + 1)
        .map(char::len_utf8)
        .sum::<usize>();
    if bytes == 0 || bytes > NAME_BYTES_MAX {
        let what = format!("a tensor name of 1 to {NAME_BYTES_MAX} bytes was expected");
        return Err(Error::new(Code::Name, what));
    }
    let misleading = |c: &char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{feff}')
            || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    match chars.find(misleading) {
        Some(c) => {
            let what = format!("character U+{:04X} in a tensor name", c as u32);
            Err(Error::new(Code::Name, what))
        }
        None => Ok(()),
    }
}

fn unique<T>(text: &str, items: &mut [T], key: impl Fn(&T) -> Key) -> Result<()> {
    let chars = |k: Key| k.literal(text).map(Literal::chars);
    items.sort_unstable_by(|a, b| {
        let (a, b) = (key(a), key(b));
        a.hash
            .cmp(&b.hash)
            .then_with(|| match (chars(a), chars(b)) {
                (Ok(a), Ok(b)) => a.cmp(b),
                _ => a.at.cmp(&b.at),
            })
    });
    for pair in items.windows(2) {
        let (a, b) = (key(&pair[0]), key(&pair[1]));
        if a.hash == b.hash && chars(a)?.eq(chars(b)?) {
            let what = format!("{} appears twice", a.literal(text)?.shown());
            return Err(Error::new(Code::DuplicateKey, what));
        }
    }
    Ok(())
}

/// The tensors must tile the data section: no overlap, no hole, nothing behind the last.
fn cover(text: &str, spans: &mut [Span], data_bytes: u64) -> Result<()> {
    spans.sort_unstable_by_key(|s| (s.begin, s.end));
    let mut reached = 0;
    for span in spans {
        if span.begin != reached {
            let (code, what) = if span.begin < reached {
                (Code::Overlap, "the bytes before it reach to")
            } else {
                (Code::Hole, "the bytes before it end at")
            };
            let name = span.name.literal(text)?.shown();
            let what = format!("data begins at {}, {what} {reached}", span.begin);
            return Err(Error::new(code, what).at(format!("tensor {name}")));
        }
        reached = span.end;
    }
    if data_bytes > reached {
        let what = format!("{} bytes follow the last tensor", data_bytes - reached);
        return Err(Error::new(Code::TrailingBytes, what));
    }
    if data_bytes < reached {
        let header = (LENGTH_BYTES + text.len()) as u64;
        return Err(truncated(header + reached, header + data_bytes));
    }
    Ok(())
}
