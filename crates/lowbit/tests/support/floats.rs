//! Models whose weights tests change: widened to f32, and back to what runs.

use super::{Checkpoint, tokens};
use lowbit::Dtype;
use lowbit::cpu::Cpu;
use lowbit::kernels::matmul::Weight;
use lowbit::model::config::Config;
use lowbit::model::forward::{LayerCache, Scratch, embed_from, run_block};
use lowbit::model::load::{Loader, Piece};
use lowbit::model::ops::Part;
use lowbit::model::{Block, Model, Slotted};
use lowbit::tensor::round_to;
use lowbit::transform::{FloatBlock, InputStats, Mapping, Matrix, Producer, fold};
use std::sync::Arc;

/// A model in f32, head and embedding apart.
#[derive(Debug, Clone)]
pub(crate) struct Floats {
    pub(crate) config: Config,
    pub(crate) embed: Matrix,
    pub(crate) blocks: Vec<FloatBlock>,
    pub(crate) norm: Vec<f32>,
    pub(crate) head: Matrix,
}

impl Floats {
    /// Widens every weight of a checkpoint.
    pub(crate) fn open(checkpoint: &Checkpoint) -> Self {
        let mut loader = Loader::new(&checkpoint.source).expect("a checkpoint");
        let (mut embed, mut head, mut norm, mut blocks) = (None, None, Vec::new(), Vec::new());
        while let Some(names) = loader.wants() {
            let wanted = names.iter().map(|n| checkpoint.tensors[n].clone());
            let piece = loader.supply(wanted.collect()).expect("tensors that fit");
            let widen = |stored| Matrix::from_stored(&stored);
            match piece {
                Piece::Embed(w) => embed = widen(w).ok(),
                Piece::Block(_, block) => blocks.push(block.map(widen).expect("floats")),
                Piece::Norm(v) => norm = v,
                Piece::Head(w) => head = widen(w).ok(),
                Piece::Tail(_) => {}
            }
        }
        let embed = embed.expect("the embedding comes first");
        Self {
            config: loader.config().clone(),
            head: head.unwrap_or_else(|| embed.clone()),
            embed,
            blocks,
            norm,
        }
    }

    /// The form that runs.
    pub(crate) fn model(&self) -> Model {
        let weight = |m: &Matrix| Arc::new(m.to_weight().expect("a matrix"));
        Model {
            config: self.config.clone(),
            embed: weight(&self.embed),
            blocks: self.blocks.iter().map(running).collect(),
            norm: self.norm.clone(),
            head: Some(weight(&self.head)),
            tail: None,
        }
    }

    /// Rounds everything to what `dtype` stores.
    pub(crate) fn store_as(&mut self, dtype: Dtype) {
        let round = |values: &mut [f32]| values.iter_mut().for_each(|v| *v = round_to(dtype, *v));
        let offset = self.config.arch().norm_offset;
        let norm = |values: &mut [f32]| {
            let stored = |v: f32| round_to(dtype, v - offset) + offset;
            for v in values {
                *v = stored(*v);
            }
        };
        round(&mut self.embed.values);
        round(&mut self.head.values);
        norm(&mut self.norm);
        for (_, slotted) in self.blocks.iter_mut().flat_map(|b| &mut b.weights) {
            match slotted {
                Slotted::Vector(v) => norm(v),
                Slotted::Matrix { weight, bias } => {
                    round(&mut weight.values);
                    if let Some(bias) = bias {
                        round(bias);
                    }
                }
            }
        }
    }
}

/// A block in the form that runs.
pub(crate) fn running(block: &FloatBlock) -> Block<Weight> {
    let placed = block.clone().map(|m| m.to_weight());
    placed.expect("matrices")
}

/// Hidden states of the first samples of the calibration set, 512 tokens each.
pub(crate) fn calibration(floats: &Floats, samples: usize) -> Vec<Vec<f32>> {
    let embed = floats.embed.to_weight().expect("a matrix");
    let tokens = tokens("calibration-tokens.bin");
    let sample = |tokens| embed_from(&embed, tokens).expect("tokens of the vocabulary");
    tokens.chunks_exact(512).take(samples).map(sample).collect()
}

