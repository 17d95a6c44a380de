//! Special tokens and the chat template.

use super::value::{Metadata, Value};
use super::vocabulary::{Files, Vocabulary};
use serde_json::Value as Json;

/// Special tokens: the key, and the word in `…_token` and `…_token_id`.
pub(super) const SPECIAL: &[(&str, &str)] = &[
    ("bos_token_id", "bos"),
    ("eos_token_id", "eos"),
    ("unknown_token_id", "unk"),
    ("seperator_token_id", "sep"),
    ("padding_token_id", "pad"),
    ("mask_token_id", "mask"),
    ("cls_token_id", "cls"),
];

/// Ids of special tokens, whether they are added to prompts, and the chat template.
pub(super) fn set(m: &mut Metadata, tokens: &Vocabulary, files: &Files<'_>) {
    let from_config = |key: &str| files.config.and_then(|c| c.get(key));
    for (key, word) in SPECIAL {
        let text = from_config(&format!("{word}_token"));
        let text = text.and_then(|t| t.as_str().or_else(|| t.get("content")?.as_str()));
        let named = text.and_then(|t| tokens.id(t));
        let id = named.or_else(|| {
            let id = files.model.get(format!("{word}_token_id"))?;
            // The first of several ends of a text is the main one.
            let id = id.as_array().map_or(Some(id), |ids| ids.first())?;
            usize::try_from(id.as_u64()?)
                .ok()
                .filter(|id| *id < tokens.0.len())
        });
        if let Some(id) = id {
            m.set(format!("tokenizer.ggml.{key}"), Value::U32(id as u32));
        }
    }
    flags(m, tokens, files);
    if let Some(template) = template(files) {
        m.set_string("tokenizer.chat_template", template);
    }
}

/// Whether a prompt begins and ends with special tokens: what the config says, else whether the
/// post-processor names them.
fn flags(m: &mut Metadata, tokens: &Vocabulary, files: &Files<'_>) {
    let processor = files
        .tokenizer
        .and_then(|t| t.get("post_processor"))
        .map_or_else(String::new, Json::to_string);
    for (key, word) in [("add_bos_token", "bos"), ("add_eos_token", "eos")] {
        let flag = files.config.and_then(|c| c.get(key)?.as_bool());
        let added = || {
            let id = m
                .index(&format!("tokenizer.ggml.{word}_token_id"))
                .ok()
                .flatten()?;
            let token = tokens.0.get(id as usize)?.as_ref()?;
            let text = Json::from(token.text.clone());
            // As a step of a template, or as one of the pair that BERT and RoBERTa have.
            let forms = [format!("\"id\":{text}"), format!("[{text},")];
            Some(forms.iter().any(|form| processor.contains(form)))
        };
        let value = flag.or_else(added).unwrap_or(false);
        m.set(format!("tokenizer.ggml.{key}"), Value::Bool(value));
    }
}

/// The chat template of the config, else that of its own file.
fn template<'a>(files: &Files<'a>) -> Option<&'a str> {
    let own = files
        .config
        .and_then(|c| c.get("chat_template"))
        .and_then(|t| match t {
            Json::Array(list) => {
                let default = |t: &&Json| t.get("name").and_then(Json::as_str) == Some("default");
                list.iter().find(default)?.get("template")?.as_str()
            }
            other => other.as_str(),
        });
    own.or(files.template)
}
