//! What a quantization did, layer by layer. No times and no host names: the same run gives the
//! same report.

use super::plan::{Layer, Plan};
use crate::cpu::Cpu;
use crate::error::Result;
use crate::matrix::QuantizedMatrix;
use crate::round::factor::Factor;
use crate::round::gptq::Quality;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

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
    /// Why a simpler method was used than the one asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
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
pub(super) struct FileReport {
    pub name: String,
    pub bytes: u64,
    pub sha256: String,
}

/// The distance of a matrix from its source `[rows, cols]`.
pub(super) fn quality(cpu: &Cpu, matrix: &QuantizedMatrix, weights: &[f32]) -> Result<Quality> {
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

/// The whole report as the facade gets it.
pub(super) fn json(plan: &Plan, layers: &[LayerReport], files: &[FileReport]) -> Value {
    let fallbacks: Vec<_> = layers.iter().filter(|l| l.fallback.is_some()).collect();
    json!({
        "method": plan.method.name,
        "format": plan.layout.name(),
        "layers": layers,
        "ignored": plan.ignored,
        "fallbacks": fallbacks.iter().map(|l| &l.name).collect::<Vec<_>>(),
        "weights": layers.iter().map(|l| l.rows * l.cols).sum::<usize>(),
        "bitsPerWeight": plan.sizes.bits_per_weight,
        "modelBitsPerWeight": plan.sizes.model_bits_per_weight,
        "outputBytes": plan.sizes.output_bytes,
        "files": files,
        "warnings": plan.warnings,
        "fingerprint": plan.identity.fingerprint(),
    })
}
