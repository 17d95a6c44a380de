//! Mixtures of experts as config.json states them.

use super::{Config, condition};
use crate::error::Result;
use crate::model::arch::{Arch, ExpertKeys};
use crate::model::fields::Fields;

/// A mixture of experts: how many there are and how tokens get to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Experts {
    /// Experts of a block, 1 to 4096.
    pub count: usize,
    /// Experts that a token is given to, 1 to `count`.
    pub per_token: usize,
    /// Width of an expert's MLP.
    pub width: usize,
    /// Width of the MLP that sees every token beside them; 0: there is none.
    pub shared: usize,
    /// The probabilities of a token's experts are divided by their sum.
    pub renormalise: bool,
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
    let shared = match keys.shared {
        None => 0,
        Some((key, absent)) => fields.count(key, 1..=1 << 20, Some(absent))?,
    };
    let per_token = Some(keys.per_token.min(count));
    Ok(Some(Experts {
        count,
        per_token: fields.count("num_experts_per_tok", 1..=count, per_token)?,
        width: fields.count(width, 1..=1 << 20, Some(absent))?,
        shared,
        renormalise: condition(fields, keys.renormalise)?,
    }))
}

/// Which blocks have experts; the others have an MLP of the family without them.
pub(super) fn sparse(fields: &Fields<'_>, keys: &ExpertKeys, config: &Config) -> Result<Vec<bool>> {
    if !keys.some_dense {
        return Ok(vec![true; config.layers]);
    }
    let step = fields.count("decoder_sparse_step", 1..=1 << 20, Some(1))?;
    let dense = fields.counts("mlp_only_layers")?;
    let sparse = |layer: usize| (layer + 1).is_multiple_of(step) && !dense.contains(&layer);
    Ok((0..config.layers).map(sparse).collect())
}
