//! Sessions: a sequence and the engine that it runs on.

use super::parse::parse;
use crate::error::Result;
use crate::session::{Engine, Sampling, Sequence, Step};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// How to sample; what is left out is greedy and unlimited.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SessionRequest {
    temperature: Option<f64>,
    top_k: Option<usize>,
    top_p: Option<f64>,
    min_p: Option<f64>,
    repetition_penalty: Option<f32>,
    seed: Option<u64>,
    context: Option<usize>,
}

/// One generation on one model.
#[derive(Debug)]
pub(super) struct Session {
    engine: Arc<Engine>,
    sequence: Sequence,
}

impl Session {
    pub(super) fn open(engine: Arc<Engine>, request: &str) -> Result<Self> {
        let r: SessionRequest = parse("session", request)?;
        let plain = Sampling::default();
        let sampling = Sampling {
            temperature: r.temperature.unwrap_or(plain.temperature),
            top_k: r.top_k.unwrap_or(plain.top_k),
            top_p: r.top_p.unwrap_or(plain.top_p),
            min_p: r.min_p.unwrap_or(plain.min_p),
            repetition_penalty: r.repetition_penalty.unwrap_or(plain.repetition_penalty),
            seed: r.seed.unwrap_or(plain.seed),
        };
        let capacity = r.context.unwrap_or(usize::MAX);
        let sequence = Sequence::new(&engine, sampling, capacity)?;
        Ok(Self { engine, sequence })
    }

    pub(super) fn push(&mut self, tokens: &[u32]) -> Result<()> {
        self.sequence.push(tokens)
    }

    pub(super) async fn next(&mut self) -> Result<String> {
        let step = self.sequence.step(&self.engine).await?;
        let json = match step {
            Step::Prefill { done, total } => json!({"prefill": {"done": done, "total": total}}),
            Step::Token(id) => json!({ "token": id }),
        };
        Ok(json.to_string())
    }
}
