//! What a quantization did, layer by layer. No times and no host names: the same run gives the
//! same report.

use super::cache::CacheReport;
use super::journal::Line;
use super::plan::{Layer, Plan};
use crate::cpu::Cpu;
use crate::error::Result;
use crate::kv_cache::KvCache;
use crate::matrix::QuantizedMatrix;
use crate::round::factor::Factor;
use crate::round::gptq::Quality;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::cmp::Ordering::Equal;

/// One quantized linear.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerReport {
    /// Module.
    pub name: String,
    /// The rounder that made it.
    pub method: String,
    /// Its scheme.
    pub scheme: String,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Mean of (w − q)².
    pub mse: f64,
    /// `√(Σ (w − q)² / Σ w²)`.
    pub relative_error: f64,
    /// Mean over outputs of (w − q)ᵀ·H·(w − q): twice the mean square error of an output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hessian_error: Option<f64>,
    /// Damping used, relative to the mean of the Hessian's diagonal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damp: Option<f64>,
    /// Inputs that were zero for every token; their weights are rounded to nearest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_columns: Option<usize>,
    /// Largest magnitude of an input on the calibration text, as this layer gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_max: Option<f32>,
    /// Share of weights that pruning made zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparsity: Option<f64>,
    /// Why a simpler method was used than the one asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
}

/// One place where a transform changed weights.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TransformReport {
    /// `smoothQuant`, `awq` or `clip`.
    pub kind: String,
    /// Block.
    pub block: usize,
    /// Tensor or module that was divided by scales; the linear that was clipped.
    pub producer: String,
    /// Modules whose columns were multiplied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub consumers: Vec<String>,
    /// AWQ's ratio or SmoothQuant's strength; none where scales stayed 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Estimated error of the consumers' outputs before, relative to the outputs.
    pub loss_before: f64,
    /// The same afterwards.
    pub loss_after: f64,
    /// Smallest scale that took effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smallest: Option<f32>,
    /// Largest scale that took effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub largest: Option<f32>,
    /// Why scales stayed 1, or are there although the estimate speaks against them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flagged: Option<String>,
}

impl LayerReport {
    pub(super) fn new(layer: &Layer, method: &str, quality: Quality) -> Self {
        let (rows, cols) = (layer.linear.rows, layer.linear.cols);
        let relative = quality.squared_error / quality.squared_weight.max(f64::MIN_POSITIVE);
        Self {
            name: layer.linear.module.clone(),
            method: method.into(),
            scheme: layer.scheme.to_string(),
            rows,
            cols,
            mse: quality.squared_error / (rows * cols).max(1) as f64,
            relative_error: relative.sqrt(),
            hessian_error: quality.weighted_error.map(|e| e / rows.max(1) as f64),
            damp: None,
            dead_columns: None,
            input_max: None,
            sparsity: None,
            fallback: None,
        }
    }

    /// Adds what the factorization found.
    pub(super) fn with_factor(mut self, factor: &Factor) -> Self {
        self.damp = Some(factor.damp);
        self.dead_columns = Some(factor.dead);
        self
    }

    /// Says why a simpler method was used.
    pub(super) fn with_fallback(mut self, reason: &str) -> Self {
        self.fallback = Some(reason.into());
        self
    }
}

/// An output file in the report.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FileReport {
    pub name: String,
    pub bytes: u64,
    pub sha256: String,
}

/// The distance of a matrix from its source `[rows, cols]`.
pub(crate) fn quality(cpu: &Cpu, matrix: &QuantizedMatrix, weights: &[f32]) -> Result<Quality> {
    let cols = matrix.cols;
    let mut sums: Vec<Result<(f64, f64)>> = (0..matrix.rows).map(|_| Ok((0.0, 0.0))).collect();
    cpu.run_chunks(&mut sums, 64, true, |chunk, sums| {
        let mut row = vec![0.0f32; cols];
        for (i, sum) in sums.iter_mut().enumerate() {
            let r = chunk * 64 + i;
            *sum = matrix
                .dequantize_row(r, &mut row)
                .map(|()| errors(&weights[r * cols..(r + 1) * cols], &row));
        }
    });
    let mut total = Quality::default();
    for sum in sums {
        let (error, weight) = sum?;
        total.squared_error += error;
        total.squared_weight += weight;
    }
    Ok(total)
}

