//! Names of pre-tokenizers, by what tokenizer.json splits with.

use crate::error::{Code, Error, Result};
use serde_json::Value as Json;

/// Expressions that tokenizer.json splits with, and the names of what splits alike.
pub(super) const SPLITS: &[(&str, &str)] = &[
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "qwen2",
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "llama-bpe",
    ),
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "tekken",
    ),
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "gpt-4o",
    ),
];

/// The steps of a pre-tokenizer, one behind the other.
pub(super) fn steps(tokenizer: &Json) -> Vec<&Json> {
    match tokenizer.get("pre_tokenizer") {
        None | Some(Json::Null) => Vec::new(),
        Some(step) => match step.get("pretokenizers").and_then(Json::as_array) {
            Some(steps) => steps.iter().collect(),
            None => vec![step],
        },
    }
}

pub(super) fn pre_name(tokenizer: &Json) -> Result<&'static str> {
    let steps = steps(tokenizer);
    let is = |step: &Json, name: &str| step.get("type").and_then(Json::as_str) == Some(name);
    let expression = |step: &Json| {
        let found = step.get("pattern")?.get("Regex")?.as_str()?;
        SPLITS
            .iter()
            .find(|(e, _)| *e == found)
            .map(|(_, name)| *name)
    };
    if let Some(name) = steps.iter().find_map(|s| expression(s)) {
        return Ok(name);
    }
    let splits = steps.iter().any(|s| is(s, "Split"));
    let digits = steps.iter().any(|s| is(s, "Digits"));
    let plain =
        |s: &&Json| is(s, "ByteLevel") && s.get("use_regex").and_then(Json::as_bool) != Some(false);
    match (splits, digits, steps.iter().any(plain)) {
        (false, false, true) => Ok("gpt-2"),
        (false, true, true) => Ok("smollm"),
        _ => {
            let what = "the pre-tokenizer has no name here";
            let error = Error::new(Code::Unsupported, what).at("tokenizer.json");
            Err(error.remedy("name it as llama.cpp does, with --tokenizer-pre"))
        }
    }
}
