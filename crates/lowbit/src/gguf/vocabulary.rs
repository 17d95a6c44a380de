//! Keys of a tokenizer, from tokenizer.json and what lies beside it.
//!
//! Source: the keys that llama.cpp reads and what its converter puts there. The name of the
//! pre-tokenizer is found by the expression that tokenizer.json splits with, not by encoding a
//! check text: whoever splits alike is alike.

use super::special;
use super::value::{Array, Metadata, Value};
use super::vocabulary_pieces as pieces;
use super::vocabulary_splits::pre_name;
use crate::error::{Code, Error, Result};
use serde_json::Value as Json;

/// What a token is to a loader.
pub(super) const NORMAL: i32 = 1;
pub(super) const UNKNOWN: i32 = 2;
pub(super) const CONTROL: i32 = 3;
pub(super) const USER_DEFINED: i32 = 4;
pub(super) const UNUSED: i32 = 5;
pub(super) const BYTE: i32 = 6;

/// Most tokens of a vocabulary.
const TOKENS_MAX: usize = 1 << 24;
/// Score of tokens that no merge makes.
const NO_SCORE: f32 = -1000.0;

/// The files that describe a tokenizer.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// tokenizer.json; a file without it runs on tokens only.
    pub tokenizer: Option<&'a Json>,
    /// tokenizer_config.json.
    pub config: Option<&'a Json>,
    /// config.json of the model, for ids of special tokens.
    pub model: &'a Json,
    /// chat_template.jinja.
    pub template: Option<&'a str>,
    /// Name of the pre-tokenizer, when the caller knows better.
    pub pre: Option<&'a str>,
}

pub(super) fn bad(what: impl Into<String>) -> Error {
    Error::new(Code::Tokenizer, what).at("tokenizer.json")
}

/// One token.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) kind: i32,
    pub(super) score: f32,
}

impl Token {
    pub(super) fn new(text: String, kind: i32) -> Self {
        let score = NO_SCORE;
        Self { text, kind, score }
    }
}

/// Tokens by id.
pub(super) struct Vocabulary(pub(super) Vec<Option<Token>>);

impl Vocabulary {
    pub(super) fn put(&mut self, id: &Json, token: Token) -> Result<()> {
        let id = id.as_u64().filter(|id| *id < TOKENS_MAX as u64);
        let id = id.ok_or_else(|| bad(format!("token {:?} has no usable id", token.text)))?;
        let id = id as usize;
        if id >= self.0.len() {
            self.0.resize(id + 1, None);
        }
        self.0[id] = Some(token);
        Ok(())
    }

    /// The token of a given text.
    pub(super) fn id(&self, text: &str) -> Option<usize> {
        let is = |t: &Option<Token>| t.as_ref().is_some_and(|t| t.text == text);
        self.0.iter().position(is)
    }
}

