//! Headers and indexes as JSON, for callers that read ranges of files.

use crate::container::{safetensors, shards};
use crate::error::Result;
use serde_json::{Value, json};

/// A safetensors header; `head` holds at least the first 8 + N bytes of the file.
pub(super) fn header(head: &[u8], file_bytes: u64) -> Result<String> {
    let header = safetensors::parse(head, file_bytes)?;
    let entry = |e: &safetensors::Entry| {
        json!({
            "name": e.name, "dtype": e.dtype.name(), "shape": e.shape, "begin": e.begin, "end": e.end,
        })
    };
    let tensors: Value = header.entries.iter().map(entry).collect();
    let json = json!({
        "tensors": tensors, "metadata": header.metadata, "dataStart": header.data_start,
    });
    Ok(json.to_string())
}

/// `model.safetensors.index.json`: file names are checked, shards are not opened.
pub(super) fn index(text: &[u8]) -> Result<String> {
    let index = shards::parse_index(text)?;
    let file = |(tensor, at): (&String, &usize)| (tensor.clone(), json!(index.files[*at]));
    let map: serde_json::Map<String, Value> = index.weight_map.iter().map(file).collect();
    let json = json!({"files": index.files, "weightMap": map, "totalSize": index.total_size});
    Ok(json.to_string())
}
