//! Pre-tokenizers by the names that files have for them.
//!
//! The expressions are those of `vocabulary_splits::SPLITS`; other names for what splits alike, and what
//! goes with a name beside the expression, are facts of llama.cpp's loader.

use super::vocabulary_splits::SPLITS;
use crate::error::{Code, Error, Result};
use serde_json::{Value as Json, json};

/// How a text is cut before bytes are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// By an expression of `SPLITS`, under its name there.
    By(&'static str),
    /// By the expression of GPT-2.
    Gpt2,
    /// By that expression, every digit alone.
    Digits,
}

/// A pre-tokenizer and what goes with it.
struct Pre {
    names: &'static [&'static str],
    cut: Cut,
    /// Words that are tokens are taken whole, whatever merges would make of them.
    whole_words: bool,
    /// A text begins with the first token unless the file says otherwise.
    begins: bool,
    /// Texts are composed first (Unicode's NFC), as the originals of these tokenizers do.
    composed: bool,
}

const PLAIN: Pre = Pre {
    names: &[],
    cut: Cut::Gpt2,
    whole_words: false,
    begins: false,
    composed: false,
};

const PRES: &[Pre] = &[
    Pre {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
        ],
        cut: Cut::By("llama-bpe"),
        whole_words: true,
        begins: true,
        ..PLAIN
    },
    Pre {
        names: &["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"],
        cut: Cut::By("llama-bpe"),
        ..PLAIN
    },
    Pre {
        names: &["qwen2", "deepseek-r1-qwen", "megrez"],
        cut: Cut::By("qwen2"),
        composed: true,
        ..PLAIN
    },
    Pre {
        names: &["stablelm2", "hunyuan"],
        cut: Cut::By("qwen2"),
        ..PLAIN
    },
    Pre {
        names: &["tekken"],
        cut: Cut::By("tekken"),
        whole_words: true,
        begins: true,
        ..PLAIN
    },
    Pre {
        names: &["gpt-4o", "llama4"],
        cut: Cut::By("gpt-4o"),
        ..PLAIN
    },
    Pre {
        names: &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
        ],
        ..PLAIN
    },
    Pre {
        names: &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
        ],
        cut: Cut::Digits,
        ..PLAIN
    },
];

/// What a name of a pre-tokenizer means in tokenizer.json.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) normalizer: Json,
    pub(super) pre_tokenizer: Json,
    pub(super) whole_words: bool,
    pub(super) begins: bool,
}

/// Looks a name up; `unsupported` with the known ones otherwise.
pub(super) fn split(name: &str) -> Result<Split> {
    let by = |pre: &&Pre| pre.names.contains(&name);
    // A name that is only in the table of expressions has nothing beside its expression.
    let own = || SPLITS.iter().find(|(_, known)| *known == name);
    let (pre, cut) = match (PRES.iter().find(by), own()) {
        (Some(pre), _) => (pre, pre.cut),
        (None, Some((_, name))) => (&PLAIN, Cut::By(name)),
        (None, None) => {
            let known: Vec<_> = PRES.iter().flat_map(|p| p.names).copied().collect();
            let shown: String = name.chars().take(60).collect();
            let what = format!("the pre-tokenizer {shown:?} is not known here");
            return Err(Error::new(Code::Unsupported, what)
                .at("the metadata")
                .remedy(format!("known: {}", known.join(", "))));
        }
    };
    let bytes = |own: bool| {
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false,
            "use_regex": own})
    };
    let sequence =
        |first: Json, own: bool| json!({"type": "Sequence", "pretokenizers": [first, bytes(own)]});
    Ok(Split {
        normalizer: if pre.composed {
            json!({"type": "NFC"})
        } else {
            Json::Null
        },
        pre_tokenizer: match cut {
            Cut::Gpt2 => bytes(true),
            Cut::Digits => sequence(json!({"type": "Digits", "individual_digits": true}), true),
            Cut::By(name) => {
                let of = SPLITS.iter().find(|(_, known)| *known == name);
                let expression = of.map_or("", |(expression, _)| expression);
                let pattern = json!({"Regex": expression});
                let step = json!({"type": "Split", "pattern": pattern, "behavior": "Isolated",
                    "invert": false});
                sequence(step, false)
            }
        },
        whole_words: pre.whole_words,
        begins: pre.begins,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expression_has_a_name_and_every_name_an_expression() {
        for (expression, name) in SPLITS {
            let found = split(name).unwrap().pre_tokenizer;
            assert_eq!(found["pretokenizers"][0]["pattern"]["Regex"], *expression);
        }
        for pre in PRES {
            if let Cut::By(name) = pre.cut {
                assert!(SPLITS.iter().any(|(_, known)| *known == name), "{name}");
            }
        }
        assert_eq!(split("gpt-3").unwrap_err().code, Code::Unsupported);
    }
}
