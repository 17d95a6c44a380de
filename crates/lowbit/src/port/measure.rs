//! Logits and scores of whole windows, a step at a time.

use crate::error::{Code, Error, Result};
use crate::evaluate::{self, Scores};
use crate::session::{Cache, Engine, Output, Want};
use serde_json::json;

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
        all.extend_from_slice(&rows(engine, &mut cache, piece).await?);
    }
    Ok(all)
}

/// Scores a window under a model, and against a reference model; full logits never leave.
pub(super) async fn score(
    engine: &Engine,
    reference: Option<&Engine>,
    tokens: &[u32],
) -> Result<Scored> {
    let vocabulary = engine.config().vocabulary;
    if let Some(r) = reference.filter(|r| r.config().vocabulary != vocabulary) {
        let what = format!("vocabularies of {vocabulary} and {}", r.config().vocabulary);
        return Err(Error::new(Code::Option, what).remedy("compare models of one tokenizer"));
    }
    let mut model = Latest::new(engine, tokens.len())?;
    let mut other = reference
        .map(|r| Latest::new(r, tokens.len()))
        .transpose()?;
    let mut sums = Scores {
        reference_nll: reference.map(|_| 0.0),
        same_top: reference.map(|_| 0),
        ..Scores::default()
    };
    let mut done = 0;
    for piece in tokens.chunks(engine.step_tokens()) {
        // The row before the piece predicts its first token.
        let seen = &tokens[done.max(1) - 1..done + piece.len()];
        model.extend(piece).await?;
        if let Some(other) = &mut other {
            other.extend(piece).await?;
        }
        let rows = other.as_ref().map(|o| &o.rows[..]);
        add(
            &mut sums,
            evaluate::score_window(&model.rows, rows, seen, vocabulary)?,
        );
        done += piece.len();
    }
    let json = json!({
        "positions": sums.positions,
        "nll": sums.nll,
        "referenceNll": sums.reference_nll,
        "sameTop": sums.same_top,
    });
    Ok(Scored {
        sums: json.to_string(),
        kl: sums.kl,
    })
}

fn add(sums: &mut Scores, part: Scores) {
    sums.positions += part.positions;
    sums.nll += part.nll;
    if let (Some(sum), Some(nll)) = (&mut sums.reference_nll, part.reference_nll) {
        *sum += nll;
    }
    if let (Some(sum), Some(same)) = (&mut sums.same_top, part.same_top) {
        *sum += same;
    }
    sums.kl.extend(part.kl);
}

/// Logits of the latest piece of a window, and of the token before it.
struct Latest<'a> {
    engine: &'a Engine,
    cache: Cache,
    rows: Vec<f32>,
}

impl<'a> Latest<'a> {
    fn new(engine: &'a Engine, tokens: usize) -> Result<Self> {
        Ok(Self {
            engine,
            cache: engine.new_cache(tokens)?,
            rows: Vec::new(),
        })
    }

    async fn extend(&mut self, piece: &[u32]) -> Result<()> {
        let kept = self.engine.config().vocabulary.min(self.rows.len());
        self.rows.drain(..self.rows.len() - kept);
        let new = rows(self.engine, &mut self.cache, piece).await?;
        self.rows.extend_from_slice(&new);
        Ok(())
    }
}

/// `[piece, vocabulary]`: one step of a window.
async fn rows(engine: &Engine, cache: &mut Cache, piece: &[u32]) -> Result<Vec<f32>> {
    match engine.forward(cache, piece, Want::All).await? {
        Output::Logits(rows) => Ok(rows),
        Output::Nothing | Output::Top(_) => {
            Err(Error::new(Code::Internal, "a pass gave no logits"))
        }
    }
}
