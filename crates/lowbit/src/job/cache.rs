//! Scales of the KV cache: the largest keys and values that each block puts into it.
//!
//! Seen are keys after norm and rotation, and values, of the block as it will run: with quantized
//! weights, rounded inputs, and after quantized blocks. The cache itself stays in floats meanwhile,
//! so that what later blocks are calibrated on does not depend on how engines keep it.

use super::finite::first_nonfinite;
use super::plan::Plan;
use super::request::Options;
use super::sink::Sink;
use crate::container::safetensors::Planned;
use crate::error::{Code, Error, Result};
use crate::kv_cache::{self, KvCache};
use crate::layout;
use crate::model::cached;
use crate::model::config::Config;
use crate::model::forward::LayerCache;
use crate::model::ops::Part;
use crate::model::weights;
use crate::tensor::{Dtype, bytes_from_f32};
use serde::{Deserialize, Serialize};

/// Scales of one block's cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CacheReport {
    /// Block.
    pub block: usize,
    /// Scales of keys, one or one for each head of keys.
    pub keys: Vec<f32>,
    /// Scales of values.
    pub values: Vec<f32>,
}

/// The scheme that options ask for; `option` where the format has no place for its scales,
/// `unsupported` where the model has no such cache.
pub(super) fn chosen(options: &Options, model: &Config) -> Result<Option<KvCache>> {
    let Some(name) = options.kv_cache.as_deref() else {
        return Ok(None);
    };
    let cache = kv_cache::find(name)?;
    if model.guess.is_none() {
        cached::check(model)?;
    }
    let layout = layout::find(&options.format)?;
    if !layout.holds_cache() {
        let what = format!(
            "format {} has no place for the scales of kvCache {name}",
            layout.name()
        );
        return Err(Error::new(Code::Option, what)
            .remedy("use format compressed-tensors, or leave kvCache out"));
    }
    // A survey writes nothing.
    Ok(Some(cache).filter(|_| options.target_bpw.is_none()))
}

/// The tensors of a block's scales: keys, values.
pub(super) fn planned(plan: &Plan, block: usize) -> Vec<Planned> {
    let names = cached::scale_names(&plan.model, block);
    let (Some(cache), Some(names)) = (plan.kv_cache, names) else {
        return Vec::new();
    };
    let planned = |name: String| Planned {
        name,
        dtype: dtype(plan, block),
        shape: cache.shape(plan.model.kv_heads),
    };
    names.into_iter().map(planned).collect()
}

/// Type of the scales: what was asked for, or that of the attention's weights.
fn dtype(plan: &Plan, block: usize) -> Dtype {
    let asked = plan.effective.scale_dtype.as_deref();
    let asked = asked.and_then(|name| Dtype::parse(&name.to_ascii_uppercase()).ok());
    let linears = weights::linears(&plan.model, block);
    let output = linears.iter().find(|l| l.part == Part::O);
    let own = output.and_then(|l| Some(plan.tensor(&l.weight).ok()?.dtype));
    let own = own.filter(|d| [Dtype::F32, Dtype::F16, Dtype::BF16].contains(d));
    asked.or(own).unwrap_or(Dtype::F32)
}

/// The largest magnitudes of one block.
#[derive(Debug)]
pub(super) struct Observed {
    block: usize,
    dim: usize,
    /// Of each head of keys, and of each of values.
    largest: [Vec<f32>; 2],
}

impl Observed {
    /// Nothing seen yet; none where no scales are asked for.
    pub(super) fn new(plan: &Plan, block: usize) -> Option<Self> {
        plan.kv_cache?;
        let heads = plan.model.kv_heads;
        Some(Self {
            block,
            dim: plan.model.head_dim,
            largest: [vec![0.0; heads], vec![0.0; heads]],
        })
    }

    /// Looks at what a cache holds from position `from` on, for sample `sample`.
    ///
    /// `nonfinite-activation` naming block, sample and token.
    pub(super) fn see(&mut self, cache: &LayerCache, sample: usize, from: usize) -> Result<()> {
        let heads = self.largest[0].len();
        let row = heads * self.dim;
        for (side, largest) in [&cache.keys, &cache.values].iter().zip(&mut self.largest) {
            let new = &side[from * row..];
            if let Some(i) = first_nonfinite(new) {
                let what = format!("the cache holds {} at sample {sample}", new[i]);
                let token = from + i / row;
                return Err(Error::new(Code::NonfiniteActivation, what)
                    .at(format!("block {}, token {token}", self.block))
                    .remedy("leave that sample out, or leave kvCache out"));
            }
            for (i, head) in new.chunks_exact(self.dim).enumerate() {
                let most = &mut largest[i % heads];
                *most = head.iter().fold(*most, |a, v| a.max(v.abs()));
            }
        }
        Ok(())
    }
}

/// Hands the scales of a block to the files; what is reported of them, where some are asked for.
pub(super) fn keep(
    plan: &Plan,
    observed: Option<Observed>,
    sink: &mut Sink,
) -> Result<Option<CacheReport>> {
    let (Some(cache), Some(observed)) = (plan.kv_cache, observed) else {
        return Ok(None);
    };
    let mut report = CacheReport {
        block: observed.block,
        keys: Vec::new(),
        values: Vec::new(),
    };
    let sides = observed
        .largest
        .iter()
        .zip([&mut report.keys, &mut report.values]);
    for (planned, (largest, scales)) in planned(plan, observed.block).into_iter().zip(sides) {
        let place = |e: Error| e.at(format!("tensor {:?}", planned.name));
        *scales = cache.scales(largest, planned.dtype).map_err(place)?;
        let bytes = bytes_from_f32(planned.dtype, scales)?;
        sink.tensor(&plan.files, &planned.name, &bytes)?;
    }
    Ok(Some(report))
}
