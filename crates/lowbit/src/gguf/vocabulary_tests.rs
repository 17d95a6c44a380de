//! Vocabularies by kind, and those that cannot be written.

use super::export_tests::{files, tokenizer};
use super::import_tokenizer::tokenizer as tokenizer_of;
use super::value::Metadata;
use super::vocabulary;
use crate::error::{Code, Result};
use serde_json::{Value, json};

fn keys(tokenizer: &Value, config: Option<&Value>, rows: usize) -> Result<Metadata> {
    let model = json!({"eos_token_id": [1, 2]});
    let mut m = Metadata::new();
    vocabulary::set(&mut m, &files(tokenizer, config, &model), rows)?;
    Ok(m)
}

#[test]
fn a_byte_level_vocabulary() {
    let config = json!({"bos_token": {"content": "<s>"}, "chat_template": [{"name": "default", "template": "T"}]});
    let m = keys(&tokenizer(), Some(&config), 6).unwrap();
    assert_eq!(m.string("tokenizer.ggml.model").unwrap(), Some("gpt2"));
    assert_eq!(m.string("tokenizer.ggml.pre").unwrap(), Some("gpt-2"));
    let texts = m.strings("tokenizer.ggml.tokens").unwrap().unwrap();
    assert_eq!(texts, ["a", "b", "ab", "<s>", "tool", "[PAD5]"]);
    assert_eq!(
        m.integers("tokenizer.ggml.token_type").unwrap().unwrap(),
        [1, 1, 1, 3, 4, 5]
    );
    assert_eq!(
        m.strings("tokenizer.ggml.merges").unwrap().unwrap(),
        ["a b"]
    );
    assert_eq!(m.index("tokenizer.ggml.bos_token_id").unwrap(), Some(3));
    assert_eq!(m.index("tokenizer.ggml.eos_token_id").unwrap(), Some(1));
    assert_eq!(m.bool("tokenizer.ggml.add_bos_token").unwrap(), Some(true));
    assert_eq!(m.bool("tokenizer.ggml.add_eos_token").unwrap(), Some(false));
    assert_eq!(m.string("tokenizer.chat_template").unwrap(), Some("T"));
    assert_eq!(
        keys(&tokenizer(), None, 4).unwrap_err().code,
        Code::Tokenizer
    );
}

#[test]
fn a_byte_fallback_vocabulary_has_scores_by_merge() {
    let mut t = tokenizer();
    t["model"] = json!({"type": "BPE", "byte_fallback": true, "merges": ["a b", "ab a"],
        "vocab": {"<unk>": 0, "<0x0A>": 1, "a": 2, "b": 5, "ab": 6, "aba": 7}});
    let m = keys(&t, None, 8).unwrap();
    assert_eq!(m.string("tokenizer.ggml.model").unwrap(), Some("llama"));
    let kinds = m.integers("tokenizer.ggml.token_type").unwrap().unwrap();
    assert_eq!(kinds, [2, 6, 1, 3, 4, 1, 1, 1]);
    let scores = m.floats("tokenizer.ggml.scores").unwrap().unwrap();
    assert!(scores[6] > scores[7] && scores[7] > scores[2], "{scores:?}");
}

#[test]
fn vocabularies_that_cannot_be_written() {
    let mut t = tokenizer();
    t["pre_tokenizer"] = json!({"type": "Split", "pattern": {"Regex": "x"}});
    let error = keys(&t, None, 6).unwrap_err();
    assert_eq!(
        (error.code, error.remedy.contains("--tokenizer-pre")),
        (Code::Unsupported, true)
    );
    for (part, value, code) in [
        (
            "model",
            json!({"type": "WordLevel", "vocab": {}}),
            Code::Unsupported,
        ),
        (
            "model",
            json!({"type": "BPE", "vocab": {"a": -1}, "merges": []}),
            Code::Tokenizer,
        ),
        (
            "model",
            json!({"type": "BPE", "vocab": {"a": 4_294_967_296u64}, "merges": []}),
            Code::Tokenizer,
        ),
        (
            "model",
            json!({"type": "BPE", "vocab": {"a": 0}, "merges": [["a"]]}),
            Code::Tokenizer,
        ),
        (
            "model",
            json!({"type": "Unigram", "vocab": [["a"]]}),
            Code::Tokenizer,
        ),
        ("added_tokens", json!([{"id": 1}]), Code::Tokenizer),
    ] {
        let mut t = tokenizer();
        t[part] = value;
        assert_eq!(keys(&t, None, 6).unwrap_err().code, code);
    }
}

