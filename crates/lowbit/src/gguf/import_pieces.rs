//! tokenizer.json of WordPiece and Unigram from the keys of a file: `vocabulary_pieces.rs` backwards.

use super::import_tokenizer::{Pair, Parts, Tokens, around, bad, is_added};
use super::value::{Array, Metadata, Value};
use super::vocabulary::{UNKNOWN, UNUSED};
use super::vocabulary_pieces::{FIRST, INSIDE};
use crate::error::{Code, Error, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json, json};

/// Longest word that is looked up; longer ones are unknown.
const LONGEST_WORD: usize = 100;

/// WordPiece. Ids that files leave out are those of the first BERT, as loaders take them.
pub(super) fn words(m: &Metadata) -> Result<Parts> {
    let tokens = Tokens::read(m)?;
    let id = |key: &str, absent: usize| -> Result<usize> {
        let id = tokens.id(m, key)?.unwrap_or(absent);
        if id < tokens.texts.len() {
            return Ok(id);
        }
        Err(bad(format!("tokenizer.ggml.{key} is missing")))
    };
    let unknown = id("unknown_token_id", 100)?;
    let end = |flag: &str, key: &str, absent: usize| -> Result<Option<usize>> {
        let there = m.bool(&format!("tokenizer.ggml.add_{flag}_token"))?;
        (there != Some(false)).then(|| id(key, absent)).transpose()
    };
    let around = [
        end("bos", "bos_token_id", 101)?,
        end("sep", "seperator_token_id", 102)?,
    ];
    let mut vocab = Map::new();
    for (id, text, kind) in tokens.iter() {
        let text = match text.strip_prefix(FIRST) {
            _ if is_added(kind) || kind == UNUSED => text.to_owned(),
            Some(first) => first.to_owned(),
            None => format!("{INSIDE}{text}"),
        };
        if kind != UNUSED || text != format!("[PAD{id}]") {
            vocab.entry(text).or_insert(json!(id));
        }
    }
    let flag = |key: &str| m.bool(&format!("tokenizer.ggml.normalizer.{key}"));
    Ok(Parts {
        normalizer: json!({"type": "BertNormalizer", "clean_text": true,
            "handle_chinese_chars": true, "strip_accents": flag("strip_accents")?,
            "lowercase": flag("lowercase")?.unwrap_or(true)}),
        pre_tokenizer: json!({"type": "BertPreTokenizer"}),
        decoder: json!({"type": "WordPiece", "prefix": INSIDE, "cleanup": true}),
        model: json!({"type": "WordPiece", "unk_token": tokens.texts[unknown],
            "continuing_subword_prefix": INSIDE, "max_input_chars_per_word": LONGEST_WORD,
            "vocab": vocab}),
        around,
        pair: Pair::Kinds,
    })
}

/// Unigram: pieces with the logarithms of their probabilities.
pub(super) fn unigram(m: &Metadata) -> Result<Parts> {
    let tokens = Tokens::read(m)?;
    let scores = tokens.scores(m)?;
    // The shortest text of a float of 32 bits.
    let short = |score: f32| score.to_string().parse().unwrap_or(f64::from(score));
    let piece = |(text, score): (&String, &f32)| json!([text, short(*score)]);
    let vocab: Vec<_> = tokens.texts.iter().zip(scores).map(piece).collect();
    let unknown = tokens.id(m, "unknown_token_id")?;
    let unknown = unknown.or_else(|| tokens.kinds.iter().position(|k| *k == UNKNOWN));
    let prefix = m.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let scheme = if prefix { "always" } else { "never" };
    let metaspace = json!({"type": "Metaspace", "replacement": FIRST, "prepend_scheme": scheme,
        "add_prefix_space": prefix, "split": true});
    let single = m.bool("tokenizer.ggml.remove_extra_whitespaces")?;
    let pre_tokenizer = if single.unwrap_or(false) {
        json!({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]})
    } else {
        metaspace.clone()
    };
    let normalizer = match charsmap(m)? {
        Some(map) => json!({"type": "Precompiled", "precompiled_charsmap": map}),
        None => Json::Null,
    };
    Ok(Parts {
        normalizer,
        pre_tokenizer,
        decoder: metaspace,
        model: json!({"type": "Unigram", "unk_id": unknown, "vocab": vocab,
            "byte_fallback": false}),
        around: around(m, [false, true])?,
        pair: Pair::Ends,
    })
}

/// What letters become before pieces are looked for, in base64.
fn charsmap(m: &Metadata) -> Result<Option<String>> {
    let key = "tokenizer.ggml.precompiled_charsmap";
    let bytes = match m.get(key) {
        None => return Ok(None),
        Some(Value::Array(Array::U8(bytes))) => bytes.clone(),
        Some(Value::Array(Array::I8(bytes))) => bytes.iter().map(|b| b.cast_unsigned()).collect(),
        Some(_) => {
            let what = format!("{key} is no array of bytes");
            return Err(Error::new(Code::Metadata, what));
        }
    };
    Ok((!bytes.is_empty()).then(|| STANDARD.encode(bytes)))
}