/// Sets the keys of the tokenizer; `rows` is how many rows the embedding has, which the tokens are
/// filled up to.
///
/// `tokenizer` when the files are not usable or have more tokens than rows, `unsupported` for
/// kinds of tokenizers and pre-tokenizers that have no name here.
pub fn set(m: &mut Metadata, files: &Files<'_>, rows: usize) -> Result<()> {
    let Some(tokenizer) = files.tokenizer else {
        return set_none(m, rows);
    };
    let model = tokenizer.get("model");
    let model = model.ok_or_else(|| bad("model is missing"))?;
    let kind = model.get("type").and_then(Json::as_str).unwrap_or("BPE");
    let mut tokens = match kind {
        "WordPiece" => pieces::words(m, tokenizer, model)?,
        "Unigram" => pieces::scored(m, tokenizer, model)?,
        "BPE" => merged(m, tokenizer, model, files.pre)?,
        _ => {
            let what = format!("tokenizers of type {kind} have no GGUF form here");
            return Err(Error::new(Code::Unsupported, what).at("tokenizer.json"));
        }
    };
    if tokens.0.len() > rows {
        let what = format!("{} tokens for an embedding of {rows} rows", tokens.0.len());
        return Err(bad(what));
    }
    tokens.0.resize(rows, None);
    special::set(m, &tokens, files);
    if kind == "WordPiece" {
        pieces::frame(m, tokenizer, model, &tokens);
    }
    if m.string("tokenizer.ggml.model")? != Some("gpt2") && kind != "WordPiece" {
        let of = |t: &Option<Token>| t.as_ref().map_or(NO_SCORE, |t| t.score);
        let scores = tokens.0.iter().map(of).collect();
        m.set("tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
    }
    put_tokens(m, tokens);
    Ok(())
}

/// Tokens that merges make, of letters that stand for bytes or with a token for every byte.
fn merged(
    m: &mut Metadata,
    tokenizer: &Json,
    model: &Json,
    pre: Option<&str>,
) -> Result<Vocabulary> {
    let vocab = model.get("vocab").and_then(Json::as_object);
    let vocab = vocab.ok_or_else(|| bad("model.vocab is no object"))?;
    let bytes = model.get("byte_fallback").and_then(Json::as_bool) == Some(true);
    let merges = merges(model)?;
    let mut tokens = Vocabulary(Vec::new());
    for (text, id) in vocab {
        let kind = match text.as_str() {
            "<unk>" if bytes => UNKNOWN,
            t if bytes && t.len() == 6 && t.starts_with("<0x") && t.ends_with('>') => BYTE,
            _ => NORMAL,
        };
        tokens.put(id, Token::new(text.clone(), kind))?;
    }
    added(&mut tokens, tokenizer)?;
    m.set_string("tokenizer.ggml.model", if bytes { "llama" } else { "gpt2" });
    let pre = match pre {
        Some(pre) => pre,
        None if bytes => "default",
        None => pre_name(tokenizer)?,
    };
    m.set_string("tokenizer.ggml.pre", pre);
    if bytes {
        score(&mut tokens, &merges);
        let prefixed = Value::Bool(pieces::is_prefixed(tokenizer));
        m.set("tokenizer.ggml.add_space_prefix", prefixed);
    } else {
        let joined = merges.iter().map(|(a, b)| format!("{a} {b}")).collect();
        m.set("tokenizer.ggml.merges", Value::Array(Array::String(joined)));
    }
    Ok(tokens)
}

/// The keys of a file without a tokenizer.
fn set_none(m: &mut Metadata, rows: usize) -> Result<()> {
    m.set_string("tokenizer.ggml.model", "no_vocab");
    let arch = m.string("general.architecture")?.unwrap_or_default();
    let key = format!("{arch}.vocab_size");
    m.set_count(key, rows)
}

fn put_tokens(m: &mut Metadata, tokens: Vocabulary) {
    let kinds = tokens
        .0
        .iter()
        .map(|t| t.as_ref().map_or(UNUSED, |t| t.kind));
    m.set(
        "tokenizer.ggml.token_type",
        Value::Array(Array::I32(kinds.collect())),
    );
    let texts = tokens.0.into_iter().enumerate();
    let texts = texts.map(|(id, t)| t.map_or_else(|| format!("[PAD{id}]"), |t| t.text));
    m.set(
        "tokenizer.ggml.tokens",
        Value::Array(Array::String(texts.collect())),
    );
}

/// Merges as pairs, from either form that tokenizer.json has them in; spaces inside of parts are
/// written as the letter that stands for a space.
fn merges(model: &Json) -> Result<Vec<(String, String)>> {
    let list = model.get("merges").and_then(Json::as_array);
    let list = list.ok_or_else(|| bad("merges are missing"))?;
    let part = |text: &str| text.replace(' ', "Ġ");
    let pair = |merge: &Json| match merge {
        Json::String(text) => {
            let (a, b) = text.split_once(' ')?;
            Some((a.to_string(), b.to_string()))
        }
        Json::Array(parts) => match parts.as_slice() {
            [Json::String(a), Json::String(b)] => Some((part(a), part(b))),
            _ => None,
        },
        _ => None,
    };
    let pairs = list
        .iter()
        .map(|m| pair(m).ok_or_else(|| bad(format!("merge {m} is no pair"))));
    pairs.collect()
}

/// Tokens that were added to the vocabulary or are special in it.
pub(super) fn added(tokens: &mut Vocabulary, tokenizer: &Json) -> Result<()> {
    let list = tokenizer.get("added_tokens").and_then(Json::as_array);
    for token in list.into_iter().flatten() {
        let text = token.get("content").and_then(Json::as_str);
        let (Some(text), Some(id)) = (text, token.get("id")) else {
            return Err(bad(format!("added token {token} has no content or id")));
        };
        let special = token.get("special").and_then(Json::as_bool) == Some(true);
        let kind = if text == "<unk>" {
            UNKNOWN
        } else if special || looks_special(text) {
            CONTROL
        } else {
            USER_DEFINED
        };
        let text = if kind == USER_DEFINED {
            text.replace('▁', " ")
        } else {
            text.to_string()
        };
        tokens.put(id, Token::new(text, kind))?;
    }
    Ok(())
}

/// Tokens that some models forgot to mark.
fn looks_special(text: &str) -> bool {
    let within = |start: &str, end: &str| text.starts_with(start) && text.ends_with(end);
    within("<|", "|>")
        || within("<｜", "｜>")
        || within("<unused", ">")
        || text == "<pad>"
        || text == "<mask>"
}

/// Scores for loaders that merge by score: the earlier the merge, the higher.
fn score(tokens: &mut Vocabulary, merges: &[(String, String)]) {
    let ids: std::collections::HashMap<String, usize> = tokens
        .0
        .iter()
        .enumerate()
        .filter_map(|(id, t)| t.as_ref().map(|t| (t.text.clone(), id)))
        .collect();
    for (rank, (a, b)) in merges.iter().enumerate().rev() {
        // Merges of the byte-fallback kind have no letter for spaces to undo.
        let whole = format!("{a}{b}");
        if let Some(token) = ids.get(&whole).and_then(|id| tokens.0[*id].as_mut()) {
            token.score = -(rank as f32);
        }
    }
}
