//! Which experts a token goes to.
//!
//! ```text
//! s = softmax(x · Routerᵀ), or σ(x · Routerᵀ)
//! the k largest of s (of s + correction, of the best groups) stay, divided by their sum or not
//! ```

use super::config::{ExpertGroups, Experts, Scoring};
use crate::maths;

/// A token that was given to an expert.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Route {
    /// The expert.
    pub(super) expert: usize,
    /// Row of the token.
    pub(super) token: usize,
    /// What the expert's output is multiplied with.
    pub(super) weight: f32,
}

/// The routes of `logits [tokens, experts.count]`, by expert and then by token; `correction` is added
/// to the scores that experts are chosen by, if there is one.
///
/// Equal scores prefer the expert of the lower number. Values that are not finite give weights that
/// are not finite.
pub(super) fn routes(logits: &[f32], experts: &Experts, correction: Option<&[f32]>) -> Vec<Route> {
    let mut routes = Vec::with_capacity(logits.len() / experts.count * experts.per_token);
    let mut order: Vec<usize> = Vec::with_capacity(experts.count);
    for (token, logits) in logits.chunks(experts.count).enumerate() {
        let scores = scores(logits, experts.scoring);
        let mut choice = scores.clone();
        for (c, correction) in choice.iter_mut().zip(correction.unwrap_or(&[])) {
            *c += correction;
        }
        order.clear();
        order.extend(0..experts.count);
        let better = |a: &usize, b: &usize| choice[*b].total_cmp(&choice[*a]);
        if let Some(groups) = &experts.groups {
            let kept = best_groups(&choice, groups);
            order.retain(|e| kept.contains(&(e / (experts.count / groups.count))));
        }
        order.sort_by(better);
        let chosen = &order[..experts.per_token.min(order.len())];
        let total: f32 = if experts.renormalise {
            chosen.iter().map(|e| scores[*e]).sum()
        } else {
            1.0
        };
        routes.extend(chosen.iter().map(|e| Route {
            expert: *e,
            token,
            weight: scores[*e] / total * experts.scale,
        }));
    }
    routes.sort_by_key(|r| (r.expert, r.token));
    routes
}

/// What the logits of one token say for each expert.
fn scores(logits: &[f32], scoring: Scoring) -> Vec<f32> {
    match scoring {
        Scoring::Sigmoid => logits
            .iter()
            .map(|l| 1.0 / (1.0 + maths::exp(-l)))
            .collect(),
        Scoring::Softmax => {
            let highest = logits.iter().fold(f32::NEG_INFINITY, |m, l| m.max(*l));
            let mut scores: Vec<_> = logits.iter().map(|l| maths::exp(l - highest)).collect();
            let total: f32 = scores.iter().sum();
            for score in &mut scores {
                *score /= total;
            }
            scores
        }
    }
}

/// The groups that a token's experts come from.
fn best_groups(choice: &[f32], groups: &ExpertGroups) -> Vec<usize> {
    let worth = |group: &[f32]| {
        let mut sorted = group.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        sorted.iter().take(groups.best).sum::<f32>()
    };
    let worths: Vec<f32> = choice
        .chunks(choice.len() / groups.count)
        .map(worth)
        .collect();
    let mut order: Vec<usize> = (0..groups.count).collect();
    order.sort_by(|a, b| worths[*b].total_cmp(&worths[*a]));
    order.truncate(groups.kept);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn experts(per_token: usize, renormalise: bool) -> Experts {
        Experts {
            count: 4,
            per_token,
            width: 1,
            shared: 0,
            scoring: Scoring::Softmax,
            groups: None,
            renormalise,
            scale: 1.0,
        }
    }

    #[test]
    fn tokens_go_to_their_most_likely_experts() {
        let ln = |p: f32| p.ln();
        let logits = [0.1, 0.2, 0.3, 0.4, 0.4, 0.1, 0.4, 0.1].map(ln);
        let found = routes(&logits, &experts(2, false), None);
        let places: Vec<_> = found.iter().map(|r| (r.expert, r.token)).collect();
        assert_eq!(places, [(0, 1), (2, 0), (2, 1), (3, 0)]);
        for (route, wanted) in found.iter().zip([0.4, 0.3, 0.4, 0.4]) {
            assert!((route.weight - wanted).abs() < 1e-6, "{route:?}");
        }
        let found = routes(&logits, &experts(2, true), None);
        for (route, wanted) in found.iter().zip([0.5, 3.0 / 7.0, 0.5, 4.0 / 7.0]) {
            assert!((route.weight - wanted).abs() < 1e-6, "{route:?}");
        }
    }

    #[test]
    fn equal_logits_prefer_the_lower_number_and_nan_is_kept() {
        let found = routes(&[1.0; 4], &experts(1, true), None);
        assert_eq!((found[0].expert, found[0].weight), (0, 1.0));
        let found = routes(&[0.0, f32::NAN, 0.0, 0.0], &experts(2, false), None);
        assert!(found.iter().all(|r| r.weight.is_nan()), "{found:?}");
    }

    #[test]
    fn logistic_scores_choose_by_the_corrected_and_weigh_by_their_own() {
        let mut experts = experts(2, true);
        experts.scoring = Scoring::Sigmoid;
        experts.scale = 3.0;
        // Scores .25, .5, .75, .2, of which the correction lifts the last.
        let logits = [-(3f32.ln()), 0.0, 3f32.ln(), -(4f32.ln())];
        let correction = [0.0, 0.0, 0.0, 0.4];
        let found = routes(&logits, &experts, Some(&correction));
        let places: Vec<_> = found.iter().map(|r| r.expert).collect();
        assert_eq!(places, [2, 3]);
        for (route, wanted) in found.iter().zip([3.0 * 0.75 / 0.95, 3.0 * 0.2 / 0.95]) {
            assert!((route.weight - wanted).abs() < 1e-5, "{route:?}");
        }
    }

    #[test]
    fn a_group_counts_by_its_best() {
        let mut experts = experts(1, false);
        let logits = [0.4, 0.3, 0.5, 0.1].map(f32::ln);
        let first = |best, experts: &mut Experts| {
            let (count, kept) = (2, 1);
            experts.groups = Some(ExpertGroups { count, kept, best });
            routes(&logits, experts, None)[0].expert
        };
        assert_eq!(first(1, &mut experts), 2);
        assert_eq!(first(2, &mut experts), 0);
    }
}
