//! What a quantization will take and leave: bits, bytes, memory.

use super::pace::{self, PIECE_BYTES};
use super::plan::{Layer, Plan};
use crate::error::Result;
use crate::model::weights;
use crate::round::hessian::Hessian;
use crate::tensor::checked_bytes;

/// Sizes of a planned run.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sizes {
    /// Bits per quantized weight, scales and zero points included.
    pub bits_per_weight: f64,
    /// Bits per parameter of the whole model.
    pub model_bits_per_weight: f64,
    /// Memory that the job itself takes at most, without the process around it.
    pub memory_peak_bytes: u64,
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
    Ok(Sizes {
        bits_per_weight: layer_bits as f64 / weights.max(1) as f64,
        model_bits_per_weight: 8.0 * plan.files.data_bytes() as f64 / parameters.max(1) as f64,
        memory_peak_bytes: memory_peak(plan, threads as u64)?,
        scratch_bytes: 2 * 4 * tokens * plan.model.hidden as u64,
        output_bytes,
    })
}

fn weights_of(layer: &Layer) -> u64 {
    layer.linear.rows as u64 * layer.linear.cols as u64
}

/// The largest of what the stages hold at once.
fn memory_peak(plan: &Plan, threads: u64) -> Result<u64> {
    let mut peak = 0;
    for block in 0..plan.model.layers {
        let held = if plan.calibration.is_some() {
            calibrated_peak(plan, block, threads)?
        } else {
            // Source rows, the same widened, and the matrix in codes and once more encoded.
            let sizes = plan.layers_of(block).map(weights_of);
            sizes.max().unwrap_or(0) * 2 + 3 * PIECE_BYTES
        };
        peak = peak.max(held);
    }
    if plan.calibration.is_some() {
        // As read and as arranged for look-ups.
        let embedding = plan.tensor_bytes(&format!("{}.weight", plan.model.arch().embed))?;
        peak = peak.max(2 * embedding + chunk_bytes(plan));
    }
    Ok(peak + 2 * PIECE_BYTES)
}

/// A chunk of activations as bytes and as floats.
fn chunk_bytes(plan: &Plan) -> u64 {
    let length = plan.calibration.map_or(0, |c| c.length);
    2 * (pace::samples_per_chunk(plan) * length * plan.model.hidden * 4) as u64
}

/// Block, Hessians and either a chunk with its pass or a factor with its tiles.
fn calibrated_peak(plan: &Plan, block: usize, threads: u64) -> Result<u64> {
    let model = &plan.model;
    let mut stored = 0;
    let mut largest = 0;
    for needed in weights::block_tensors(model, block) {
        let bytes = plan.tensor_bytes(&needed.name)?;
        stored += bytes;
        largest = largest.max(bytes);
    }
    let mut widths: Vec<_> = plan.layers_of(block).map(|l| l.linear.cols).collect();
    widths.dedup();
    let hessians: u64 = widths.iter().map(|n| Hessian::bytes(*n)).sum();
    let tokens = pace::tokens_per_pass(plan, block) as u64;
    let length = plan.calibration.map_or(0, |c| c.length) as u64;
    let keys = (model.kv_heads * model.head_dim) as u64;
    let queries = (model.heads * model.head_dim) as u64;
    let wide = 2 * model.hidden as u64 + 2 * queries + 2 * keys + 2 * model.intermediate as u64;
    let pass = 4 * (tokens * wide + 2 * length * keys);
    let n = widths.iter().copied().max().unwrap_or(0) as u64;
    let codes = plan.layers_of(block).map(weights_of).max().unwrap_or(0);
    let rounding = 4 * n * n + threads * 64 * n * 10 + 2 * codes;
    Ok(stored + largest + hessians + rounding.max(chunk_bytes(plan) + pass))
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
