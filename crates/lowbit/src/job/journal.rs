//! The journal: one line of JSON per unit of work that is durable.
//!
//! ```text
//! {"lowbit":1,"identity":[["tool version","0.1.0"],…]}
//! {"unit":"embed","activations":{"name":"acts-0","bytes":…,"sha256":"…"}}
//! {"unit":"block 0","tensors":{"model.layers.0.…":"<sha256>",…},"activations":…,"layers":[…]}
//! ```
//! A line is appended only after everything that it vouches for is on the disk. A last line that
//! is cut off was never vouched for and is dropped.

use super::cache::CacheReport;
use super::identity::Identity;
use super::report::{LayerReport, TransformReport};
use crate::error::{Code, Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Version of the journal's form.
const VERSION: u64 = 1;

/// What one unit of work left behind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Line<L = LayerReport> {
    /// Name of the unit.
    pub unit: String,
    /// SHA-256 of every output tensor that it wrote.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tensors: BTreeMap<String, String>,
    /// The scratch file that the next unit reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activations: Option<Activations>,
    /// Reports of the layers that it quantized or converted.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<L>,
    /// What transforms did in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transforms: Vec<TransformReport>,
    /// What the user should know of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Scales of the block's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheReport>,
}

impl<L> Default for Line<L> {
    fn default() -> Self {
        Self {
            unit: String::new(),
            tensors: BTreeMap::new(),
            activations: None,
            layers: Vec::new(),
            transforms: Vec::new(),
            notes: Vec::new(),
            cache: None,
        }
    }
}

/// A whole scratch file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Activations {
    /// Name of the scratch file.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its hash.
    pub sha256: String,
}

/// The first line.
pub(crate) fn first(identity: &Identity) -> String {
    json!({ "lowbit": VERSION, "identity": identity.to_json() }).to_string()
}

/// The units that an earlier run finished; `resume-mismatch` when it was another run,
/// `resume-corrupt` when the lines make no sense.
pub(crate) fn read<L: DeserializeOwned>(
    lines: &[String],
    identity: &Identity,
    units: &[String],
) -> Result<Vec<Line<L>>> {
    let mut values = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        match serde_json::from_str::<Value>(line) {
            Ok(value) => values.push(value),
            Err(_) if i + 1 == lines.len() => {}
            Err(e) => return Err(corrupt(format!("line {} of the journal: {e}", i + 1))),
        }
    }
    let mut values = values.into_iter();
    let Some(head) = values.next() else {
        return Ok(Vec::new());
    };
    if head["lowbit"] != json!(VERSION) {
        return Err(corrupt("the journal's first line is not lowbit's".into()));
    }
    identity.check(&head["identity"])?;
    let mut done = Vec::new();
    for (i, value) in values.enumerate() {
        let line: Line<L> = serde_json::from_value(value)
            .map_err(|e| corrupt(format!("line {} of the journal: {e}", i + 2)))?;
        if units.get(i) != Some(&line.unit) {
            let what = format!("line {} of the journal is about {:?}", i + 2, line.unit);
            return Err(corrupt(what));
        }
        done.push(line);
    }
    Ok(done)
}

/// Something that an earlier run vouched for is not so.
pub(crate) fn corrupt(what: String) -> Error {
    Error::new(Code::ResumeCorrupt, what).remedy("start over with --fresh")
}
