//! What a quantization will take and leave: bits, bytes, memory.

use super::inputs;
use super::pace::{self, PIECE_BYTES};
use super::plan::{Layer, Plan};
use super::stacked::cuts;
use crate::error::Result;
use crate::model::weights;
use crate::tensor::checked_bytes;
use crate::transform::InputStats;

/// Sizes of a planned run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sizes {
    /// Bits per quantized weight, scales and zero points included.
    pub bits_per_weight: f64,
    /// Bits per parameter of the whole model.
    pub model_bits_per_weight: f64,
    /// Memory that the job itself takes at most, without the process around it.
    pub memory_peak_bytes: u64,
    /// The same by stage; the largest is the peak.
    pub memory_stages: Vec<(&'static str, u64)>,
    /// Memory of the accelerator that calibration takes at most, without its driver's own.
    pub device_bytes: u64,
    /// Disk that activations take while the job runs.
    pub scratch_bytes: u64,
    /// Length of all output files.
    pub output_bytes: u64,
}

/// Sizes of a plan whose files are laid out.
pub(super) fn of(plan: &Plan, threads: usize) -> Result<Sizes> {
    let mut layer_bits = 0;
    for layer in &plan.layers {
        layer_bits += plan.layer_bits(layer)?;
    }
    let weights: u64 = plan.layers.iter().map(weights_of).sum();
    let elements = |t: &crate::model::load::TensorInfo| t.shape.iter().product::<usize>() as u64;
    let parameters: u64 = plan.source.values().map(elements).sum();
    let output_bytes = plan.files.list.iter().map(|f| f.bytes).sum();
    let tokens = plan.calibration.map_or(0, |c| c.samples * c.length) as u64;
    let stages = memory_stages(plan, threads as u64)?;
    Ok(Sizes {
        bits_per_weight: layer_bits as f64 / weights.max(1) as f64,
        model_bits_per_weight: 8.0 * plan.files.data_bytes() as f64 / parameters.max(1) as f64,
        memory_peak_bytes: stages.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0),
        memory_stages: stages,
        device_bytes: match plan.device {
            Some(_) => device_bytes(plan)?,
            None => 0,
        },
        scratch_bytes: 2 * 4 * tokens * plan.model.hidden as u64,
        output_bytes,
    })
}

fn weights_of(layer: &Layer) -> u64 {
    layer.linear.rows as u64 * layer.linear.cols as u64
}

/// What each stage holds at once, over all blocks.
fn memory_stages(plan: &Plan, threads: u64) -> Result<Vec<(&'static str, u64)>> {
    let mut stages: Vec<(&'static str, u64)> = Vec::new();
    let mut add = |stage: &'static str, bytes: u64| {
        // Pieces on their way in and out come on top of everything.
        let bytes = bytes + 2 * PIECE_BYTES;
        match stages.iter_mut().find(|(name, _)| *name == stage) {
            Some((_, most)) => *most = bytes.max(*most),
            None => stages.push((stage, bytes)),
        }
    };
    if plan.calibration.is_some() {
        // As read and as arranged for look-ups.
        let embedding = plan.tensor_bytes(&format!(
            "{}.weight",
            plan.model.named(plan.model.arch().embed)
        ))?;
        add("embed", 2 * embedding + chunk_bytes(plan));
    }
    for block in 0..plan.model.layers {
        if plan.streams() {
            // Source rows, the same widened, and the matrix in codes and once more encoded.
            let bytes = |l: &Layer| weights_of(l) * if cuts(&l.scheme) { 2 } else { 6 };
            let largest = plan.layers_of(block).map(bytes).max();
            add("quantize", largest.unwrap_or(0) + 3 * PIECE_BYTES);
            continue;
        }
        let held = Held::of(plan, block)?;
        add("read", held.weights + held.largest);
        if plan.calibration.is_some() {
            add(
                "calibrate",
                held.weights + held.statistics + held.pass(plan),
            );
            add("forward", held.weights + held.pass(plan));
        }
        if !plan.changes.scalings.is_empty() {
            // The second moments once more, as products take them, and a piece of each matrix.
            let n = held.widest;
            add(
                "transform",
                held.weights + held.moments + 4 * n * n + 3 * PIECE_BYTES,
            );
        }
        add(
            "quantize",
            held.weights + held.moments + held.rounding(threads),
        );
    }
    Ok(stages)
}

