//! Vocabularies by kind, and those that cannot be written.

use super::export_tests::{files, tokenizer};
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
            json!({"type": "WordPiece", "vocab": {}}),
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
        ("added_tokens", json!([{"id": 1}]), Code::Tokenizer),
    ] {
        let mut t = tokenizer();
        t[part] = value;
        assert_eq!(keys(&t, None, 6).unwrap_err().code, code);
    }
}
