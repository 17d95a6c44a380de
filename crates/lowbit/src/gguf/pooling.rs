//! How vectors are made of an encoder's states: the key of a file, and the files of
//! sentence-transformers.

use super::value::{Array, Metadata, Value};
use crate::error::{Code, Error, Result};
use serde_json::{Map, Value as Json, json};

/// Poolings by their names in sentence-transformers, and what llama.cpp calls them.
const POOLINGS: &[(&str, u64)] = &[("mean", 1), ("cls", 2), ("lasttoken", 3)];

/// What llama.cpp calls scores of classes.
const RANK: u32 = 4;
/// Most classes of a model.
const CLASSES_MAX: usize = 1 << 16;
/// The key with the names of the classes.
const LABELS: &str = "classifier.output_labels";

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

/// Sets the keys of a model that gives scores to classes, by their names.
pub(super) fn set_ranks(m: &mut Metadata, arch: &str, labels: Vec<String>) {
    m.set(format!("{arch}.pooling_type"), Value::U32(RANK));
    if !labels.is_empty() {
        let labels = Value::Array(Array::String(labels));
        m.set(format!("{arch}.{LABELS}"), labels);
    }
}

/// Sets members of config.json of such a model; `count` classes, of whose names the file may say
/// nothing. `config` for more than a model can have.
pub(super) fn ranks(
    config: &mut Map<String, Json>,
    m: &Metadata,
    (arch, count): (&str, usize),
) -> Result<()> {
    if count > CLASSES_MAX {
        let what = format!("{count} classes, the most is {CLASSES_MAX}");
        return Err(Error::new(Code::Config, what).at("the metadata"));
    }
    let named = m.strings(&format!("{arch}.{LABELS}"))?.unwrap_or_default();
    let name = |i: usize| {
        named
            .get(i)
            .cloned()
            .unwrap_or_else(|| format!("LABEL_{i}"))
    };
    let labels = (0..count).map(|i| (i.to_string(), Json::from(name(i))));
    let ids = (0..count).map(|i| (name(i), Json::from(i)));
    config.insert("label2id".into(), Json::Object(ids.collect()));
    config.insert("id2label".into(), Json::Object(labels.collect()));
    let classes = json!(["BertForSequenceClassification"]);
    config.insert("architectures".into(), classes);
    Ok(())
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
