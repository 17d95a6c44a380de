//! How vectors are made of an encoder's states: the key of a file, and the files of
//! sentence-transformers.

use super::value::Metadata;
use crate::error::Result;
use serde_json::{Value as Json, json};

/// Poolings by their names in sentence-transformers, and what llama.cpp calls them.
const POOLINGS: &[(&str, u64)] = &[("mean", 1), ("cls", 2), ("lasttoken", 3)];

/// Keys of sentence-transformers' older configs, one of which is set.
const KEYS: &[(&str, &str)] = &[
    ("mean", "pooling_mode_mean_tokens"),
    ("cls", "pooling_mode_cls_token"),
    ("lasttoken", "pooling_mode_lasttoken"),
];

/// Sets the key of the poolings by name; a warning where there is none for them.
pub(super) fn set(m: &mut Metadata, arch: &str, poolings: &[String]) -> Result<Option<String>> {
    let known = |name: &String| POOLINGS.iter().find(|(own, _)| own == name);
    match poolings {
        [] => Ok(None),
        [one] if known(one).is_some() => {
            let id = known(one).map_or(0, |(_, id)| *id);
            m.set_count(format!("{arch}.pooling_type"), id as usize)?;
            Ok(None)
        }
        _ => Ok(Some(format!(
            "pooling {} has no key: who loads the file must say how states become vectors",
            poolings.join(" and ")
        ))),
    }
}

/// The files of sentence-transformers that say the same; none when the file says nothing.
///
/// Vectors are normalized there, as llama.cpp's tools do with them. `metadata` for a value that is
/// no number.
pub(super) fn texts(m: &Metadata, arch: &str, width: u64) -> Result<Vec<(&'static str, Json)>> {
    let Some(id) = m.index(&format!("{arch}.pooling_type"))? else {
        return Ok(Vec::new());
    };
    let Some((name, _)) = POOLINGS.iter().find(|(_, own)| *own == id) else {
        return Ok(Vec::new());
    };
    let module = |at: usize, path: &str, kind: &str| {
        json!({"idx": at, "name": at.to_string(), "path": path,
            "type": format!("sentence_transformers.models.{kind}")})
    };
    let modules = json!([
        module(0, "", "Transformer"),
        module(1, "1_Pooling", "Pooling"),
        module(2, "2_Normalize", "Normalize"),
    ]);
    let mut pooling = json!({"word_embedding_dimension": width});
    for (own, key) in KEYS {
        pooling[*key] = json!(own == name);
    }
    Ok(vec![
        ("modules.json", modules),
        ("1_Pooling/config.json", pooling),
    ])
}
