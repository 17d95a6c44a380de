//! Keys of tokenizers that put words together of pieces: WordPiece, as BERT has it, and Unigram.
//!
//! WordPiece marks pieces inside of words (`##ing`), a file marks the first piece of a word
//! instead (`▁go`). Source: llama.cpp's converter of BERT, and what its loader asks for.

use super::value::{Array, Metadata, Value};
use super::vocabulary::{CONTROL, NORMAL, Token, UNKNOWN, Vocabulary, added, bad};
use super::vocabulary_splits::steps;
use crate::error::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;

/// What pieces inside of words begin with.
pub(super) const INSIDE: &str = "##";
/// What first pieces begin with in a file.
pub(super) const FIRST: char = '▁';

/// WordPiece; `tokenizer` when the file is not usable.
pub(super) fn words(m: &mut Metadata, tokenizer: &Json, model: &Json) -> Result<Vocabulary> {
    let vocab = model.get("vocab").and_then(Json::as_object);
    let vocab = vocab.ok_or_else(|| bad("model.vocab is no object"))?;
    let inside = model.get("continuing_subword_prefix");
    let inside = inside.and_then(Json::as_str).unwrap_or(INSIDE);
    if inside.is_empty() {
        return Err(bad("pieces inside of words are not marked"));
    }
    let mut tokens = Vocabulary(Vec::new());
    for (text, id) in vocab {
        tokens.put(id, Token::new(text.clone(), NORMAL))?;
    }
    added(&mut tokens, tokenizer)?;
    for token in tokens.0.iter_mut().flatten() {
        // Tokens for whole texts are no pieces.
        if token.kind == NORMAL {
            token.text = match token.text.strip_prefix(inside) {
                Some(rest) => rest.into(),
                None => format!("{FIRST}{}", token.text),
            };
        }
    }
    m.set_string("tokenizer.ggml.model", "bert");
    m.set_string("tokenizer.ggml.pre", "default");
    for key in ["lowercase", "strip_accents"] {
        let value = tokenizer.get("normalizer").and_then(|n| n.get(key));
        if let Some(value) = value.and_then(Json::as_bool) {
            m.set(
                format!("tokenizer.ggml.normalizer.{key}"),
                Value::Bool(value),
            );
        }
    }
    Ok(tokens)
}

/// Ids of what stands around a text, which loaders of WordPiece take whatever flags say, and of
/// unknown words, where no other file named them.
pub(super) fn frame(m: &mut Metadata, tokenizer: &Json, model: &Json, tokens: &Vocabulary) {
    let mut put = |key: &str, text: Option<&str>, always: bool| {
        let key = format!("tokenizer.ggml.{key}");
        if let Some(id) = text.and_then(|t| tokens.id(t))
            && (always || m.get(&key).is_none())
        {
            m.set(key, Value::U32(id as u32));
        }
    };
    let [first, last] = around(tokenizer);
    put("bos_token_id", first, true);
    put("cls_token_id", first, false);
    put("seperator_token_id", last, false);
    let unknown = model.get("unk_token").and_then(Json::as_str);
    put("unknown_token_id", unknown, false);
    put("padding_token_id", Some("[PAD]"), false);
    put("mask_token_id", Some("[MASK]"), false);
    for (key, there) in [("bos", first.is_some()), ("sep", last.is_some())] {
        m.set(
            format!("tokenizer.ggml.add_{key}_token"),
            Value::Bool(there),
        );
    }
}

/// The tokens before and behind a text, as the post-processor names them.
fn around(tokenizer: &Json) -> [Option<&str>; 2] {
    let Some(processor) = tokenizer.get("post_processor") else {
        return [None, None];
    };
    if let Some(steps) = processor.get("single").and_then(Json::as_array) {
        let ends = [steps.first(), steps.last()];
        return ends.map(|step| step?.get("SpecialToken")?.get("id")?.as_str());
    }
    ["cls", "sep"].map(|key| processor.get(key)?.get(0)?.as_str())
}

