//! Walks over the entries of a safetensors header without keeping them.

use super::json::{Literal, Number, Reader};
use super::safetensors::{DIMENSIONS_MAX, LENGTH_BYTES, METADATA_MAX};
use crate::error::{Code, Error, Result};
use crate::tensor::Dtype;

/// One tensor as it stands in the header.
pub(super) struct Raw<'a> {
    pub(super) name: Literal<'a>,
    pub(super) dtype: Dtype,
    /// Extents; only the first `rank` count.
    pub(super) shape: [usize; DIMENSIONS_MAX],
    pub(super) rank: usize,
    pub(super) begin: u64,
    pub(super) end: u64,
}

/// What a header consists of.
pub(super) enum Item<'a> {
    Tensor(Raw<'a>),
    Metadata(Literal<'a>, Literal<'a>),
}

/// Calls `visit` for every tensor and metadata key, in the order of the text.
pub(super) fn scan<'a>(text: &'a str, mut visit: impl FnMut(Item<'a>) -> Result<()>) -> Result<()> {
    let mut reader = Reader::new(text, LENGTH_BYTES, Code::HeaderJson);
    let mut metadata_seen = false;
    reader.object(|r, key| {
        if !key.is("__metadata__") {
            let raw = entry(r, key).map_err(|e| e.at(format!("tensor {}", key.shown())))?;
            return visit(Item::Tensor(raw));
        }
        if std::mem::replace(&mut metadata_seen, true) {
            return Err(Error::new(Code::DuplicateKey, "__metadata__ appears twice"));
        }
        metadata(r, |key, value| visit(Item::Metadata(key, value)))
    })?;
    reader.end()
}

fn metadata<'a>(
    r: &mut Reader<'a>,
    mut visit: impl FnMut(Literal<'a>, Literal<'a>) -> Result<()>,
) -> Result<()> {
    let wrong = |what: String| {
        Error::new(Code::Metadata, what).remedy("__metadata__ maps strings to strings")
    };
    if r.peek() != Some(b'{') {
        r.skip()?;
        return Err(wrong("__metadata__ is not an object".into()));
    }
    let mut count = 0;
    r.object(|r, key| {
        if r.peek() != Some(b'"') {
            r.skip()?;
            return Err(wrong(format!("metadata {} is not a string", key.shown())));
        }
        count += 1;
        if count > METADATA_MAX {
            return Err(wrong(format!("more than {METADATA_MAX} metadata keys")));
        }
        visit(key, r.string()?)
    })
}

fn entry<'a>(r: &mut Reader<'a>, name: Literal<'a>) -> Result<Raw<'a>> {
    let (mut dtype, mut shape, mut range) = (None, None, None);
    r.object(|r, field| {
        let twice = match () {
            () if field.is("dtype") => dtype.replace(r.string()?).is_some(),
            () if field.is("shape") => shape.replace(numbers(r)?).is_some(),
            () if field.is("data_offsets") => range.replace(numbers(r)?).is_some(),
            () => return Err(r.error(&format!("unknown field {}", field.shown()))),
        };
        if twice {
            let what = format!("field {} appears twice", field.shown());
            return Err(Error::new(Code::DuplicateKey, what));
        }
        Ok(())
    })?;
    let (Some(dtype), Some((shape, rank)), Some((range, 2))) = (dtype, shape, range) else {
        let what = "an entry has dtype, shape and data_offsets [begin, end]; one is missing";
        return Err(r.error(what));
    };
    let mut sizes = [0; DIMENSIONS_MAX];
    for (size, n) in sizes.iter_mut().zip(shape) {
        *size = usize::try_from(n).map_err(|_| bad_size(&n.to_string()))?;
    }
    Ok(Raw {
        name,
        dtype: Dtype::parse(&dtype.text())?,
        shape: sizes,
        rank,
        begin: range[0],
        end: range[1],
    })
}

/// An array of at most eight sizes or offsets.
fn numbers(r: &mut Reader<'_>) -> Result<([u64; DIMENSIONS_MAX], usize)> {
    let (mut values, mut len) = ([0; DIMENSIONS_MAX], 0);
    r.array(|r| {
        let number = match r.number()? {
            Number::Whole(n) => n,
            Number::Other(text) => return Err(bad_size(text)),
        };
        let Some(slot) = values.get_mut(len) else {
            let what = format!("more than {DIMENSIONS_MAX} dimensions");
            return Err(Error::new(Code::Shape, what));
        };
        *slot = number;
        len += 1;
        Ok(())
    })?;
    Ok((values, len))
}

fn bad_size(text: &str) -> Error {
    let shown: String = text.chars().take(40).collect();
    Error::new(Code::Shape, format!("{shown} is not a size that fits here"))
}
