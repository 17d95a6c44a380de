//! What stands before the first block and after the last: embedding, final norm and head.

use super::Model;
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::kernels::matmul::{Weight, matmul};
use crate::kernels::rms_norm::rms_norm;
use crate::maths;

/// Embedding rows of `tokens`, `[tokens, hidden]`; `option` for an id outside the vocabulary.
pub fn embed(model: &Model, tokens: &[u32]) -> Result<Vec<f32>> {
    embed_from(&model.embed, tokens)
}

/// Embedding rows of `tokens` from the matrix alone, for callers that hold no whole model.
pub fn embed_from(embedding: &Weight, tokens: &[u32]) -> Result<Vec<f32>> {
    let (rows, cols) = (embedding.rows(), embedding.cols());
    let mut hidden = vec![0.0; tokens.len() * cols];
    for (token, out) in tokens.iter().zip(hidden.chunks_mut(cols)) {
        if *token as usize >= rows {
            let what = format!("token {token} is outside the vocabulary of {rows}");
            return Err(Error::new(Code::Option, what));
        }
        embedding.row(*token as usize, out)?;
    }
    Ok(hidden)
}

/// The final norm of `hidden [tokens, hidden]`, in place, in families that have one.
pub fn final_norm(cpu: &Cpu, model: &Model, hidden: &mut [f32]) {
    if !model.norm.is_empty() {
        rms_norm(cpu, hidden, &model.norm, model.config.norm_eps);
    }
}

/// Final norm and head: `[tokens, hidden]` → `[tokens, vocabulary]`; `unsupported` without a head.
pub fn logits(cpu: &Cpu, model: &Model, hidden: &[f32]) -> Result<Vec<f32>> {
    let Some(head) = &model.head else {
        let what = "the model has no output head, so that it writes no text";
        return Err(Error::new(Code::Unsupported, what).remedy("use embed or classify"));
    };
    let mut normed = hidden.to_vec();
    final_norm(cpu, model, &mut normed);
    let tokens = hidden.len() / model.config.hidden;
    let mut logits = vec![0.0; tokens * head.rows()];
    matmul(cpu, &normed, head, &mut logits);
    let factors = &model.config.factors;
    if factors.logits != 1.0 {
        for logit in &mut logits {
            *logit /= factors.logits;
        }
    }
    if let Some(cap) = factors.logit_cap {
        for logit in &mut logits {
            *logit = maths::cap(*logit, cap);
        }
    }
    Ok(logits)
}
