//! tokenizer.json of tokenizers that merge, from the keys of a file.
//!
//! Files keep either merges over letters that stand for bytes, or pieces with scores. The second
//! kind becomes merges as well: two neighbours are joined when the whole is a piece, best score
//! first, which is what the merges of every split of every piece in the order of scores do.

use super::import_splits::split;
use super::import_tokenizer::{Pair, Parts, Tokens, around, bad};
use super::value::Metadata;
use super::vocabulary::{NORMAL, UNKNOWN};
use crate::error::Result;
use serde_json::{Value as Json, json};
use std::collections::HashMap;

/// Merges over letters that stand for bytes.
pub(super) fn merged(m: &Metadata) -> Result<Parts> {
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
        around: around(m, [split.begins, false])?,
        pair: Pair::Plain,
    })
}

/// Pieces with scores.
pub(super) fn scored(m: &Metadata) -> Result<Parts> {
    let tokens = Tokens::read(m)?;
    let scores = tokens.scores(m)?;
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
        around: around(m, [true, false])?,
        pair: Pair::Plain,
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
