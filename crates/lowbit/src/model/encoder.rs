//! What only encoders do in a pass: learned positions, kinds of text, layer norms, attention that
//! looks both ways, and what follows the last block of a model that classifies.
//!
//! Texts lie one after another without padding, so that every product works on tokens that count;
//! `Scratch::texts` says where each ends. That gives what a batch with a padding mask gives.

use super::Block;
use super::forward::Pass;
use super::ops::{Part, Slot};
use super::rows::add;
use super::scratch::{Scratch, index};
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::kernels::attention::{Input, attention};
use crate::kernels::layer_norm::layer_norm;
use crate::kernels::matmul::Weight;

/// A text, or a pair of texts, inside a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text {
    /// Its tokens, at least 1.
    pub length: usize,
    /// Tokens before the second text of a pair; `length` where there is none.
    pub second: usize,
}

impl Text {
    /// A text alone.
    pub fn single(length: usize) -> Self {
        Self {
            length,
            second: length,
        }
    }
}

impl Pass<'_> {
    /// The texts of the pass; without any, all tokens are one.
    fn texts(&self) -> Vec<Text> {
        match self.scratch.texts.as_slice() {
            [] => vec![Text::single(self.tokens())],
            texts => texts.to_vec(),
        }
    }

    pub(super) fn layer_norm(&mut self, slot: Slot, weight: Part, bias: Part) {
        let (cpu, eps) = (self.cpu, self.scratch.eps);
        let (weight, bias) = (self.block.vector(weight), self.block.vector(bias));
        layer_norm(cpu, self.write(slot), weight, bias, eps);
    }

    /// `context` when a text is longer than the table.
    pub(super) fn add_positions(&mut self, table: Part, first: usize) -> Result<()> {
        let table = self.block.matrix(table).0;
        let (texts, width) = (self.texts(), self.scratch.width);
        let longest = texts.iter().map(|t| t.length).max().unwrap_or(0);
        let most = table.rows().saturating_sub(first);
        if longest > most {
            let what = format!("{longest} tokens are more than the {most} positions of the model");
            return Err(Error::new(Code::Context, what).remedy("shorten the text"));
        }
        let mut rows = vec![0.0; longest * width];
        for (position, row) in rows.chunks_mut(width).enumerate() {
            table.row(first + position, row)?;
        }
        let mut rest = &mut *self.hidden;
        for text in texts {
            let (own, behind) = rest.split_at_mut(text.length * width);
            add(own, &rows);
            rest = behind;
        }
        Ok(())
    }

    pub(super) fn add_types(&mut self, table: Part) -> Result<()> {
        let table = self.block.matrix(table).0;
        let (texts, width) = (self.texts(), self.scratch.width);
        let mut rows = vec![0.0; table.rows().min(2) * width];
        for (kind, row) in rows.chunks_mut(width).enumerate() {
            table.row(kind, row)?;
        }
        let (first, second) = rows.split_at(width);
        let second = if second.is_empty() { first } else { second };
        let mut tokens = self.hidden.chunks_mut(width);
        for text in texts {
            for (i, token) in tokens.by_ref().take(text.length).enumerate() {
                add(token, if i < text.second { first } else { second });
            }
        }
        Ok(())
    }

    /// Attention inside each text, in both directions.
    pub(super) fn attend_within_texts(&mut self) {
        let texts = self.texts();
        let (heads, rule) = (self.scratch.heads, self.scratch.rule);
        let mut attended = self.scratch.take(Slot::Attended, self.read(Slot::Q).len());
        let (queries, keys) = (heads.queries * heads.dim, heads.keys * heads.dim);
        let mut at = 0;
        for text in texts {
            let of = |slot: Slot, width: usize| {
                &self.scratch.slots[index(slot)][at * width..][..text.length * width]
            };
            let input = Input {
                q: of(Slot::Q, queries),
                keys: of(Slot::K, keys),
                values: of(Slot::V, keys),
                heads,
                rule,
            };
            let out = &mut attended[at * queries..][..text.length * queries];
            attention(self.cpu, input, out);
            at += text.length;
        }
        self.scratch.put(Slot::Attended, attended);
    }
}

/// Scores of every label: the operations behind the last block on one state per text.
///
/// `states` are `[texts, hidden]`; gives `[texts, labels]`.
pub fn classify(
    cpu: &Cpu,
    scratch: &mut Scratch,
    tail: &Block<Weight>,
    states: &mut [f32],
) -> Result<Vec<f32>> {
    let mut cache = super::forward::LayerCache::default();
    super::forward::run_block(cpu, scratch, tail, &mut cache, states, None)?;
    Ok(std::mem::take(&mut scratch.slots[index(Slot::Labels)]))
}
