//! Tensors of a checkpoint as tensors of a file: named, in their order, experts stacked.

use super::export::{Output, Source};
use super::families_encoder::HEAD;
use super::family::Family;
use super::latent::{Half, Latent};
use super::metadata::Sizes;
use super::tensors::{Change, Place, change, place, target};
use crate::error::{Code, Error, Result};
use std::collections::BTreeMap;

/// What names of tensors are read with.
pub(super) struct Names<'a> {
    pub(super) family: &'a Family,
    pub(super) sizes: &'a Sizes,
    /// How keys and values are made of a narrow vector, if they are.
    pub(super) latent: Option<Latent>,
    /// Texts are given scores of classes.
    pub(super) classifies: bool,
    /// Rows of the table of positions that the file does not have.
    pub(super) unused: usize,
    /// The config says that the embedding is the head, whatever else is stored.
    pub(super) tied: bool,
    /// Layers behind the last one, which predict further tokens.
    pub(super) further: usize,
}

/// Slices of one tensor of the file, each with the expert that it is of.
type Slices<'a> = Vec<(usize, &'a Source)>;

impl Names<'_> {
    /// The tensors in the order of a file: embedding, blocks, head.
    pub(super) fn collect(
        &self,
        sources: &[Source],
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Output>> {
        let mut found: BTreeMap<(usize, String), Slices<'_>> = BTreeMap::new();
        let (mut towers, mut further) = (0, 0);
        for source in sources {
            let name = match place(&source.name) {
                Place::Tower if self.family.multimodal => {
                    towers += 1;
                    continue;
                }
                Place::Language(name) if self.family.multimodal => name,
                _ => source.name.clone(),
            };
            if self.tied && name == "lm_head.weight" {
                continue;
            }
            if self.is_further(&name) {
                further += 1;
                continue;
            }
            let to = target(self.family, &name, self.sizes.layers, self.sizes.experts)?;
            // What is trained to tell whether sentences follow each other has no use without classes.
            let unused = !self.classifies && to.as_ref().is_some_and(|to| is_head(&to.name));
            if let Some(to) = to.filter(|_| !unused) {
                let slices = found.entry((order(&to.name), to.name)).or_default();
                slices.push((to.expert.unwrap_or(0), source));
            }
        }
        if towers > 0 {
            warnings.push(format!(
                "{towers} tensors that are not of the language model stay behind: llama.cpp loads \
                 them from a file of their own"
            ));
        }
        if further > 0 {
            warnings.push(format!(
                "{further} tensors of layers that predict further tokens stay behind"
            ));
        }
        let mut outputs = Vec::new();
        for ((_, name), slices) in found {
            let output = self.output(name, slices)?;
            match self.latent {
                Some(latent) if output.planned.name.ends_with("attn_kv_b.weight") => {
                    outputs.extend(halves(&output, latent)?);
                }
                _ => outputs.push(output),
            }
        }
        Ok(outputs)
    }

    fn is_further(&self, name: &str) -> bool {
        let inside = name.strip_prefix("model.layers.");
        let number = inside.and_then(|n| n.split('.').next()?.parse::<usize>().ok());
        let layers = self.sizes.layers;
        number.is_some_and(|n| (layers..layers + self.further).contains(&n))
    }

    fn output(&self, name: String, mut slices: Slices<'_>) -> Result<Output> {
        slices.sort_by_key(|(expert, _)| *expert);
        let stacked = name.contains("_exps.");
        let experts = if stacked { self.sizes.experts } else { 1 };
        let complete = slices
            .iter()
            .enumerate()
            .all(|(i, (expert, _))| i == *expert);
        if slices.len() != experts || !complete {
            let what = format!("{} of {experts} experts are there", slices.len());
            return Err(Error::new(Code::MissingTensor, what).at(format!("tensor {name:?}")));
        }
        let mut shape = slices[0].1.shape.clone();
        if let Some((_, odd)) = slices.iter().find(|(_, s)| s.shape != shape) {
            let what = format!("shape {:?} beside {shape:?}", odd.shape);
            return Err(Error::new(Code::Shape, what).at(format!("tensor {:?}", odd.name)));
        }
        if stacked {
            shape.insert(0, experts);
        } else if name.contains("ffn_gate_inp_shexp") && shape.len() == 2 && shape[0] == 1 {
            // The router of the shared expert is a vector to loaders.
            shape.remove(0);
        }
        let skipped = (self.unused > 0 && name == "position_embd.weight").then(|| shape[0]);
        if let Some(rows) = skipped {
            shape[0] = rows.saturating_sub(self.unused);
        }
        let mut output = Output::new(name, shape);
        output.sources = slices.iter().map(|(_, s)| s.name.clone()).collect();
        output.change = match skipped {
            Some(rows) => Change::Skip(self.unused.min(rows), rows),
            None => change(self.family, &output.planned.name, self.sizes.head_dim),
        };
        Ok(output)
    }
}

fn is_head(name: &str) -> bool {
    let module = name.rsplit_once('.').map(|(module, _)| module);
    module == Some(HEAD)
}

/// The two tensors that a matrix of keys and values becomes; `shape` when it is of other heads.
fn halves(whole: &Output, latent: Latent) -> Result<[Output; 2]> {
    let (name, shape) = (&whole.planned.name, &whole.planned.shape);
    if *shape != [latent.heads * latent.rows(), latent.rank] {
        let what = format!(
            "shape {shape:?} for {} heads of {} rows over {} columns",
            latent.heads,
            latent.rows(),
            latent.rank
        );
        return Err(Error::new(Code::Shape, what).at(format!("tensor {:?}", whole.sources[0])));
    }
    let half = |to: &str, half: Half| {
        let name = name.replace("attn_kv_b", to);
        let mut output = Output::new(name, latent.shape(half));
        output.sources.clone_from(&whole.sources);
        output.change = Change::Half(latent, half);
        output
    };
    Ok([half("attn_k_b", Half::Keys), half("attn_v_b", Half::Values)])
}

/// Where a tensor stands: the embedding first, the blocks by number, the rest behind.
fn order(name: &str) -> usize {
    let block = name.strip_prefix("blk.").and_then(|n| n.split('.').next());
    match block.and_then(|n| n.parse::<usize>().ok()) {
        Some(layer) => layer + 1,
        None if ["token_", "position_"].iter().any(|p| name.starts_with(p)) => 0,
        None => usize::MAX,
    }
}