#[test]
fn pieces_of_words_come_back() {
    let vocab =
        json!({"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "go": 4, "##ing": 5, "#": 6});
    let special = |id: usize, text: &str| json!({"id": id, "content": text, "special": true});
    let t = json!({
        "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]"), special(2, "[CLS]"), special(3, "[SEP]")],
        "normalizer": {"type": "BertNormalizer", "lowercase": false, "strip_accents": null},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": vocab},
    });
    let m = keys(&t, None, 8).unwrap();
    let texts = m.strings("tokenizer.ggml.tokens").unwrap().unwrap();
    assert_eq!(texts[3..], ["[SEP]", "▁go", "ing", "▁#", "[PAD7]"]);
    let id = |key: &str| m.index(&format!("tokenizer.ggml.{key}_token_id")).unwrap();
    assert_eq!(
        ["bos", "seperator", "unknown"].map(id),
        [Some(2), Some(3), Some(1)]
    );
    let (back, settings) = tokenizer_of(&m).unwrap().unwrap();
    assert_eq!(back["model"]["vocab"], vocab);
    assert_eq!(back["model"]["unk_token"], "[UNK]");
    assert_eq!(back["normalizer"]["lowercase"], false);
    let pair = back["post_processor"]["pair"].as_array().unwrap();
    assert_eq!(
        (pair.len(), &pair[4]["SpecialToken"]),
        (5, &json!({"id": "[SEP]", "type_id": 1}))
    );
    assert_eq!(settings["cls_token"], "[CLS]");
}

#[test]
fn pieces_with_probabilities_come_back() {
    let vocab = json!([
        ["<s>", 0.0],
        ["</s>", 0.0],
        ["<unk>", 0.0],
        ["▁", -2.5],
        ["ab", -3.125]
    ]);
    let special = |id: usize, text: &str| json!({"id": id, "content": text, "special": true});
    let t = json!({
        "added_tokens": [special(0, "<s>"), special(1, "</s>"), special(2, "<unk>")],
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAEC/w=="},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"},
            {"type": "Metaspace", "replacement": "▁", "add_prefix_space": true}]},
        "post_processor": {"type": "RobertaProcessing", "sep": ["</s>", 1], "cls": ["<s>", 0]},
        "model": {"type": "Unigram", "unk_id": 2, "vocab": vocab},
    });
    let named = json!({"bos_token": "<s>", "eos_token": "</s>"});
    let m = keys(&t, Some(&named), 5).unwrap();
    assert_eq!(m.string("tokenizer.ggml.model").unwrap(), Some("t5"));
    let kinds = m.integers("tokenizer.ggml.token_type").unwrap().unwrap();
    assert_eq!(kinds, [3, 3, 2, 1, 1]);
    let (back, _) = tokenizer_of(&m).unwrap().unwrap();
    assert_eq!(
        (&back["model"]["vocab"], &back["model"]["unk_id"]),
        (&vocab, &json!(2))
    );
    assert_eq!(back["normalizer"], t["normalizer"]);
    assert_eq!(
        back["pre_tokenizer"]["pretokenizers"][0]["type"],
        "WhitespaceSplit"
    );
    let single = back["post_processor"]["single"].as_array().unwrap();
    assert_eq!(single[2]["SpecialToken"]["id"], "</s>");
    assert_eq!(back["post_processor"]["pair"].as_array().unwrap().len(), 6);
}
