//! The matrix of keys and values of latent attention, from the one or two tensors that files have.

use super::header::{Header, TensorInfo};
use super::import_config::Model;
use super::import_names::{Place, Second, name_of};
use super::import_rows::Restore;
use super::latent::Latent;
use super::value::{Metadata, Value};
use crate::error::{Code, Error, Result};
use crate::tensor::Dtype;
use std::borrow::Cow;

/// Parts of names: the whole, its keys, its values.
const PARTS: [&str; 3] = [".attn_kv_b.weight", ".attn_k_b.weight", ".attn_v_b.weight"];

/// The keys of a file as converters write them today: older ones give the widths of a head where
/// today those of the cache are.
pub(super) fn modern(m: &Metadata) -> Result<Cow<'_, Metadata>> {
    let key = |name: &str| format!("deepseek2.{name}");
    let wide = m.get(&key("attention.key_length_mla")).is_some();
    if m.string("general.architecture")? != Some("deepseek2") || wide {
        return Ok(Cow::Borrowed(m));
    }
    let mut out = m.clone();
    for name in ["attention.key_length", "attention.value_length"] {
        if let Some(value) = m.get(&key(name)) {
            out.set(key(&format!("{name}_mla")), value.clone());
        }
    }
    let number = |name: &str| Ok(m.index(&key(name))?.unwrap_or(0).min(1 << 24));
    let (rank, turned) = (
        number("attention.kv_lora_rank")?,
        number("rope.dimension_count")?,
    );
    out.set(key("attention.key_length"), Value::U64(rank + turned));
    out.set(key("attention.value_length"), Value::U64(rank));
    out.set(key("attention.head_count_kv"), Value::U32(1));
    Ok(Cow::Owned(out))
}

/// What a tensor is to the matrix of its block.
pub(super) enum Joined {
    /// It is no part of it.
    No,
    /// It comes with another tensor.
    Elsewhere,
    /// The matrix begins here.
    Here(Box<Place>),
}

/// Looks a tensor up; `find` gives a tensor by name, with the index of its file.
///
/// `missing-tensor` when the other half is missing, `shape` when the two do not fit each other.
pub(super) fn joined<'a>(
    model: &Model,
    tensor: &TensorInfo,
    find: impl Fn(&str) -> Option<(usize, &'a Header, &'a TensorInfo)>,
    floats: Option<Dtype>,
) -> Result<Joined> {
    let family = model.family.filter(|f| f.arch == "deepseek2");
    let part = PARTS[1..].iter().find(|part| tensor.name.ends_with(*part));
    let (Some(family), Some(part)) = (family, part) else {
        return Ok(Joined::No);
    };
    let named = |other: &str| tensor.name.replace(part, other);
    // Some files have the halves beside the whole.
    if find(&named(PARTS[0])).is_some() {
        return Ok(Joined::Elsewhere);
    }
    let half = |name: &str| {
        let missing = || {
            let what = format!("{:?} is there, {:?} is not", tensor.name, named(name));
            Error::new(Code::MissingTensor, what).remedy("download the file again")
        };
        find(&named(name)).ok_or_else(missing)
    };
    let ((file, head, keys), (other, values_head, values)) = (half(PARTS[1])?, half(PARTS[2])?);
    if *part == PARTS[2] {
        return Ok(Joined::Elsewhere);
    }
    let at = |e: Error| e.at(format!("tensor {:?}", tensor.name));
    let latent = latent(&keys.shape, &values.shape).map_err(at)?;
    let (dtype, restore) = Restore::joined(latent, [keys.ty, values.ty], floats).map_err(at)?;
    Ok(Joined::Here(Box::new(Place {
        name: name_of(model, family, &named(PARTS[0])).map_err(at)?,
        dtype,
        shape: vec![latent.heads * latent.rows(), latent.rank],
        file,
        offset: head.data_start + keys.offset,
        stored: keys.bytes,
        restore: Some(restore),
        second: Some(Second {
            file: other,
            offset: values_head.data_start + values.offset,
            stored: values.bytes,
        }),
    })))
}

/// How the matrix is made up, by the shapes of its halves.
fn latent(keys: &[usize], values: &[usize]) -> Result<Latent> {
    let refused = || {
        let what = format!("keys of shape {keys:?} beside values of shape {values:?}");
        Error::new(Code::Shape, what)
    };
    let ([heads, rank, width], [other, height, same]) = (keys, values) else {
        return Err(refused());
    };
    let rows = width
        .checked_add(*height)
        .and_then(|n| n.checked_mul(*heads));
    let whole = rows.and_then(|n| n.checked_mul(*rank)).filter(|n| *n > 0);
    if heads != other || rank != same || whole.is_none() {
        return Err(refused());
    }
    Ok(Latent {
        heads: *heads,
        keys: *width,
        values: *height,
        rank: *rank,
    })
}
