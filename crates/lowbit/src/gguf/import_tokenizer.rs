//! tokenizer.json, tokenizer_config.json and generation_config.json from the keys of a file.
//!
//! Files keep either merges over letters that stand for bytes, or pieces with scores. The second
//! kind becomes merges as well: two neighbours are joined when the whole is a piece, best score
//! first, which is what the merges of every split of every piece in the order of scores do.

use super::import_splits::split;
use super::special::SPECIAL;
use super::value::Metadata;
use super::vocabulary::{CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED};
use crate::error::{Code, Error, Result};
use serde_json::{Map, Value as Json, json};
use std::collections::HashMap;

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

fn bad(what: impl Into<String>) -> Error {
    Error::new(Code::Tokenizer, what).at("the metadata")
}

/// The tokens of a file.
struct Tokens<'a> {
    texts: &'a [String],
    kinds: Vec<i32>,
}

impl<'a> Tokens<'a> {
    fn read(m: &'a Metadata) -> Result<Self> {
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

    fn iter(&self) -> impl Iterator<Item = (usize, &'a str, i32)> {
        let texts = self.texts.iter().zip(&self.kinds).enumerate();
        texts.map(|(id, (text, kind))| (id, text.as_str(), *kind))
    }

    /// The id that a key names; `tokenizer` when there is no such token.
    fn id(&self, m: &Metadata, key: &str) -> Result<Option<usize>> {
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
    fn vocabulary(&self, all: bool) -> Json {
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

fn is_added(kind: i32) -> bool {
    matches!(kind, CONTROL | USER_DEFINED | UNKNOWN)
}

/// How a file's tokenizer works.
struct Parts {
    normalizer: Json,
    pre_tokenizer: Json,
    decoder: Json,
    model: Json,
    begins: bool,
}

/// tokenizer.json and tokenizer_config.json; none when the file has no tokenizer.
///
/// `tokenizer` for keys that do not fit each other, `unsupported` for other kinds.
pub(super) fn tokenizer(m: &Metadata) -> Result<Option<(Json, Json)>> {
    let parts = match m.string("tokenizer.ggml.model")? {
        None | Some("none" | "no_vocab") => return Ok(None),
        Some("gpt2") => merged(m)?,
        Some("llama") => scored(m)?,
        Some(other) => {
            let shown: String = other.chars().take(60).collect();
            let what = format!("tokenizers of kind {shown:?} are not read from GGUF");
            let error = Error::new(Code::Unsupported, what).at("the metadata");
            return Err(error.remedy("known: gpt2, llama"));
        }
    };
    let tokens = Tokens::read(m)?;
    let mut around = Vec::new();
    for (word, absent) in [("bos", parts.begins), ("eos", false)] {
        let add = m.bool(&format!("tokenizer.ggml.add_{word}_token"))?;
        let id = tokens.id(m, &format!("{word}_token_id"))?;
        around.push(id.filter(|_| add.unwrap_or(absent)));
    }
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": tokens.added(),
        "normalizer": parts.normalizer,
        "pre_tokenizer": parts.pre_tokenizer,
        "post_processor": post_processor(&tokens, around[0], around[1]),
        "decoder": parts.decoder,
        "model": parts.model,
    });
    let flags = [around[0].is_some(), around[1].is_some()];
    Ok(Some((json, settings(m, &tokens, flags)?)))
}

fn post_processor(tokens: &Tokens<'_>, first: Option<usize>, last: Option<usize>) -> Json {
    let mut single = vec![json!({"Sequence": {"id": "A", "type_id": 0}})];
    let mut special = Map::new();
    for (id, front) in [(first, true), (last, false)] {
        let Some(id) = id else { continue };
        let text = &tokens.texts[id];
        let step = json!({"SpecialToken": {"id": text, "type_id": 0}});
        single.insert(if front { 0 } else { single.len() }, step);
        let token = json!({"id": text, "ids": [id], "tokens": [text]});
        special.insert(text.clone(), token);
    }
    let second = json!({"Sequence": {"id": "B", "type_id": 1}});
    let pair: Vec<_> = single.iter().cloned().chain([second]).collect();
    json!({"type": "TemplateProcessing", "single": single, "pair": pair,
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

/// Merges over letters that stand for bytes.
fn merged(m: &Metadata) -> Result<Parts> {
    let tokens = Tokens::read(m)?;
    let merges = m.strings("tokenizer.ggml.merges")?;
    let merges = merges.ok_or_else(|| bad("tokenizer.ggml.merges is missing"))?;
    let pair = |merge: &String| {
        // A part may be a space, never the empty text.
        let at = merge.char_indices().skip(1).find(|(_, c)| *c == ' ');
        let at = at.ok_or_else(|| bad(format!("merge {merge:.60?} is no pair")))?;
        Ok(json!([&merge[..at.0], &merge[at.0 + 1..]]))
    };
    let split = split(m.string("tokenizer.ggml.pre")?.unwrap_or("gpt-2"))?;
    let merges = merges.iter().map(pair).collect::<Result<Vec<_>>>()?;
    Ok(Parts {
        normalizer: split.normalizer,
        pre_tokenizer: split.pre_tokenizer,
        decoder: json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
            "use_regex": true}),
        model: json!({"type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
            "byte_fallback": false, "ignore_merges": split.whole_words,
            "vocab": tokens.vocabulary(false), "merges": merges}),
        begins: split.begins,
    })
}

/// Pieces with scores.
fn scored(m: &Metadata) -> Result<Parts> {
    let tokens = Tokens::read(m)?;
    let scores = m.floats("tokenizer.ggml.scores")?;
    let scores = scores.ok_or_else(|| bad("tokenizer.ggml.scores is missing"))?;
    if scores.len() != tokens.texts.len() {
        let what = format!("{} scores for {} tokens", scores.len(), tokens.texts.len());
        return Err(bad(what));
    }
    let space = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let back = json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "});
    let (bytes, fuse) = (json!({"type": "ByteFallback"}), json!({"type": "Fuse"}));
    let prefix = m.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let (normalizer, decoder) = if prefix {
        let strip = json!({"type": "Strip", "content": " ", "start": 1, "stop": 0});
        (
            json!({"type": "Sequence",
                "normalizers": [{"type": "Prepend", "prepend": "▁"}, space]}),
            json!({"type": "Sequence", "decoders": [back, bytes, fuse, strip]}),
        )
    } else {
        let decoder = json!({"type": "Sequence", "decoders": [back, bytes, fuse]});
        (space, decoder)
    };
    let unknown = tokens.id(m, "unknown_token_id")?;
    let unknown = unknown.or_else(|| tokens.kinds.iter().position(|k| *k == UNKNOWN));
    Ok(Parts {
        normalizer,
        pre_tokenizer: Json::Null,
        decoder,
        model: json!({"type": "BPE", "dropout": null,
            "unk_token": unknown.map(|id| tokens.texts[id].as_str()),
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
            "byte_fallback": true, "ignore_merges": false,
            "vocab": tokens.vocabulary(true), "merges": merges(&tokens, scores)}),
        begins: true,
    })
}

/// Every way to put a piece together from two, the best pieces first; of one piece's, those of
/// early pieces first.
fn merges(tokens: &Tokens<'_>, scores: &[f32]) -> Vec<Json> {
    let normal = || tokens.iter().filter(|(_, _, kind)| *kind == NORMAL);
    let ids: HashMap<&str, usize> = normal().map(|(id, text, _)| (text, id)).collect();
    let mut found = Vec::new();
    for (whole, text, _) in normal() {
        for (at, _) in text.char_indices().skip(1) {
            let (a, b) = text.split_at(at);
            if let (Some(left), Some(right)) = (ids.get(a), ids.get(b)) {
                found.push((whole, *left, *right));
            }
        }
    }
    found.sort_by(|a, b| {
        let order = scores[b.0].total_cmp(&scores[a.0]);
        order.then_with(|| (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2)))
    });
    let text = |id: usize| tokens.texts[id].as_str();
    found
        .iter()
        .map(|(_, a, b)| json!([text(*a), text(*b)]))
        .collect()
}
