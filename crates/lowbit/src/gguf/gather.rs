//! Collects an importance matrix on our own forward pass: Σ x² of every input of every linear.
//!
//! A loaded model is run, quantized or not: what it takes beside its weights is the hidden state of
//! one sample and one sum per input column. (The calibration of a quantization job keeps second
//! moments of all pairs of columns instead, `n` times as much memory and work.) As in llama.cpp,
//! an expert is counted for the tokens that are routed to it, and embedding and head are left out.

use super::family::Family;
use super::imatrix::{Entry, Imatrix};
use super::tensors::{Place, place, target};
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::model::Model;
use crate::model::config::Config;
use crate::model::forward::{LayerCache, Scratch, Watch, embed, watch_block};
use crate::model::ops::Part;
use crate::model::weights;
use std::collections::BTreeMap;

/// Tokens that pass through a block at a time.
const STEP: usize = 512;

/// Where the sums of a linear go.
#[derive(Debug)]
pub(crate) struct Slot {
    /// The tensor's name in GGUF.
    pub(crate) name: String,
    /// Which of its experts the linear is.
    pub(crate) expert: usize,
    pub(crate) experts: usize,
    pub(crate) cols: usize,
}

/// Sums of one tensor.
#[derive(Default)]
struct Sums {
    squares: Vec<f64>,
    counts: Vec<f64>,
}

/// Runs one sample through a model. `unknown-architecture` for families without GGUF names,
/// `nonfinite-activation` naming the linear, `option` for tokens outside the vocabulary.
pub fn gather(cpu: &Cpu, model: &Model, tokens: &[u32]) -> Result<Imatrix> {
    let mut sums: BTreeMap<String, Sums> = BTreeMap::new();
    let mut hidden = embed(model, tokens)?;
    let mut scratch = Scratch::new(&model.config);
    for (index, block) in model.blocks.iter().enumerate() {
        let slots = slots(&model.config, index)?;
        let mut cache = LayerCache::default();
        for piece in hidden.chunks_mut(STEP * model.config.hidden) {
            let mut tap = |parts: &[Part], x: &[f32]| {
                let mut known = parts.iter().filter_map(|part| slots.get(part));
                known.try_for_each(|slot| {
                    let sum = sums.entry(slot.name.clone()).or_default();
                    sum.add(slot, x)
                })
            };
            let watch = Watch {
                tap: &mut tap,
                all_experts: false,
                until: None,
            };
            watch_block(cpu, &mut scratch, block, &mut cache, piece, Some(watch))?;
        }
    }
    let entries = sums.into_iter().map(|(name, s)| (name, s.entry()));
    Ok(Imatrix {
        entries: entries.collect(),
        datasets: Vec::new(),
        chunks: 1,
        chunk_tokens: u32::try_from(tokens.len()).unwrap_or(u32::MAX),
    })
}

fn family(config: &Config) -> Result<&'static Family> {
    let types = config.arch().model_types;
    let mut found = types.iter().filter_map(|t| Family::find(t).ok());
    match found.next() {
        Some(family) => Ok(family),
        None => Family::find(types.first().copied().unwrap_or_default()),
    }
}

/// The linears of a block by the names that operations have for them; `unknown-architecture` for
/// families without GGUF names.
pub(crate) fn slots(config: &Config, index: usize) -> Result<BTreeMap<Part, Slot>> {
    let family = family(config)?;
    let experts = config.experts.map_or(0, |e| e.count);
    let mut slots = BTreeMap::new();
    for linear in weights::linears(config, index) {
        // Routers stay floats.
        if linear.part == Part::Router {
            continue;
        }
        let name = match place(&linear.weight) {
            Place::Language(name) => name,
            _ => linear.weight,
        };
        if let Some(to) = target(family, &name, config.layers, experts)? {
            let slot = Slot {
                name: to.name,
                expert: to.expert.unwrap_or(0),
                experts: if to.expert.is_some() { experts } else { 1 },
                cols: linear.cols,
            };
            slots.insert(linear.part, slot);
        }
    }
    Ok(slots)
}

impl Sums {
    /// Adds inputs `[tokens, cols]`.
    fn add(&mut self, slot: &Slot, x: &[f32]) -> Result<()> {
        self.squares.resize(slot.experts * slot.cols, 0.0);
        self.counts.resize(slot.experts, 0.0);
        let sums = &mut self.squares[slot.expert * slot.cols..][..slot.cols];
        for row in x.chunks_exact(slot.cols) {
            for (sum, v) in sums.iter_mut().zip(row) {
                *sum += f64::from(*v) * f64::from(*v);
            }
        }
        if let Some(col) = sums.iter().position(|s| !s.is_finite()) {
            let what = format!("an input of column {col} is not finite");
            return Err(Error::new(Code::NonfiniteActivation, what).at(slot.name.clone()));
        }
        self.counts[slot.expert] += (x.len() / slot.cols) as f64;
        Ok(())
    }

    fn entry(self) -> Entry {
        let narrow = |values: Vec<f64>| values.into_iter().map(|v| v as f32).collect();
        Entry {
            sums: narrow(self.squares),
            counts: narrow(self.counts),
        }
    }
}