/// Σ (w − q)² and Σ w².
fn errors(weights: &[f32], values: &[f32]) -> (f64, f64) {
    let mut sums = (0.0, 0.0);
    for (w, q) in weights.iter().zip(values) {
        let (w, d) = (f64::from(*w), f64::from(w - q));
        sums.0 += d * d;
        sums.1 += w * w;
    }
    sums
}

/// What a run leaves behind besides files.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    pub layers: Vec<LayerReport>,
    pub transforms: Vec<TransformReport>,
    /// What came up on the way that the user should know.
    pub notes: Vec<String>,
    /// Scales of the cache, block by block.
    pub caches: Vec<CacheReport>,
}

impl Outcomes {
    /// Adds what a line of the journal says.
    pub(super) fn add(&mut self, line: &Line) {
        self.layers.extend(line.layers.iter().cloned());
        self.transforms.extend(line.transforms.iter().cloned());
        self.notes.extend(line.notes.iter().cloned());
        self.caches.extend(line.cache.iter().cloned());
    }

    /// Layers that a simpler method made than the one asked for.
    fn fallbacks(&self) -> Vec<&str> {
        let fallen = self.layers.iter().filter(|l| l.fallback.is_some());
        fallen.map(|l| l.name.as_str()).collect()
    }

    /// A note for layers whose inputs f16 can hardly hold.
    fn beyond_f16(&self) -> Option<String> {
        // A quarter of what f16 holds: texts that were not calibrated on reach further.
        let margin = 0.25 * 65504.0;
        let large = |l: &&LayerReport| l.input_max.is_some_and(|m| m > margin);
        let worst = self.layers.iter().filter(large);
        let worst = worst.max_by(|a, b| a.input_max.partial_cmp(&b.input_max).unwrap_or(Equal))?;
        Some(format!(
            "inputs of {} reach {}: activations in f16 may overflow, use bf16",
            worst.name,
            worst.input_max.unwrap_or_default()
        ))
    }
}

/// The whole report as the facade gets it.
pub(super) fn json(plan: &Plan, outcomes: &Outcomes, files: &[FileReport]) -> Value {
    let layers = &outcomes.layers;
    let fallbacks = outcomes.fallbacks();
    let mut warnings = plan.warnings.clone();
    warnings.extend(outcomes.notes.iter().cloned());
    warnings.extend(outcomes.beyond_f16());
    let cache = plan
        .kv_cache
        .map(|cache| cache_json(cache, &outcomes.caches));
    json!({
        "kvCache": cache,
        "method": plan.method.name,
        "format": plan.layout.name(),
        "device": plan.device_name(),
        "adapter": plan.device.as_ref().map(super::describe::adapter),
        "layers": layers,
        "transforms": outcomes.transforms,
        "ignored": plan.ignored,
        "fallbacks": fallbacks,
        "config": config(plan, &fallbacks),
        "weights": layers.iter().map(|l| l.rows * l.cols).sum::<usize>(),
        "bitsPerWeight": plan.sizes.bits_per_weight,
        "modelBitsPerWeight": plan.sizes.model_bits_per_weight,
        "memoryPeakBytes": plan.sizes.memory_peak_bytes,
        "outputBytes": plan.sizes.output_bytes,
        "files": files,
        "warnings": warnings,
        "fingerprint": plan.identity.fingerprint(),
    })
}

fn cache_json(cache: KvCache, blocks: &[CacheReport]) -> Value {
    json!({ "scheme": cache.name, "blocks": blocks })
}

/// The text of config.json: the plan's, and which layers are not what was asked for.
fn config(plan: &Plan, fallbacks: &[&str]) -> String {
    let mut config = plan.config.clone();
    if !fallbacks.is_empty() {
        config["lowbit"]["fallback_layers"] = json!(fallbacks);
    }
    format!("{config:#}\n")
}