/// Statistics of shared inputs, by the parts that read them.
pub(crate) type Inputs = Vec<(Vec<Part>, InputStats)>;

/// Statistics of every shared input of a block, by the first part that reads it, and outputs.
pub(crate) fn calibrate(
    cpu: &Cpu,
    config: &Config,
    block: &Block<Weight>,
    samples: &[Vec<f32>],
) -> (Inputs, Vec<Vec<f32>>) {
    let mut found = Inputs::new();
    let mut scratch = Scratch::new(config);
    let mut outputs = Vec::new();
    for sample in samples {
        let mut hidden = sample.clone();
        let mut tap = |parts: &[Part], x: &[f32]| {
            let at = found.iter().position(|(p, _)| p == parts);
            let at = at.unwrap_or_else(|| {
                let n = block.matrix(parts[0]).0.cols();
                found.push((parts.to_vec(), InputStats::new(n)));
                found.len() - 1
            });
            found[at].1.add(cpu, x);
            Ok(())
        };
        let cache = &mut LayerCache::default();
        run_block(cpu, &mut scratch, block, cache, &mut hidden, Some(&mut tap)).expect("a pass");
        outputs.push(hidden);
    }
    for (_, stats) in &mut found {
        stats.finish(cpu);
    }
    (found, outputs)
}

/// A checkpoint whose norms have outliers: some channels of each norm that linears read are
/// multiplied by `factor`, a power of two, and the linears' columns divided, so that every value
/// stays exact in its stored type and the function the same.
pub(crate) fn with_outliers(source: &Checkpoint, floats: &Floats, factor: f32) -> Checkpoint {
    let mut changed = source.clone();
    for layer in 0..floats.config.layers {
        let linears = lowbit::model::weights::linears(&floats.config, layer);
        let mut block = floats.blocks[layer].clone();
        for mapping in lowbit::transform::mappings(&floats.config, layer) {
            let Producer::Norm(norm) = mapping.producer else {
                continue;
            };
            let n = block.vector(norm).len();
            // A few channels, other ones in every norm.
            let outlier = |j: usize| (j * 37 + layer * 11).is_multiple_of(61);
            let scale = |j| if outlier(j) { 1.0 / factor } else { 1.0 };
            let scales: Vec<f32> = (0..n).map(scale).collect();
            let effective = fold(&mut block, &mapping, &scales, Dtype::F32, 0.0);
            assert_eq!(effective, scales, "powers of two are exact");
            store(
                &mut changed,
                &floats.config,
                layer,
                norm,
                block.vector(norm),
            );
            for part in &mapping.consumers {
                let linear = linears.iter().find(|l| l.part == *part).expect("a linear");
                put(&mut changed, &linear.weight, &block.matrix(*part).0.values);
            }
        }
    }
    changed
}

fn store(to: &mut Checkpoint, config: &Config, layer: usize, part: Part, values: &[f32]) {
    let rows = (config.arch().rows)(config, layer);
    let row = rows.iter().find(|r| r.part == part).expect("a row");
    let name = format!("{}.{layer}.{}.weight", config.arch().blocks, row.module);
    put(to, &name, values);
}

/// Replaces a tensor's values, which its type must hold exactly.
fn put(to: &mut Checkpoint, name: &str, values: &[f32]) {
    let tensor = to.tensors.get_mut(name).expect("a tensor of the source");
    let bytes = lowbit::tensor::bytes_from_f32(tensor.dtype, values).expect("a float type");
    tensor.bytes = bytes;
    let stored = tensor.view().and_then(|t| t.to_f32()).expect("floats");
    assert_eq!(stored, values, "{name} is exact");
}

/// The mapping of a block with this consumer.
pub(crate) fn mapping_of(floats: &Floats, layer: usize, consumer: Part) -> Mapping {
    let all = lowbit::transform::mappings(&floats.config, layer);
    let found = all.into_iter().find(|m| m.consumers.contains(&consumer));
    found.expect("a mapping")
}
