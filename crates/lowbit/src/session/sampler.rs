//! From logits to one token: penalty, temperature, top-k, top-p, min-p, in that order.
//!
//! Weights are exp((logit − highest) / temperature) in f64 through libm and the draw is a PCG32, so
//! one seed gives one text on every host whose logits are equal.

use super::random::Pcg32;
use super::{Output, TOP_MAX, Top, Want, top};
use crate::error::{Code, Error, Result};
use crate::maths;
use std::collections::BTreeSet;

/// How tokens are chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Divides logits; 0 always takes the most likely token.
    pub temperature: f64,
    /// Only the k most likely; 0 for all.
    pub top_k: usize,
    /// Only the most likely that together reach this share; 1 for all.
    pub top_p: f64,
    /// Only those at least this likely relative to the most likely; 0 for all.
    pub min_p: f64,
    /// Makes tokens seen before less likely when above 1 (CTRL, §4.1); 1 for none.
    pub repetition_penalty: f32,
    /// Start of the random numbers.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
        }
    }
}

impl Sampling {
    /// `option` for a value that is out of range.
    pub fn check(&self) -> Result<()> {
        let range = |name: &str, value: f64, good: bool, wanted: &str| {
            if good {
                return Ok(());
            }
            let what = format!("{name} is {value}");
            Err(Error::new(Code::Option, what).remedy(format!("use {wanted}")))
        };
        let (t, p, m) = (self.temperature, self.top_p, self.min_p);
        let r = f64::from(self.repetition_penalty);
        range("temperature", t, (0.0..=100.0).contains(&t), "0 to 100")?;
        range("topP", p, p > 0.0 && p <= 1.0, "a number above 0, up to 1")?;
        range("minP", m, (0.0..=1.0).contains(&m), "0 to 1")?;
        range(
            "repetitionPenalty",
            r,
            (0.1..=10.0).contains(&r),
            "0.1 to 10",
        )
    }
}

/// Chooses tokens for one sequence.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    random: Pcg32,
    seen: BTreeSet<u32>,
}

impl Sampler {
    /// Checks the options and seeds the random numbers.
    pub fn new(sampling: Sampling) -> Result<Self> {
        sampling.check()?;
        Ok(Self {
            random: Pcg32::new(sampling.seed, 1),
            sampling,
            seen: BTreeSet::new(),
        })
    }

    /// The least that a forward pass must give for an exact choice.
    pub fn want(&self) -> Want {
        let s = &self.sampling;
        match () {
            () if s.repetition_penalty != 1.0 => Want::Last,
            () if s.temperature == 0.0 => Want::Top(1),
            () if (1..=TOP_MAX).contains(&s.top_k) => Want::Top(s.top_k),
            () => Want::Last,
        }
    }

    /// Remembers tokens for the repetition penalty.
    pub fn observe(&mut self, tokens: &[u32]) {
        if self.sampling.repetition_penalty != 1.0 {
            self.seen.extend(tokens);
        }
    }

    /// Chooses the next token; `nonfinite-logits` rather than a random one.
    pub fn choose(&mut self, output: Output) -> Result<u32> {
        match output {
            Output::Top(top) => self.choose_top(&top),
            Output::Logits(mut logits) => {
                top::check(&logits)?;
                self.penalize(&mut logits);
                self.choose_logits(&logits)
            }
            Output::Nothing => Err(Error::new(Code::Internal, "nothing to choose from")),
        }
    }

    fn choose_top(&mut self, top: &Top) -> Result<u32> {
        let finite = |l: &f32| !l.is_nan() && *l != f32::INFINITY;
        if !top.log_sum.is_finite() || !top.logits.iter().all(finite) {
            return Err(Error::new(Code::NonfiniteLogits, "a logit is not finite"));
        }
        let pairs = top.ids.iter().copied().zip(top.logits.iter().copied());
        match (pairs.clone().next(), self.sampling.temperature == 0.0) {
            (Some((id, _)), true) => Ok(id),
            (Some(_), false) => {
                let weighed = self.weigh(pairs, top.logits[0]);
                Ok(self.draw(weighed))
            }
            (None, _) => Err(Error::new(Code::Internal, "no candidates")),
        }
    }

    fn choose_logits(&mut self, logits: &[f32]) -> Result<u32> {
        let s = &self.sampling;
        if s.temperature == 0.0 {
            return Ok(top::select(logits, 1)?.ids[0]);
        }
        if s.top_k > 0 {
            let top = top::select(logits, s.top_k)?;
            return self.choose_top(&top);
        }
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut weighed = self.weigh((0u32..).zip(logits.iter().copied()), max);
        if s.top_p < 1.0 {
            // Only top-p needs an order, and its prefix is nearly always short.
            sort_until(&mut weighed, s.top_p);
        }
        Ok(self.draw(weighed))
    }

    fn penalize(&self, logits: &mut [f32]) {
        let penalty = self.sampling.repetition_penalty;
        for id in &self.seen {
            let Some(logit) = logits.get_mut(*id as usize) else {
                continue;
            };
            *logit = if *logit > 0.0 {
                *logit / penalty
            } else {
                *logit * penalty
            };
        }
    }

    fn weigh(&self, pairs: impl Iterator<Item = (u32, f32)>, max: f32) -> Vec<(u32, f64)> {
        let weight = |l: f32| maths::exp_f64(f64::from(l - max) / self.sampling.temperature);
        pairs.map(|(id, l)| (id, weight(l))).collect()
    }

    /// Applies top-p and min-p to candidates and draws one of what is left.
    fn draw(&mut self, mut weighed: Vec<(u32, f64)>) -> u32 {
        let s = &self.sampling;
        if s.top_p < 1.0 {
            let total: f64 = weighed.iter().map(|w| w.1).sum();
            weighed.truncate(prefix(&weighed, s.top_p * total).unwrap_or(weighed.len()));
        }
        // The heaviest weight is exp(0) = 1.
        weighed.retain(|w| w.1 >= s.min_p);
        let total: f64 = weighed.iter().map(|w| w.1).sum();
        let mut left = self.random.next_f64() * total;
        for (id, weight) in &weighed {
            left -= weight;
            if left < 0.0 {
                return *id;
            }
        }
        // Rounding may leave a crumb: it belongs to the last possible candidate.
        let possible = weighed.iter().rev().find(|w| w.1 > 0.0);
        possible.map_or(0, |w| w.0)
    }
}

/// How many of the first candidates reach `mass`.
fn prefix(weighed: &[(u32, f64)], mass: f64) -> Option<usize> {
    let mut sum = 0.0;
    let reached = |w: &(u32, f64)| {
        sum += w.1;
        sum >= mass
    };
    Some(weighed.iter().position(reached)? + 1)
}

/// Sorts the heaviest to the front, as many as needed to reach the share `top_p`.
fn sort_until(weighed: &mut [(u32, f64)], top_p: f64) {
    let total: f64 = weighed.iter().map(|w| w.1).sum();
    let heavier = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    for front in [256, 8192, usize::MAX] {
        if front >= weighed.len() {
            return weighed.sort_unstable_by(heavier);
        }
        weighed.select_nth_unstable_by(front - 1, heavier);
        weighed[..front].sort_unstable_by(heavier);
        if prefix(&weighed[..front], top_p * total).is_some() {
            return;
        }
    }
}

#[cfg(test)]
#[path = "sampler_tests.rs"]
mod tests;
