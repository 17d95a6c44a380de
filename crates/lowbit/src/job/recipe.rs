//! The steps of a recipe, as the facade hands them over: checked names and numbers, in order.
//!
//! ```text
//! transforms, in order ─► pruning ─► rounding (method and scheme, rules for some layers)
//! ```
//! The facade reads recipes as people write them and puts their steps into these types.

use serde::{Deserialize, Serialize};

/// A change of weights that leaves the function of the unquantized model as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", deny_unknown_fields)]
pub enum Transform {
    /// Hadamard rotations fused into weights (arXiv 2405.16406, R1 and R2); needs no data.
    Rotate(Rotate),
    /// Channels scaled by the largest inputs (arXiv 2211.10438).
    SmoothQuant(SmoothQuant),
    /// Channels scaled by a search over the error of outputs (arXiv 2306.00978).
    Awq(Awq),
}

/// Which rotations are fused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Rotate {
    /// Over the residual stream.
    pub r1: bool,
    /// Over the values of each head.
    pub r2: bool,
    /// Signs drawn by `Options::seed` in front of the Hadamard matrix.
    pub random: bool,
}

impl Default for Rotate {
    fn default() -> Self {
        Self {
            r1: true,
            r2: true,
            random: false,
        }
    }
}

/// How SmoothQuant moves ranges from inputs to weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct SmoothQuant {
    /// α: 0 leaves the inputs alone, 1 takes all of their range.
    pub strength: f64,
    /// Another strength for consumers that a pattern fits; the first that fits decides.
    pub layers: Vec<(String, f64)>,
    /// Search the strength of each place instead, by the error of its outputs.
    pub search: bool,
    /// Consumers that are left alone.
    pub ignore: Vec<String>,
}

impl Default for SmoothQuant {
    fn default() -> Self {
        Self {
            strength: 0.5,
            layers: Vec::new(),
            search: false,
            ignore: Vec::new(),
        }
    }
}

/// How AWQ searches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Awq {
    /// Scales take the weights' size into account as well as the inputs'.
    pub duo: bool,
    /// Ratios tried, from 0 to below 1.
    pub grid: usize,
    /// Shrink each group's range afterwards where that helps outputs.
    pub clip: bool,
    /// Consumers that are left alone.
    pub ignore: Vec<String>,
}

impl Default for Awq {
    fn default() -> Self {
        Self {
            duo: true,
            grid: 20,
            clip: true,
            ignore: Vec::new(),
        }
    }
}

/// Weights that become zero before rounding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Prune {
    /// `magnitude`, `wanda` or `sparsegpt`.
    pub method: String,
    /// Share of weights that become zero.
    #[serde(default = "half")]
    pub sparsity: f64,
    /// `n:m`: n of every m neighbours along the row become zero; unstructured otherwise.
    #[serde(default)]
    pub pattern: Option<String>,
    /// Linears that are left alone.
    #[serde(default)]
    pub ignore: Vec<String>,
}

fn half() -> f64 {
    0.5
}

/// What differs for the linears that a pattern fits; the first rule that fits decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerRule {
    /// A name, `re:` and an expression, or the class `Linear`.
    pub pattern: String,
    /// Their scheme; the recipe's own when absent.
    #[serde(default)]
    pub scheme: Option<String>,
    /// Their method; the recipe's own when absent.
    #[serde(default)]
    pub method: Option<String>,
}
