//! Mixtures of experts as config.json states them.

use super::{Config, condition};
use crate::error::{Code, Error, Result};
use crate::model::arch::{Arch, Dense, ExpertKeys, Groups, Shared};
use crate::model::fields::Fields;

/// A mixture of experts: how many there are and how tokens get to them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Experts {
    /// Experts of a block, 1 to 4096.
    pub count: usize,
    /// Experts that a token is given to, 1 to `count`.
    pub per_token: usize,
    /// Width of an expert's MLP.
    pub width: usize,
    /// Width of the MLP that sees every token beside them; 0: there is none.
    pub shared: usize,
    /// How logits become the weights of experts.
    pub scoring: Scoring,
    /// Groups of neighbouring experts, of which a token's are taken from the best few.
    pub groups: Option<ExpertGroups>,
    /// The weights of a token's experts are divided by their sum.
    pub renormalise: bool,
    /// They are multiplied with it.
    pub scale: f32,
}

/// How the logits of the router become weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scoring {
    /// Softmax over all experts.
    Softmax,
    /// The logistic function of each; the router's bias is added where experts are chosen, and only
    /// there.
    Sigmoid,
}

/// Groups of experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertGroups {
    /// How many there are; divides the experts.
    pub count: usize,
    /// How many a token's experts come from.
    pub kept: usize,
    /// A group is as good as the sum of this many of its best experts.
    pub best: usize,
}

/// The mixture of a family that has one; `config` names what is out of range.
pub(super) fn experts(fields: &Fields<'_>, arch: &Arch) -> Result<Option<Experts>> {
    let Some(keys) = arch.experts else {
        return Ok(None);
    };
    let (names, absent) = keys.count;
    let name = names.iter().find(|n| fields.get(n).is_some());
    let count = fields.count(name.unwrap_or(&names[0]), 1..=1 << 12, Some(absent))?;
    let (width, absent) = keys.width;
    let width = fields.count(width, 1..=1 << 20, Some(absent))?;
    let shared = match keys.shared {
        Shared::Never => 0,
        Shared::Width(key, absent) => fields.count(key, 1..=1 << 20, Some(absent))?,
        Shared::Times(key, absent) => width * fields.count(key, 1..=1 << 10, Some(absent))?,
    };
    let per_token = Some(keys.per_token.min(count));
    Ok(Some(Experts {
        count,
        per_token: fields.count("num_experts_per_tok", 1..=count, per_token)?,
        width,
        shared,
        scoring: keys.scoring,
        groups: groups(fields, keys.groups, count)?,
        renormalise: condition(fields, keys.renormalise)?,
        scale: match keys.scale {
            None => 1.0,
            Some(absent) => {
                fields.number("routed_scaling_factor", 1e-3..=1e3, Some(absent))? as f32
            }
        },
    }))
}

fn groups(fields: &Fields<'_>, groups: Groups, experts: usize) -> Result<Option<ExpertGroups>> {
    let best = match groups {
        Groups::Never => return Ok(None),
        Groups::Always => 2,
        Groups::Method => match fields.text("topk_method")?.unwrap_or("greedy") {
            "greedy" => return Ok(None),
            "group_limited_greedy" => 1,
            other => {
                let what = format!("topk_method {other:.60?}");
                return Err(Error::new(Code::Unsupported, what)
                    .at("config.json")
                    .remedy("known: greedy, group_limited_greedy"));
            }
        },
    };
    let count = fields.count("n_group", 1..=experts, Some(1))?;
    if !experts.is_multiple_of(count) || experts / count < best {
        let allowed = format!("a divisor of the {experts} experts, {best} or more in a group");
        return Err(fields.refuse("n_group", &count.into(), allowed));
    }
    let kept = fields.count("topk_group", 1..=count, Some(count))?;
    Ok(Some(ExpertGroups { count, kept, best }))
}

/// Which blocks have experts; the others have an MLP of the family without them.
pub(super) fn sparse(fields: &Fields<'_>, keys: &ExpertKeys, config: &Config) -> Result<Vec<bool>> {
    let layers = 0..config.layers;
    match keys.dense {
        Dense::Never => Ok(vec![true; config.layers]),
        Dense::First(absent) => {
            let first = fields.count("first_k_dense_replace", 0..=1 << 20, Some(absent))?;
            match fields.count("moe_layer_freq", 1..=1 << 20, Some(1))? {
                1 => Ok(layers.map(|layer| layer >= first).collect()),
                other => {
                    let what = format!("moe_layer_freq {other}; only 1 is computed here");
                    Err(Error::new(Code::Unsupported, what).at("config.json"))
                }
            }
        }
        Dense::Steps => {
            let step = fields.count("decoder_sparse_step", 1..=1 << 20, Some(1))?;
            let dense = fields.counts("mlp_only_layers")?;
            let sparse = |layer: usize| (layer + 1).is_multiple_of(step) && !dense.contains(&layer);
            Ok(layers.map(sparse).collect())
        }
    }
}
