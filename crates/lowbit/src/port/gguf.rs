//! GGUF files as checkpoints, for callers that read ranges of files.

use super::Polled;
use super::parse::parse;
use crate::error::{Code, Error, Result};
use crate::gguf::import::{self, File, Import, Place, Step};
use crate::gguf::latent::Latent;
use crate::gguf::tensors::Change;
use crate::gguf::{Restore, Type};
use crate::tensor::{Dtype, checked_bytes};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What is known of a model's files.
#[derive(Debug, Deserialize)]
struct Opening {
    files: Vec<Known>,
    /// Names of tensors whose bytes come behind the heads.
    #[serde(default)]
    values: Vec<String>,
    /// Floats that blocks are to be decoded to.
    #[serde(default)]
    floats: Option<String>,
}

/// A file of which some first bytes came.
#[derive(Debug, Deserialize)]
struct Known {
    name: String,
    bytes: u64,
}

/// How rows are restored.
#[derive(Debug, Deserialize)]
struct Restoring {
    #[serde(rename = "type")]
    ty: String,
    cols: usize,
    #[serde(default)]
    permute: Option<usize>,
    #[serde(default)]
    add: Option<f32>,
    #[serde(default)]
    to: Option<String>,
    #[serde(default)]
    joined: Option<Joining>,
}

/// Keys that are made one matrix with values of another tensor.
#[derive(Debug, Deserialize)]
struct Joining {
    #[serde(rename = "type")]
    ty: String,
    heads: usize,
    keys: usize,
    values: usize,
    rank: usize,
}

/// Opens a model as far as what came goes: JSON with a `kind`, and the texts of `done` as data.
pub(super) fn open(request: &str, data: &[Vec<u8>]) -> Result<Polled> {
    let opening: Opening = parse("gguf", request)?;
    let (count, wanted) = (data.len(), opening.files.len() + opening.values.len());
    if count != wanted {
        let what = format!("{count} of {wanted} pieces came");
        return Err(Error::new(Code::Internal, what));
    }
    let (heads, values) = data.split_at(opening.files.len());
    let files = opening.files.iter().zip(heads).map(|(file, head)| File {
        name: &file.name,
        bytes: file.bytes,
        head,
    });
    let files: Vec<_> = files.collect();
    let values = opening.values.into_iter().zip(values.iter().cloned());
    let values: BTreeMap<_, _> = values.collect();
    let floats = opening.floats.as_deref().map(Dtype::parse).transpose()?;
    let mut texts = Vec::new();
    let ask = match import::open(&files, &values, floats)? {
        Step::Head(file, bytes) => json!({"kind": "head", "file": file, "bytes": bytes}),
        Step::Files(names) => json!({"kind": "files", "names": names}),
        Step::Values {
            name,
            file,
            offset,
            bytes,
        } => json!({
            "kind": "values", "name": name, "file": file, "offset": offset, "bytes": bytes,
        }),
        Step::Done(import) => {
            let done = done(&import)?;
            texts.extend(
                import
                    .texts
                    .iter()
                    .map(|(_, json)| json.to_string().into_bytes()),
            );
            done
        }
    };
    Ok(Polled {
        ask: ask.to_string(),
        data: texts,
    })
}

fn done(import: &Import) -> Result<Value> {
    let tensors = import
        .tensors
        .iter()
        .map(tensor)
        .collect::<Result<Value>>()?;
    let problem = |(name, error): &(&str, Error)| json!({"name": name, "code": error.code.name(), "message": error.to_string()});
    let texts: Vec<_> = import.texts.iter().map(|(name, _)| *name).collect();
    let metadata: serde_json::Map<_, _> = import
        .metadata
        .iter()
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    Ok(json!({
        "kind": "done", "tensors": tensors, "texts": texts, "metadata": metadata,
        "problems": import.problems.iter().map(problem).collect::<Value>(),
        "version": import.version, "mix": import.mix,
    }))
}

fn tensor(place: &Place) -> Result<Value> {
    let restore = place.restore.map(|restore| -> Result<Value> {
        let (stored, second, unit) = restore.unit_bytes()?;
        let mut request = json!({"type": restore.ty.name, "cols": restore.cols});
        match restore.change {
            Change::None | Change::Half(..) | Change::Skip(..) => {}
            Change::Permute(height) => request["permute"] = json!(height),
            Change::Add(offset) => request["add"] = json!(offset),
        }
        if let Some(to) = restore.to {
            request["to"] = json!(to.name());
        }
        if let Some((latent, values)) = restore.joined {
            let [keys, rows] = [latent.keys, latent.values];
            request["joined"] = json!({"type": values.name, "heads": latent.heads,
                "keys": keys, "values": rows, "rank": latent.rank});
        }
        let other = place
            .second
            .map(|other| json!({"file": other.file, "offset": other.offset, "stored": second}));
        Ok(json!({
            "request": request.to_string(), "stored": stored, "unit": unit, "second": other,
        }))
    });
    Ok(json!({
        "name": place.name, "dtype": place.dtype.name(), "shape": place.shape,
        "file": place.file, "offset": place.offset, "stored": place.stored,
        "bytes": checked_bytes(place.dtype, &place.shape)?, "restore": restore.transpose()?,
    }))
}

/// Rows of a tensor as the checkpoint has them.
pub(super) fn rows(request: &str, stored: Vec<u8>) -> Result<Vec<u8>> {
    let restoring: Restoring = parse("rows", request)?;
    let change = match (restoring.permute, restoring.add) {
        (Some(height), _) => Change::Permute(height),
        (None, Some(offset)) => Change::Add(offset),
        (None, None) => Change::None,
    };
    let joined = restoring.joined.map(|j| -> Result<_> {
        let latent = Latent {
            heads: j.heads,
            keys: j.keys,
            values: j.values,
            rank: j.rank,
        };
        Ok((latent, Type::by_name(&j.ty)?))
    });
    let restore = Restore {
        ty: Type::by_name(&restoring.ty)?,
        cols: restoring.cols,
        change,
        to: restoring.to.as_deref().map(Dtype::parse).transpose()?,
        joined: joined.transpose()?,
    };
    crate::gguf::rows(&restore, stored)
}
