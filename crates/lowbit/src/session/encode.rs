//! Texts in, vectors or scores of labels out.
//!
//! An encoder takes a batch in one pass, its texts one after another without padding. A decoder
//! takes them one by one, each behind its own cache.

use super::Engine;
use super::pool::{Pool, pooled};
use crate::error::{Code, Error, Result};
use crate::model::encoder::{Text, classify};
use crate::model::forward::{self, Scratch};

/// What is wanted of texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal<'a> {
    /// The states of all tokens behind the last block and norm, `[tokens, hidden]`.
    States,
    /// One vector per text, `[texts, pools · hidden]`.
    Vectors {
        /// Vectors that lie side by side; at least one.
        pools: &'a [Pool],
        /// Divide each vector by its length.
        normalize: bool,
    },
    /// Scores before softmax or sigmoid, `[texts, labels]`.
    Labels,
}

impl Engine {
    /// Runs `texts`, whose `tokens` lie one after another.
    ///
    /// `unsupported` for labels of a model that has none and for blocks on a GPU, `context` for a
    /// text that is too long, `option` for one without tokens or an id outside the vocabulary.
    pub fn encode(&self, tokens: &[u32], texts: &[Text], goal: Goal<'_>) -> Result<Vec<f32>> {
        self.check_texts(tokens, texts, goal)?;
        let mut scratch = Scratch::new(self.config());
        let mut hidden = if self.config().encoder.is_some() {
            self.batch(&mut scratch, tokens, texts)?
        } else {
            self.one_by_one(tokens, texts)?
        };
        forward::final_norm(&self.cpu, &self.model, &mut hidden);
        let width = self.config().hidden;
        match (goal, &self.model.tail) {
            (Goal::States, _) => Ok(hidden),
            (Goal::Vectors { pools, normalize }, _) => {
                Ok(pooled(&hidden, width, texts, (pools, normalize)))
            }
            (Goal::Labels, Some(tail)) => {
                // An encoder's first token stands for its text, a decoder has seen it at the last.
                let first = self.config().encoder.is_some();
                let pool = if first { Pool::Cls } else { Pool::Last };
                let mut states = pooled(&hidden, width, texts, (&[pool], false));
                scratch.texts = vec![Text::single(1); texts.len()];
                classify(&self.cpu, &mut scratch, tail, &mut states)
            }
            (Goal::Labels, None) => Err(no_labels()),
        }
    }

    /// All texts in one pass.
    fn batch(&self, scratch: &mut Scratch, tokens: &[u32], texts: &[Text]) -> Result<Vec<f32>> {
        let mut hidden = forward::embed(&self.model, tokens)?;
        scratch.texts = texts.to_vec();
        for block in &self.model.blocks {
            let mut cache = forward::LayerCache::default();
            forward::run_block(&self.cpu, scratch, block, &mut cache, &mut hidden, None)?;
        }
        Ok(hidden)
    }

    /// A decoder's states, text by text.
    fn one_by_one(&self, tokens: &[u32], texts: &[Text]) -> Result<Vec<f32>> {
        let mut hidden = Vec::with_capacity(tokens.len() * self.config().hidden);
        let mut rest = tokens;
        for text in texts {
            let (own, behind) = rest.split_at(text.length);
            let mut cache = self.new_cache(own.len())?;
            for piece in own.chunks(self.step_tokens()) {
                hidden.extend(self.blocks(&mut cache, piece)?);
            }
            rest = behind;
        }
        Ok(hidden)
    }

    fn check_texts(&self, tokens: &[u32], texts: &[Text], goal: Goal<'_>) -> Result<()> {
        if self.gpu.is_some() {
            let what = "vectors and labels are computed on the CPU only";
            return Err(Error::new(Code::Unsupported, what).remedy("load with device \"cpu\""));
        }
        if goal == Goal::Labels && self.model.tail.is_none() {
            return Err(no_labels());
        }
        let context = self.config().context;
        if let Some(text) = texts.iter().find(|t| t.length > context) {
            let what = format!("{} tokens do not fit into {context}", text.length);
            return Err(Error::new(Code::Context, what).remedy("shorten the text"));
        }
        let lengths = texts.iter().map(|t| t.length);
        if lengths.clone().any(|n| n == 0) || lengths.sum::<usize>() != tokens.len() {
            let what = format!("{} texts of {} tokens", texts.len(), tokens.len());
            let remedy = "each text has a token at least, and their lengths add up";
            return Err(Error::new(Code::Option, what).remedy(remedy));
        }
        Ok(())
    }
}

fn no_labels() -> Error {
    let remedy = "its class in config.json would end in ForSequenceClassification";
    Error::new(Code::Unsupported, "the model has no classification head").remedy(remedy)
}
