//! Texts to vectors or scores of labels.

use super::parse::parse;
use crate::error::{Code, Error, Result, nearest};
use crate::model::encoder::Text;
use crate::session::{Engine, Goal, Pool};
use serde::Deserialize;

/// What is wanted of a batch of texts.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EncodeRequest {
    /// `states`, `vectors` or `labels`.
    want: String,
    /// Tokens of each text.
    lengths: Vec<usize>,
    /// Tokens before the second text of each pair; its length for a text alone.
    #[serde(default)]
    second: Option<Vec<usize>>,
    /// How vectors are pooled; `mean` when left out.
    #[serde(default)]
    pooling: Option<Vec<String>>,
    /// Divide each vector by its length.
    #[serde(default)]
    normalize: bool,
}

const WANTS: &[&str] = &["states", "vectors", "labels"];

/// Runs a batch; `tokens` are those of its texts one after another.
pub(super) fn encode(engine: &Engine, request: &str, tokens: &[u32]) -> Result<Vec<f32>> {
    let r: EncodeRequest = parse("encode", request)?;
    let names = r.pooling.unwrap_or_else(|| vec!["mean".into()]);
    let pools: Vec<_> = names
        .iter()
        .map(|n| Pool::parse(n))
        .collect::<Result<_>>()?;
    if pools.is_empty() {
        return Err(Error::new(Code::Option, "pooling is empty").remedy("name one at least"));
    }
    let second = r.second.as_ref().unwrap_or(&r.lengths);
    if second.len() != r.lengths.len() {
        let what = format!("{} of {} texts in second", second.len(), r.lengths.len());
        return Err(Error::new(Code::Option, what));
    }
    let texts = r.lengths.iter().zip(second);
    let texts: Vec<_> = texts
        .map(|(length, second)| Text {
            length: *length,
            second: *second,
        })
        .collect();
    let goal = match r.want.as_str() {
        "states" => Goal::States,
        "labels" => Goal::Labels,
        "vectors" => Goal::Vectors {
            pools: &pools,
            normalize: r.normalize,
        },
        other => {
            let near = nearest(other, WANTS.iter().copied()).unwrap_or_default();
            let what = format!("unknown want {other:?}");
            return Err(Error::new(Code::Option, what).remedy(format!("did you mean {near:?}?")));
        }
    };
    engine.encode(tokens, &texts, goal)
}
