//! Target: quantized safetensors in any layout, from any other.
//!
//! Each module keeps its scheme, or gets the nearest one that holds the same values; where none
//! does, a scheme must be asked for. Nothing is rounded without being asked for.

use super::float::{Cast, Copy};
use super::joint::Look;
use super::planning::Planning;
use super::remake::Remake;
use super::request::Request;
use super::source::Source;
use super::target::{Making, Planned, Target, Want};
use crate::error::Result;
use crate::job::files::Files;
use crate::layout::Layout;
use serde_json::Value;

/// What is done with a tensor.
#[derive(Debug)]
pub(super) enum Step {
    Copy(Copy),
    Cast(Cast),
    Remake(Box<Remake>),
    Look(Look),
}

#[derive(Debug)]
pub(super) struct Layouts {
    pub(super) files: Files,
    pub(super) wants: Vec<Want>,
    pub(super) steps: Vec<Step>,
    pub(super) planned: Vec<Planned>,
    pub(super) config: Value,
    pub(super) bits: f64,
    /// Weights of the largest matrix.
    pub(super) largest: u64,
    pub(super) warnings: Vec<String>,
}

/// Plans it.
///
/// `unsupported` for a source without a quantized matrix; `scheme` names the first module that the
/// layout cannot hold.
pub(super) fn make(
    request: &Request,
    source: &Source,
    layout: &'static dyn Layout,
) -> Result<Box<dyn Target>> {
    let mut plan = Planning::new(request, source, layout)?;
    for (i, tensor) in source.tensors.iter().enumerate() {
        if source.is_cache_scale(tensor) && !layout.holds_cache() {
            continue;
        }
        plan.add(i, tensor)?;
    }
    Ok(Box::new(plan.finish(request, source)?))
}

impl Layouts {
    pub(super) fn empty() -> Self {
        Self {
            files: Files::default(),
            wants: Vec::new(),
            steps: Vec::new(),
            planned: Vec::new(),
            config: Value::Null,
            bits: 0.0,
            largest: 0,
            warnings: Vec::new(),
        }
    }
}

impl Target for Layouts {
    fn files(&self) -> &Files {
        &self.files
    }

    fn wants(&self) -> &[Want] {
        &self.wants
    }

    fn begin(&self, want: usize, _source: &Source) -> Result<Box<dyn Making>> {
        Ok(match &self.steps[want] {
            Step::Copy(copy) => Box::new(copy.clone()),
            Step::Cast(cast) => Box::new(cast.clone()),
            Step::Remake(remake) => Box::new((**remake).clone()),
            Step::Look(look) => Box::new(look.clone()),
        })
    }

    fn planned(&self) -> &[Planned] {
        &self.planned
    }

    fn config(&self) -> Option<&Value> {
        Some(&self.config)
    }

    fn bits_per_weight(&self) -> Option<f64> {
        Some(self.bits)
    }

    fn memory_bytes(&self) -> u64 {
        // Floats of a matrix that must be rounded whole, and the result twice.
        self.largest * 4
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }
}
