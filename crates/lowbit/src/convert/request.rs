//! What the facade asks for: a checkpoint's description, what to make of it, an adapter.

use crate::job::identity::model_sha256;
use crate::job::request::TensorEntry;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// A conversion as the facade describes it; `plan` and `job_open` take the same.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// `convert`, which tells it from a quantization.
    #[serde(default)]
    pub kind: String,
    /// The source's config.json.
    pub config: Value,
    /// Every tensor of the source, from the headers of its files.
    pub tensors: Vec<TensorEntry>,
    /// What to make of it.
    pub options: Options,
    /// What is merged into the weights on the way.
    #[serde(default)]
    pub adapter: Option<Adapter>,
    /// What a GGUF file needs beside.
    #[serde(default)]
    pub gguf: Option<super::gguf::Extras>,
    /// Lines of the journal of an unfinished run, in order.
    #[serde(default)]
    pub journal: Vec<String>,
    /// Instruction set by name; the best one of the host otherwise.
    #[serde(default)]
    pub isa: Option<String>,
    /// Threads, 1 otherwise.
    #[serde(default)]
    pub threads: Option<usize>,
    /// Data per output file at most; 5 GB otherwise.
    #[serde(default)]
    pub max_shard_bytes: Option<u64>,
    /// What identifies each source file to its store: length and time, or an `ETag`.
    #[serde(default)]
    pub identities: BTreeMap<String, String>,
}

/// A LoRA adapter as PEFT stores it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Adapter {
    /// `adapter_config.json`.
    pub config: Value,
    /// Every tensor of `adapter_model.safetensors`. The job asks for them by these names behind
    /// `adapter:`.
    pub tensors: Vec<TensorEntry>,
}

/// What to make of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Options {
    /// A layout by name, `float` or `gguf`.
    pub format: String,
    /// Scheme of every quantized module of the source; one that holds its values otherwise. For
    /// `gguf` a mix as `Q4_K_M`.
    pub scheme: Option<String>,
    /// `float`: the type of dequantized weights, and of all others too; the config's own
    /// otherwise, others as they are.
    pub dtype: Option<String>,
    /// Type of stored scales; as in the source otherwise.
    pub scale_dtype: Option<String>,
    /// How scales are found where values are rounded: `minmax` or `mse`; `minmax` otherwise.
    pub observer: Option<String>,
    /// Refuse whatever changes a value.
    pub exact: bool,
}

impl Options {
    /// Every option by name with its value as text, in the order of this struct.
    pub(super) fn facts(&self) -> Vec<(String, String)> {
        let Ok(Value::Object(map)) = serde_json::to_value(self) else {
            // Strings and flags only: nothing that JSON cannot hold.
            return Vec::new();
        };
        let text = |v: Value| v.as_str().map_or_else(|| v.to_string(), Into::into);
        map.into_iter()
            .map(|(name, value)| (format!("option {name}"), text(value)))
            .collect()
    }
}

impl Adapter {
    /// SHA-256 over its config and the names, types and shapes of its tensors.
    pub(super) fn fingerprint(&self) -> String {
        model_sha256(&self.config, &self.tensors)
    }
}

#[cfg(test)]
impl Request {
    /// A request about nothing.
    pub(super) fn of_options(options: Options) -> Self {
        Self {
            kind: "convert".into(),
            config: Value::Null,
            tensors: Vec::new(),
            options,
            adapter: None,
            gguf: None,
            journal: Vec::new(),
            isa: None,
            threads: None,
            max_shard_bytes: None,
            identities: BTreeMap::new(),
        }
    }
}
