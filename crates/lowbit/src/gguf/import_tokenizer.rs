//! tokenizer.json, tokenizer_config.json and generation_config.json from the keys of a file.

use super::import_merges::{merged, scored};
use super::import_pieces::{unigram, words};
use super::special::SPECIAL;
use super::value::Metadata;
use super::vocabulary::{CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED};
use crate::error::{Code, Error, Result};
use serde_json::{Map, Value as Json, json};

/// Texts of control tokens that end an answer, whatever else a file names as the end.
const ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<EOT>",
    "<|return|>",
    "<｜end▁of▁sentence｜>",
];

pub(super) fn bad(what: impl Into<String>) -> Error {
    Error::new(Code::Tokenizer, what).at("the metadata")
}

/// The tokens of a file.
pub(super) struct Tokens<'a> {
    pub(super) texts: &'a [String],
    pub(super) kinds: Vec<i32>,
}

impl<'a> Tokens<'a> {
    pub(super) fn read(m: &'a Metadata) -> Result<Self> {
        let texts = m.strings("tokenizer.ggml.tokens")?;
        let texts = texts.ok_or_else(|| bad("tokenizer.ggml.tokens is missing"))?;
        let kinds = m.integers("tokenizer.ggml.token_type")?;
        let kinds = kinds.map_or_else(|| vec![NORMAL; texts.len()], <[i32]>::to_vec);
        if kinds.len() != texts.len() {
            let what = format!("{} types for {} tokens", kinds.len(), texts.len());
            return Err(bad(what));
        }
        Ok(Self { texts, kinds })
    }

    /// One score for each token.
    pub(super) fn scores<'m>(&self, m: &'m Metadata) -> Result<&'m [f32]> {
        let scores = m.floats("tokenizer.ggml.scores")?;
        let scores = scores.ok_or_else(|| bad("tokenizer.ggml.scores is missing"))?;
        if scores.len() != self.texts.len() {
            let what = format!("{} scores for {} tokens", scores.len(), self.texts.len());
            return Err(bad(what));
        }
        Ok(scores)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &'a str, i32)> {
        let texts = self.texts.iter().zip(&self.kinds).enumerate();
        texts.map(|(id, (text, kind))| (id, text.as_str(), *kind))
    }

    /// The id that a key names; `tokenizer` when there is no such token.
    pub(super) fn id(&self, m: &Metadata, key: &str) -> Result<Option<usize>> {
        let Some(id) = m.index(&format!("tokenizer.ggml.{key}"))? else {
            return Ok(None);
        };
        let found = usize::try_from(id).ok().filter(|id| *id < self.texts.len());
        // Some tools write the largest number for none.
        if found.is_none() && id != u64::from(u32::MAX) {
            let what = format!("{key} is {id}, there are {} tokens", self.texts.len());
            return Err(bad(what));
        }
        Ok(found)
    }

    /// `model.vocab`: tokens that merges may give. `all` takes those that text never becomes, too.
    pub(super) fn vocabulary(&self, all: bool) -> Json {
        let mut out = Map::new();
        for (id, text, kind) in self.iter() {
            let filler = kind == UNUSED && text == format!("[PAD{id}]");
            if !filler && (all || !is_added(kind)) {
                out.entry(text).or_insert(json!(id));
            }
        }
        Json::Object(out)
    }

    fn added(&self) -> Json {
        let added = self.iter().filter(|(_, _, kind)| is_added(*kind));
        let token = |(id, text, kind)| {
            json!({"id": id, "content": text, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": kind != USER_DEFINED})
        };
        added.map(token).collect()
    }
}

pub(super) fn is_added(kind: i32) -> bool {
    matches!(kind, CONTROL | USER_DEFINED | UNKNOWN)
}

/// How a file's tokenizer works.
pub(super) struct Parts {
    pub(super) normalizer: Json,
    pub(super) pre_tokenizer: Json,
    pub(super) decoder: Json,
    pub(super) model: Json,
    /// The tokens before and behind a text.
    pub(super) around: [Option<usize>; 2],
    /// What stands behind the first text of a pair: so many more ends, and the second of a kind.
    pub(super) pair: Pair,
}

/// How two texts follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pair {
    /// One behind the other, the end only behind the first.
    Plain,
    /// Each with its end, the second of a kind of its own.
    Kinds,
    /// Each with its end, and where texts begin with a token another end between them.
    Ends,
}

