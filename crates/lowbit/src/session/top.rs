//! The most likely candidates of a row of logits, on the CPU.

use super::Top;
use crate::error::{Code, Error, Result};
use crate::maths;
use std::cmp::Ordering;

/// Descending by logit, then ascending by id: the one order of candidates everywhere.
pub(super) fn order(a: (u32, f32), b: (u32, f32)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// The `k` most likely of `logits [vocabulary]`; `nonfinite-logits` for NaN or +∞.
pub fn select(logits: &[f32], k: usize) -> Result<Top> {
    check(logits)?;
    let k = k.clamp(1, logits.len().max(1));
    let candidates = if k == 1 {
        best(logits)
    } else {
        let mut all: Vec<(u32, f32)> = (0u32..).zip(logits.iter().map(|l| plain(*l))).collect();
        if k < all.len() {
            all.select_nth_unstable_by(k - 1, |a, b| order(*a, *b));
            all.truncate(k);
        }
        all.sort_unstable_by(|a, b| order(*a, *b));
        all
    };
    Ok(Top {
        ids: candidates.iter().map(|c| c.0).collect(),
        log_sum: log_sum(logits, candidates.first().map_or(0.0, |c| c.1)),
        logits: candidates.iter().map(|c| c.1).collect(),
    })
}

/// Refuses what no sampler may choose from: NaN, +∞, or a row in which nothing is possible.
pub(super) fn check(logits: &[f32]) -> Result<()> {
    let bad = |(i, l): (usize, &f32)| (l.is_nan() || *l == f32::INFINITY).then_some((i, *l));
    if let Some((id, logit)) = logits.iter().enumerate().find_map(bad) {
        let what = format!("the logit of token {id} is {logit}");
        return Err(Error::new(Code::NonfiniteLogits, what));
    }
    if logits.iter().all(|l| *l == f32::NEG_INFINITY) {
        return Err(Error::new(
            Code::NonfiniteLogits,
            "no token has a finite logit",
        ));
    }
    Ok(())
}

/// −0 and +0 are the same logit, though their bits order differently.
fn plain(logit: f32) -> f32 {
    logit + 0.0
}

fn best(logits: &[f32]) -> Vec<(u32, f32)> {
    let first = (0u32, logits.first().copied().unwrap_or(f32::NEG_INFINITY));
    let higher = |best: (u32, f32), c: (u32, f32)| if c.1 > best.1 { c } else { best };
    vec![(0u32..).zip(logits.iter().copied()).fold(first, higher)]
}

/// `ln Σ exp(l)`: f32 inside runs of 256, f64 between them.
fn log_sum(logits: &[f32], max: f32) -> f32 {
    let runs = logits.chunks(256);
    let sums = runs.map(|run| run.iter().map(|l| maths::exp(l - max)).sum::<f32>());
    let sum: f64 = sums.map(f64::from).sum();
    (f64::from(max) + maths::ln_f64(sum)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_descend_and_ties_go_to_the_lower_id() {
        let logits = [0.5, 2.0, -0.0, 2.0, 0.0, f32::NEG_INFINITY];
        let top = select(&logits, 4).unwrap();
        assert_eq!(top.ids, [1, 3, 0, 2]);
        assert_eq!(select(&logits, 1).unwrap().ids, [1]);
        assert_eq!(select(&logits, 99).unwrap().ids, [1, 3, 0, 2, 4, 5]);
    }

    #[test]
    fn log_sum_is_that_of_the_whole_row() {
        let logits: Vec<f32> = (0..1000).map(|i| (i * 37 % 101) as f32 / 7.0).collect();
        let want = logits.iter().map(|l| f64::from(*l).exp()).sum::<f64>().ln();
        let got = f64::from(select(&logits, 3).unwrap().log_sum);
        assert!((got - want).abs() < 1e-5, "{got} {want}");
    }

    #[test]
    fn unusable_logits_are_refused() {
        for bad in [f32::NAN, f32::INFINITY] {
            let e = select(&[0.0, bad], 1).unwrap_err();
            assert_eq!(e.code, Code::NonfiniteLogits);
        }
        let none = select(&[f32::NEG_INFINITY; 2], 1).unwrap_err();
        assert_eq!(none.code, Code::NonfiniteLogits);
    }
}
