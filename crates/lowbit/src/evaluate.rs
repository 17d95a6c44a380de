//! What quantization cost, reduced window by window: likelihood, divergence, agreement.
//!
//! Logits are widened to f64 before any sum. Of a window of n tokens, positions `0..n−1` are
//! scored: position i predicts token i + 1.

use crate::error::{Code, Error, Result};
use crate::maths;

/// Sums over the scored positions of one window.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// How many positions were scored.
    pub positions: usize,
    /// Sum of `−ln p(next token)` under the model, in nats.
    pub nll: f64,
    /// The same under the reference, if there is one.
    pub reference_nll: Option<f64>,
    /// Positions whose most likely token is the same in both; ties go to the lowest id.
    pub same_top: Option<usize>,
    /// KL(reference ‖ model) of each position in nats over the whole vocabulary; empty without one.
    pub kl: Vec<f32>,
}

/// Scores a window: `logits` and `reference` are `[tokens, vocab]`, `tokens` what was read.
///
/// `nonfinite-logits` when a row of logits has no largest value or an infinite one; `option` when
/// a token is outside the vocabulary.
pub fn score_window(
    logits: &[f32],
    reference: Option<&[f32]>,
    tokens: &[u32],
    vocab: usize,
) -> Result<Scores> {
    let wanted = tokens.len() * vocab;
    assert_eq!(logits.len(), wanted, "one row of logits per token");
    let mut scores = Scores {
        reference_nll: reference.map(|_| 0.0),
        same_top: reference.map(|_| 0),
        ..Scores::default()
    };
    for (i, next) in tokens.iter().skip(1).enumerate() {
        if *next as usize >= vocab {
            let what = format!("token {next} is outside the vocabulary of {vocab}");
            return Err(Error::new(Code::Option, what));
        }
        let place = |e: Error| e.at(format!("position {i} of the window"));
        let model = Row::new(&logits[i * vocab..][..vocab]).map_err(place)?;
        scores.positions += 1;
        scores.nll -= model.log_probability(*next as usize);
        if let Some(reference) = reference {
            assert_eq!(reference.len(), wanted, "one row of reference per token");
            let reference = Row::new(&reference[i * vocab..][..vocab]).map_err(place)?;
            let nll = scores.reference_nll.get_or_insert_default();
            *nll -= reference.log_probability(*next as usize);
            *scores.same_top.get_or_insert_default() += usize::from(reference.top == model.top);
            scores.kl.push(divergence(&reference, &model) as f32);
        }
    }
    Ok(scores)
}

/// The smallest value that at least `share` of `values` do not exceed; NaN of none.
///
/// `share` 0.99 gives the 99th percentile by nearest rank. The order of `values` is changed.
pub fn quantile(values: &mut [f32], share: f64) -> f32 {
    if values.is_empty() {
        return f32::NAN;
    }
    let rank = (share * values.len() as f64).ceil() as usize;
    let rank = rank.clamp(1, values.len()) - 1;
    *values.select_nth_unstable_by(rank, f32::total_cmp).1
}

/// One position's distribution.
struct Row<'a> {
    logits: &'a [f32],
    /// Lowest id among the most likely.
    top: usize,
    /// `ln Σ exp(logit)`.
    log_sum: f64,
}

impl<'a> Row<'a> {
    fn new(logits: &'a [f32]) -> Result<Self> {
        let mut top = 0;
        for (id, logit) in logits.iter().enumerate() {
            if *logit > logits[top] {
                top = id;
            }
        }
        let highest = f64::from(logits[top]);
        let exps = logits
            .iter()
            .map(|l| maths::exp_f64(f64::from(*l) - highest));
        let log_sum = highest + maths::ln_f64(exps.sum());
        // NaN anywhere ends in the sum; −∞ is a token that cannot come, and allowed.
        if log_sum.is_finite() {
            return Ok(Self {
                logits,
                top,
                log_sum,
            });
        }
        let bad = logits
            .iter()
            .position(|l| l.is_nan() || *l == f32::INFINITY);
        let id = bad.unwrap_or(0);
        let what = format!("the logit of token {id} is {}", logits[id]);
        Err(Error::new(Code::NonfiniteLogits, what))
    }

    fn log_probability(&self, id: usize) -> f64 {
        f64::from(self.logits[id]) - self.log_sum
    }
}

/// `Σ p · (ln p − ln q)`, at least 0.
fn divergence(p: &Row<'_>, q: &Row<'_>) -> f64 {
    let mut sum = 0.0;
    for id in 0..p.logits.len() {
        let log_p = p.log_probability(id);
        let probability = maths::exp_f64(log_p);
        // p ln p goes to 0 with p; without the test −∞ would make it NaN.
        if probability > 0.0 {
            sum += probability * (log_p - q.log_probability(id));
        }
    }
    // Rounding may leave a tiny negative number where the two are equal.
    if sum < 0.0 { 0.0 } else { sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_scored_by_the_definitions() {
        let ln = |x: f32| x.ln();
        let model = [ln(0.5), ln(0.25), ln(0.25), 9.0, 9.0, 9.0];
        let reference = [ln(0.25), ln(0.5), ln(0.25), 0.0, 0.0, 0.0];
        let scores = score_window(&model, Some(&reference), &[0, 1], 3).unwrap();
        assert_eq!((scores.positions, scores.same_top), (1, Some(0)));
        assert!((scores.nll - 4f64.ln()).abs() < 1e-6);
        assert!((scores.reference_nll.unwrap() - 2f64.ln()).abs() < 1e-6);
        let kl = 0.25 * 0.5f32.ln() + 0.5 * 2f32.ln();
        assert!((scores.kl[0] - kl).abs() < 1e-6);
    }

    #[test]
    fn ties_agree_on_the_lowest_id_and_equals_diverge_by_nothing() {
        let (model, reference) = ([1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]);
        let scores = score_window(&model, Some(&reference), &[0, 0], 2).unwrap();
        assert_eq!(scores.same_top, Some(1));
        let scores = score_window(&model, Some(&model), &[0, 0], 2).unwrap();
        assert_eq!(scores.kl, [0.0]);
    }

    #[test]
    fn logits_that_are_not_finite_are_named() {
        for bad in [f32::NAN, f32::INFINITY] {
            let e = score_window(&[0.0, bad, 0.0, 0.0], None, &[0, 1], 2).unwrap_err();
            assert_eq!(e.code, Code::NonfiniteLogits, "{e}");
            assert!(e.to_string().contains("token 1"), "{e}");
        }
        let never = [0.0, f32::NEG_INFINITY, 0.0, 0.0];
        assert!(score_window(&never, Some(&never), &[0, 0], 2).is_ok());
    }

    #[test]
    fn quantile_is_the_nearest_rank() {
        let mut values: Vec<f32> = (1..=200).rev().map(|i| i as f32).collect();
        assert_eq!(quantile(&mut values, 0.99), 198.0);
        assert_eq!(quantile(&mut [3.0], 0.99), 3.0);
        assert!(quantile(&mut [], 0.5).is_nan());
    }
}