/// A block's matrices, as stored with second moments or as floats once they are quantized, with the
/// activations of a pass and as much to read them back.
fn device_bytes(plan: &Plan) -> Result<u64> {
    let mut most = 0;
    for block in 0..plan.model.layers {
        let held = Held::of(plan, block)?;
        let wanted = inputs::wanted(plan, block);
        let sums = wanted.iter().map(|i| i.width.next_multiple_of(64) as u64);
        let moments: u64 = sums.map(|n| 4 * n * n).sum();
        let quantized = 4 * pace::block_weights(plan, block);
        let matrices = (held.weights + moments).max(quantized);
        most = most.max(matrices + 2 * held.activations);
    }
    Ok(most)
}

/// A chunk of activations as bytes and as floats.
fn chunk_bytes(plan: &Plan) -> u64 {
    let length = plan.calibration.map_or(0, |c| c.length);
    2 * (pace::samples_per_chunk(plan) * length * plan.model.hidden * 4) as u64
}

/// What is in memory while one block is worked on.
struct Held {
    /// The block as passes run it, and as floats where something changes it.
    weights: u64,
    /// Its largest tensor.
    largest: u64,
    /// Statistics of inputs while they are added to.
    statistics: u64,
    /// What is kept of them.
    moments: u64,
    /// The widest input.
    widest: u64,
    /// Weights of the largest linear.
    linear: u64,
    /// Activations of a piece of a sample, with the keys and values before it.
    activations: u64,
    /// A linear as floats, and its pruned copy.
    copies: u64,
}

impl Held {
    fn of(plan: &Plan, block: usize) -> Result<Self> {
        let model = &plan.model;
        let (mut stored, mut largest, mut elements) = (0, 0, 0);
        for needed in weights::block_tensors(model, block) {
            let bytes = plan.tensor_bytes(&needed.name)?;
            (stored, largest) = (stored + bytes, bytes.max(largest));
            elements += needed.shape.iter().product::<usize>() as u64;
        }
        let (wide, rotated) = (plan.changes.widen(), plan.rotation.is_some());
        let running = if rotated { 4 * elements } else { stored };
        let floats = if wide { 4 * elements } else { 0 };
        let inputs = inputs::wanted(plan, block);
        let calibrated = plan.calibration.is_some();
        let inputs: Vec<_> = inputs.iter().filter(|_| calibrated).collect();
        let tokens = pace::tokens_per_pass(plan, block) as u64;
        let length = plan.calibration.map_or(0, |c| c.length) as u64;
        let keys = (model.kv_heads * model.head_dim) as u64;
        let queries = (model.heads * model.head_dim) as u64;
        let slots =
            2 * model.hidden as u64 + 2 * queries + 2 * keys + 2 * model.intermediate as u64;
        let linear = plan.layers_of(block).map(weights_of).max().unwrap_or(0);
        Ok(Self {
            weights: if calibrated {
                running + floats
            } else {
                stored.max(floats)
            },
            largest: if wide { stored + largest } else { largest },
            statistics: inputs.iter().map(|i| InputStats::bytes(i.width)).sum(),
            moments: inputs
                .iter()
                .map(|i| 4 * (i.width * (i.width + 1)) as u64)
                .sum(),
            widest: inputs.iter().map(|i| i.width as u64).max().unwrap_or(0),
            linear,
            activations: 4 * (tokens * slots + 2 * length * keys),
            copies: if wide { 8 * linear } else { 0 },
        })
    }

    /// A chunk of activations with a pass over a piece of it.
    fn pass(&self, plan: &Plan) -> u64 {
        chunk_bytes(plan) + self.activations
    }

    /// A factor and H, with tiles and codes; the matrix that they make.
    fn rounding(&self, threads: u64) -> u64 {
        let n = self.widest;
        8 * n * n + threads * 64 * n * 26 + 2 * self.linear + self.copies
    }
}

impl Plan {
    /// Bits of a layer's codes, scales and zeros.
    pub(super) fn layer_bits(&self, layer: &Layer) -> Result<u64> {
        let mut bits = 0;
        for tensor in self.outputs_of(layer) {
            // The shape tensor is a label, not a cost that grows with the weights.
            if !tensor.name.ends_with("weight_shape") {
                bits += 8 * tensor.bytes()?;
            }
        }
        Ok(bits)
    }

    /// Length of a source tensor.
    pub(super) fn tensor_bytes(&self, name: &str) -> Result<u64> {
        let info = self.tensor(name)?;
        checked_bytes(info.dtype, &info.shape)
    }
}
