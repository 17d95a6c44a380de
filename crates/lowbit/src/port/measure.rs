//! Logits and scores of whole windows, a step at a time.

use crate::error::{Code, Error, Result};
use crate::session::{Engine, Output, Want};

/// Sums over one window, and the divergence of each position.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// JSON `{ positions, nll, referenceNll?, sameTop? }`.
    pub sums: String,
    /// KL(reference ‖ model) of each position in nats; empty without a reference.
    pub kl: Vec<f32>,
}

/// `[tokens, vocabulary]` of a sequence that starts with the first token.
pub(super) async fn logits(engine: &Engine, tokens: &[u32]) -> Result<Vec<f32>> {
    let mut cache = engine.new_cache(tokens.len())?;
    let floats = tokens.len().saturating_mul(engine.config().vocabulary);
    let mut all: Vec<f32> = Vec::new();
    all.try_reserve_exact(floats).map_err(|_| {
        let what = format!("no room for {floats} logits");
        Error::new(Code::OutOfMemory, what).remedy("ask for fewer tokens at once")
    })?;
    for piece in tokens.chunks(engine.step_tokens()) {
        match engine.forward(&mut cache, piece, Want::All).await? {
            Output::Logits(rows) => all.extend_from_slice(&rows),
            Output::Nothing | Output::Top(_) => {
                return Err(Error::new(Code::Internal, "a pass gave no logits"));
            }
        }
    }
    Ok(all)
}

/// Scores a window under a model, and against a reference model.
pub(super) async fn score(
    engine: &Engine,
    reference: Option<&Engine>,
    tokens: &[u32],
) -> Result<Scored> {
    let _ = (engine, reference, tokens);
    Err(Error::new(Code::Unsupported, "evaluate has not landed"))
}
