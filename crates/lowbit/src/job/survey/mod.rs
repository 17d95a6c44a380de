//! Mixed precision by budget: what each linear loses under each scheme, and which it should get.
//!
//! ```text
//! embed ─► block 0 ─► block 1 … ─► head         one pass over the weights, unquantized
//!            │ every scheme: bits, Σ (w − q)ᵀ·H·(w − q)
//!            └ some places: outputs with that place alone quantized ─► … ─► head ─► KL
//! ```
//! The second moments say how schemes compare at one place; the divergence that is measured at
//! some says what a place is worth. Linears that share an input get the same scheme, and so do the
//! experts of a block, as engines that fuse them ask for.

mod allocate;
mod pieces;
mod probe;
mod verdict;

pub(super) use probe::Probe;
pub(super) use verdict::Verdict;

use super::inputs::{self, Input};
use super::plan::{Layer, Plan};
use super::request::Options;
use crate::error::{Code, Error, Result};
use crate::scheme::Scheme;
use serde::Serialize;

/// Places whose divergence is measured, times schemes.
const MEASURED: usize = 64;
/// Bytes that the activations of all measured places take.
const CARRIED_BYTES: usize = 256 << 20;
/// Tokens that divergence is measured on, at most.
const TOKENS: usize = 4096;

/// A place: linears that get the same scheme.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Place {
    /// Block.
    pub block: usize,
    /// What it is in each block, as `q_proj`.
    pub role: String,
    /// The linears.
    pub layers: Vec<String>,
    /// How many weights they have.
    pub weights: u64,
    /// What each scheme does.
    pub cells: Vec<Cell>,
}

/// One scheme at one place.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cell {
    /// The scheme.
    #[serde(serialize_with = "as_text")]
    pub scheme: Scheme,
    /// Bits of codes, scales and zeros.
    pub bits: u64,
    /// Σ (w − q)ᵀ·H·(w − q).
    pub proxy: f64,
    /// Mean divergence in nats when this place alone is quantized, where it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
    /// What it is expected to cost: the measured divergence, or the proxy times what proxies of
    /// that role are worth nearby.
    pub cost: f64,
}

fn as_text<S: serde::Serializer>(
    scheme: &Scheme,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(scheme)
}

/// What the blocks of a survey leave to the ones after them.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Activations of the unquantized model on the measured tokens.
    base: Vec<f32>,
    variants: Vec<Variant>,
    places: Vec<Place>,
}

/// The model with one place quantized.
#[derive(Debug)]
struct Variant {
    place: usize,
    cell: usize,
    hidden: Vec<f32>,
}

impl Survey {
    /// Takes the embedding rows of the measured tokens.
    pub(super) fn begin(&mut self, rows: Vec<f32>) {
        self.base = rows;
    }
}

/// What a survey chooses from.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    /// Bits per weight that may be spent.
    pub target: f64,
    /// Schemes, fewest bits first.
    pub candidates: Vec<Scheme>,
    /// Modules with a scheme of their own, which they keep.
    fixed: Vec<String>,
}

impl Budget {
    /// Reads the options; none without a target, `option` when they make no sense.
    pub(super) fn new(options: &Options, layers: &[Layer]) -> Result<Option<Self>> {
        let Some(target) = options.target_bpw else {
            return Ok(None);
        };
        if !(target.is_finite() && target > 0.0) {
            let what = format!("targetBpw is {target}");
            return Err(Error::new(Code::Option, what).remedy("use for example 4.25"));
        }
        let mut candidates = Vec::new();
        for text in &options.candidates {
            let scheme: Scheme = text.parse()?;
            if !candidates.contains(&scheme) {
                candidates.push(scheme);
            }
        }
        let default: Scheme = options.scheme.parse()?;
        let own = layers.iter().filter(|l| l.scheme != default);
        Ok(Some(Self {
            target,
            candidates,
            fixed: own.map(|l| l.linear.module.clone()).collect(),
        }))
    }

    /// The schemes that a layer may get.
    pub(super) fn schemes(&self, layer: &Layer) -> Vec<Scheme> {
        if self.fixed.contains(&layer.linear.module) {
            return vec![layer.scheme];
        }
        self.candidates.clone()
    }
}

/// The places of a block, each with its inputs.
pub(super) fn places(plan: &Plan, index: usize) -> Vec<Vec<Input>> {
    let mut places: Vec<Vec<Input>> = Vec::new();
    let is_expert = |i: &Input| i.layers[0].linear.part.expert().is_some();
    for input in inputs::quantized(plan, index) {
        match places
            .last_mut()
            .filter(|p| is_expert(&p[0]) && is_expert(&input))
        {
            Some(place) => place.push(input),
            None => places.push(vec![input]),
        }
    }
    places
}

/// Whether divergence is measured at the places of a block, and under how many schemes.
///
/// All of them while they are few; otherwise some blocks, evenly spaced, under the scheme of the
/// fewest bits.
pub(super) fn measured(plan: &Plan, index: usize) -> usize {
    let candidates = plan.budget.as_ref().map_or(1, |b| b.candidates.len());
    let blocks = plan.model.layers;
    let roles = places(plan, index).len().max(1);
    if roles * blocks * candidates <= MEASURED {
        return candidates;
    }
    let depths = (MEASURED / roles).clamp(2, blocks.max(2));
    let chosen = |i: usize| i * (blocks - 1) / (depths - 1);
    usize::from((0..depths).any(|i| chosen(i) == index))
}

/// Samples and tokens of each that divergence is measured on.
pub(super) fn measured_tokens(plan: &Plan) -> (usize, usize) {
    let (samples, length) = plan.calibration.map_or((1, 1), |c| (c.samples, c.length));
    let per_variant = CARRIED_BYTES / (4 * plan.model.hidden * MEASURED);
    let tokens = per_variant.clamp(16, TOKENS);
    let length = length.min(tokens);
    ((tokens / length).clamp(1, samples), length)
}
