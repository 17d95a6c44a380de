//! What a GGUF file needs beside a checkpoint's tensors and config: the tokenizer, the imatrix,
//! types by name.

use crate::error::{Code, Error, Result, nearest};
use crate::gguf::imatrix::{Imatrix, ImatrixFile};
use crate::gguf::types::{TYPES, Type};
use crate::gguf::{Mix, Overrides};
use crate::job::identity::hex;
use regex_lite::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The part of a request that only GGUF files need.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Extras {
    /// The name of the model in the file.
    pub name: String,
    /// The name of the file without `.gguf`; that of the model otherwise.
    pub stem: Option<String>,
    /// Text of tokenizer.json.
    pub tokenizer: Option<String>,
    /// Text of `tokenizer_config.json`.
    pub tokenizer_config: Option<String>,
    /// Text of `chat_template.jinja`.
    pub template: Option<String>,
    /// Name of the pre-tokenizer, where it cannot be told from tokenizer.json.
    pub tokenizer_pre: Option<String>,
    /// How an encoder's states become vectors, by the names of sentence-transformers.
    pub pooling: Vec<String>,
    /// Types of tensors by pattern, the first that matches: `("ffn_down", "Q6_K")`.
    pub tensor_types: Vec<(String, String)>,
    /// Type of the head.
    pub output_type: Option<String>,
    /// Type of the token embedding.
    pub embedding_type: Option<String>,
    /// The mix's base type for everything.
    pub pure: bool,
    /// The importance matrix.
    pub imatrix: Option<ImatrixFile>,
}

impl Extras {
    /// What a resumed run must agree on.
    pub(in crate::convert) fn fingerprint(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        hex(Sha256::new_with_prefix(text))
    }

    /// The name of the file without its ending.
    pub(super) fn stem(&self) -> &str {
        match self.stem.as_deref().unwrap_or(&self.name) {
            "" => "model",
            stem => stem,
        }
    }

    /// The importance matrix and its name; `imatrix` and the codes of `Imatrix::parse` when it is
    /// none.
    pub(super) fn imatrix(&self) -> Result<Option<(Imatrix, &str)>> {
        let Some(file) = &self.imatrix else {
            return Ok(None);
        };
        Ok(Some((file.parse()?, file.file.as_str())))
    }

    /// Types by name; `option` names what is not a pattern or not a type.
    pub(super) fn overrides(&self) -> Result<Overrides> {
        let named = |name: &Option<String>| name.as_deref().map(type_of).transpose();
        let mut tensors = Vec::new();
        for (pattern, name) in &self.tensor_types {
            let regex = Regex::new(pattern).map_err(|e| {
                Error::new(
                    Code::Option,
                    format!("tensor type pattern {pattern:?}: {e}"),
                )
                .remedy("use a regular expression, as in ffn_down=Q6_K")
            })?;
            tensors.push((regex, type_of(name)?));
        }
        Ok(Overrides {
            tensors,
            head: named(&self.output_type)?,
            embedding: named(&self.embedding_type)?,
            pure: self.pure,
            keep_head: false,
        })
    }
}

/// A type that can be written, by its name in any case.
fn type_of(name: &str) -> Result<&'static Type> {
    let ty = Type::by_name(name)?;
    if ty.is_written() {
        return Ok(ty);
    }
    let written = TYPES.iter().filter(|t| t.is_written()).map(|t| t.name);
    let near = nearest(ty.name, written).unwrap_or("Q8_0");
    let error = Error::new(Code::Option, format!("{} is not written here", ty.name));
    Err(error.remedy(format!("did you mean {near}?")))
}

/// The mix of a scheme, `Q4_K_M` unless one is named.
pub(super) fn mix(scheme: Option<&str>) -> Result<&'static Mix> {
    Mix::by_name(scheme.unwrap_or("Q4_K_M"))
}

/// A JSON text; `tokenizer` with the file's name when it is none.
pub(super) fn json(text: Option<&str>, file: &str) -> Result<Option<Value>> {
    let parse = |text| {
        let bad = |e| Error::new(Code::Tokenizer, format!("not JSON: {e}")).at(file);
        serde_json::from_str(text).map_err(bad)
    };
    text.map(parse).transpose()
}