/// tokenizer.json and tokenizer_config.json; none when the file has no tokenizer.
///
/// `tokenizer` for keys that do not fit each other, `unsupported` for other kinds.
pub(super) fn tokenizer(m: &Metadata) -> Result<Option<(Json, Json)>> {
    let parts = match m.string("tokenizer.ggml.model")? {
        None | Some("none" | "no_vocab") => return Ok(None),
        Some("gpt2") => merged(m)?,
        Some("llama") => scored(m)?,
        Some("bert") => words(m)?,
        Some("t5") => unigram(m)?,
        Some(other) => {
            let shown: String = other.chars().take(60).collect();
            let what = format!("tokenizers of kind {shown:?} are not read from GGUF");
            let error = Error::new(Code::Unsupported, what).at("the metadata");
            return Err(error.remedy("known: gpt2, llama, bert, t5"));
        }
    };
    let tokens = Tokens::read(m)?;
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": tokens.added(),
        "normalizer": parts.normalizer,
        "pre_tokenizer": parts.pre_tokenizer,
        "post_processor": post_processor(&tokens, parts.around, parts.pair),
        "decoder": parts.decoder,
        "model": parts.model,
    });
    let flags = parts.around.map(|id| id.is_some());
    Ok(Some((json, settings(m, &tokens, flags)?)))
}

/// The tokens around a text by the keys of a file, and whether there are any when no key says.
pub(super) fn around(m: &Metadata, absent: [bool; 2]) -> Result<[Option<usize>; 2]> {
    let tokens = Tokens::read(m)?;
    let one = |word: &str, absent: bool| -> Result<Option<usize>> {
        let add = m.bool(&format!("tokenizer.ggml.add_{word}_token"))?;
        let id = tokens.id(m, &format!("{word}_token_id"))?;
        Ok(id.filter(|_| add.unwrap_or(absent)))
    };
    Ok([one("bos", absent[0])?, one("eos", absent[1])?])
}

fn post_processor(tokens: &Tokens<'_>, around: [Option<usize>; 2], pair: Pair) -> Json {
    let mut special = Map::new();
    let [first, last] = around.map(|id| id.map(|id| tokens.texts[id].as_str()));
    for (id, text) in around.iter().flatten().zip([first, last].iter().flatten()) {
        let token = json!({"id": text, "ids": [id], "tokens": [text]});
        special.insert((*text).into(), token);
    }
    let token = |text: &str, kind: u8| json!({"SpecialToken": {"id": text, "type_id": kind}});
    let text = |id: &str, kind: u8| json!({"Sequence": {"id": id, "type_id": kind}});
    let mut single: Vec<_> = first.map(|t| token(t, 0)).into_iter().collect();
    single.push(text("A", 0));
    single.extend(last.map(|t| token(t, 0)));
    let mut both = single.clone();
    let kind = u8::from(pair != Pair::Ends);
    if pair == Pair::Ends && first.is_some() {
        both.extend(last.map(|t| token(t, kind)));
    }
    both.push(text("B", kind));
    if pair != Pair::Plain {
        both.extend(last.map(|t| token(t, kind)));
    }
    json!({"type": "TemplateProcessing", "single": single, "pair": both,
        "special_tokens": special})
}

fn settings(m: &Metadata, tokens: &Tokens<'_>, [begins, ends]: [bool; 2]) -> Result<Json> {
    let mut out = Map::new();
    for (key, word) in SPECIAL {
        if let Some(id) = tokens.id(m, key)? {
            out.insert(format!("{word}_token"), json!(tokens.texts[id]));
        }
    }
    out.insert("add_bos_token".into(), json!(begins));
    out.insert("add_eos_token".into(), json!(ends));
    out.insert("clean_up_tokenization_spaces".into(), json!(false));
    out.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
    if let Some(template) = m.string("tokenizer.chat_template")? {
        out.insert("chat_template".into(), json!(template));
    }
    Ok(Json::Object(out))
}

/// Where answers end and how texts begin, as generation_config.json.
pub(super) fn generation(m: &Metadata) -> Result<Json> {
    let mut out = Map::new();
    if m.get("tokenizer.ggml.tokens").is_none() {
        return Ok(Json::Object(out));
    }
    let tokens = Tokens::read(m)?;
    let mut ends = Vec::new();
    for key in ["eos_token_id", "eot_token_id", "eom_token_id"] {
        ends.extend(tokens.id(m, key)?);
    }
    let controls = tokens.iter().filter(|(_, _, kind)| *kind == CONTROL);
    ends.extend(
        controls
            .filter(|(_, text, _)| ENDS.contains(text))
            .map(|(id, ..)| id),
    );
    let mut seen = std::collections::BTreeSet::new();
    ends.retain(|id| seen.insert(*id));
    if !ends.is_empty() {
        out.insert("eos_token_id".into(), json!(ends));
    }
    if let Some(id) = tokens.id(m, "bos_token_id")? {
        out.insert("bos_token_id".into(), json!(id));
    }
    Ok(Json::Object(out))
}
