//! One generation: its tokens, its cache, its sampler.

use super::{Cache, Engine, Sampler, Sampling, Want};
use crate::error::{Code, Error, Result};

/// What one step of a sequence did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Some of the pushed tokens entered the cache.
    Prefill {
        /// Pushed tokens that have been run.
        done: usize,
        /// Tokens pushed since the last token was chosen.
        total: usize,
    },
    /// The next token; it belongs to the sequence and needs no push.
    Token(u32),
}

/// A sequence on a model; several may take turns on one engine.
#[derive(Debug)]
pub struct Sequence {
    cache: Cache,
    sampler: Sampler,
    pending: Vec<u32>,
    prefilled: usize,
}

impl Sequence {
    /// An empty sequence of at most `capacity` tokens, limited by the model's context.
    pub fn new(engine: &Engine, sampling: Sampling, capacity: usize) -> Result<Self> {
        Ok(Self {
            cache: engine.new_cache(capacity)?,
            sampler: Sampler::new(sampling)?,
            pending: Vec::new(),
            prefilled: 0,
        })
    }

    /// Tokens of the sequence, run or waiting.
    pub fn len(&self) -> usize {
        self.cache.len() + self.pending.len()
    }

    /// Whether nothing was pushed yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends tokens for the next steps; `context` when they would not fit.
    pub fn push(&mut self, tokens: &[u32]) -> Result<()> {
        let (wanted, most) = (
            self.len().saturating_add(tokens.len()),
            self.cache.capacity(),
        );
        if wanted > most {
            let what = format!("{wanted} tokens are more than the context of {most}");
            return Err(Error::new(Code::Context, what).remedy("shorten the prompt"));
        }
        self.pending.extend_from_slice(tokens);
        self.sampler.observe(tokens);
        Ok(())
    }

    /// Runs a piece of what was pushed, or the last of it and chooses the next token.
    pub async fn step(&mut self, engine: &Engine) -> Result<Step> {
        let piece = engine.step_tokens().min(self.pending.len());
        let last = piece == self.pending.len();
        let want = if last {
            self.sampler.want()
        } else {
            Want::Nothing
        };
        let tokens = &self.pending[..piece];
        let output = engine.forward(&mut self.cache, tokens, want).await?;
        if last {
            let token = self.sampler.choose(output)?;
            self.sampler.observe(&[token]);
            self.pending = vec![token];
            self.prefilled = 0;
            return Ok(Step::Token(token));
        }
        self.pending.drain(..piece);
        self.prefilled += piece;
        Ok(Step::Prefill {
            done: self.prefilled,
            total: self.prefilled + self.pending.len(),
        })
    }
}