/// Unigram: pieces with the logarithms of their probabilities; `tokenizer` when the file is not
/// usable.
pub(super) fn scored(m: &mut Metadata, tokenizer: &Json, model: &Json) -> Result<Vocabulary> {
    let vocab = model.get("vocab").and_then(Json::as_array);
    let vocab = vocab.ok_or_else(|| bad("model.vocab is no list"))?;
    let unknown = model.get("unk_id").and_then(Json::as_u64);
    let mut tokens = Vocabulary(Vec::new());
    for (id, piece) in vocab.iter().enumerate() {
        let text = piece.get(0).and_then(Json::as_str);
        let score = piece.get(1).and_then(Json::as_f64);
        let (Some(text), Some(score)) = (text, score) else {
            return Err(bad(format!("piece {id} has no text and score")));
        };
        let kind = if unknown == Some(id as u64) {
            UNKNOWN
        } else {
            NORMAL
        };
        let mut token = Token::new(text.into(), kind);
        token.score = score as f32;
        tokens.put(&Json::from(id), token)?;
    }
    let scores: Vec<_> = tokens.0.iter().flatten().map(|t| t.score).collect();
    added(&mut tokens, tokenizer)?;
    for (i, token) in tokens.0.iter_mut().enumerate() {
        if let Some(token) = token {
            token.score = scores.get(i).copied().unwrap_or(0.0);
            if unknown == Some(i as u64) && token.kind == CONTROL {
                token.kind = UNKNOWN;
            }
        }
    }
    m.set_string("tokenizer.ggml.model", "t5");
    m.set_string("tokenizer.ggml.pre", "default");
    if let Some(id) = unknown {
        m.set("tokenizer.ggml.unknown_token_id", Value::U32(id as u32));
    }
    spaces(m, tokenizer)?;
    Ok(tokens)
}

fn is(step: &Json, kind: &str) -> bool {
    step.get("type").and_then(Json::as_str) == Some(kind)
}

/// The steps of a normalizer, one behind the other.
fn normalizers(tokenizer: &Json) -> Vec<&Json> {
    let normalizer = tokenizer.get("normalizer").filter(|n| !n.is_null());
    normalizer.map_or_else(Vec::new, |n| {
        let list = n.get("normalizers").and_then(Json::as_array);
        list.map_or_else(|| vec![n], |list| list.iter().collect())
    })
}

/// Whether a space is put before a text whose spaces are letters.
pub(super) fn is_prefixed(tokenizer: &Json) -> bool {
    let steps = steps(tokenizer);
    let metaspace = steps.iter().find(|step| is(step, "Metaspace"));
    let prefixes = metaspace.is_some_and(|step| match step.get("prepend_scheme") {
        Some(scheme) => scheme.as_str() != Some("never"),
        None => step.get("add_prefix_space").and_then(Json::as_bool) != Some(false),
    });
    prefixes
        || normalizers(tokenizer)
            .iter()
            .any(|step| is(step, "Prepend"))
}

/// What is done to spaces and letters before pieces are looked for.
fn spaces(m: &mut Metadata, tokenizer: &Json) -> Result<()> {
    let (before, parts) = (steps(tokenizer), normalizers(tokenizer));
    let runs = |step: &Json| {
        let pattern = step.get("pattern").and_then(|p| p.get("Regex"));
        is(step, "Replace") && pattern.and_then(Json::as_str) == Some(" {2,}")
    };
    let single = before.iter().any(|step| is(step, "WhitespaceSplit"))
        || parts.iter().any(|step| runs(step));
    m.set(
        "tokenizer.ggml.add_space_prefix",
        Value::Bool(is_prefixed(tokenizer)),
    );
    m.set(
        "tokenizer.ggml.remove_extra_whitespaces",
        Value::Bool(single),
    );
    let map = parts.iter().find(|step| is(step, "Precompiled"));
    let map = map.and_then(|step| step.get("precompiled_charsmap")?.as_str());
    if let Some(map) = map.filter(|map| !map.is_empty()) {
        let bytes = STANDARD.decode(map);
        let bytes = bytes.map_err(|e| bad(format!("precompiled_charsmap: {e}")))?;
        let bytes = Value::Array(Array::U8(bytes));
        m.set("tokenizer.ggml.precompiled_charsmap", bytes);
    }
    Ok(())
}
