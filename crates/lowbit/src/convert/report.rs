//! What a conversion did, module by module. No times and no host names.

use super::plan::Plan;
use super::target::{How, Planned};
use crate::job::report::FileReport;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One matrix that was converted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModuleReport {
    /// Module.
    pub name: String,
    /// How the source stored it.
    pub from: String,
    /// How the output stores it: what the plan calls `to`.
    pub scheme: String,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// `exact` when every value is what it was, `rounded` or `merged` otherwise.
    pub how: String,
    /// Why it was rounded.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// `√(Σ (w − q)² / Σ w²)` against what the source stood for; 0 when exact.
    #[serde(default)]
    pub relative_error: f64,
}

impl ModuleReport {
    /// The report of a planned module that went as `how` says.
    pub fn of(planned: &Planned, how: How, why: &str, relative_error: f64) -> Self {
        Self {
            name: planned.name.clone(),
            from: planned.from.clone(),
            scheme: planned.to.clone(),
            rows: planned.shape.0,
            cols: planned.shape.1,
            how: how.name().into(),
            why: why.into(),
            relative_error,
        }
    }
}

/// What earlier units and this run's left behind.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    pub modules: Vec<ModuleReport>,
    pub notes: Vec<String>,
}

/// The whole report as the facade gets it.
pub(super) fn json(plan: &Plan, outcomes: &Outcomes, files: &[FileReport]) -> Value {
    let modules = &outcomes.modules;
    let count = |how: How| modules.iter().filter(|m| m.how == how.name()).count();
    let mut warnings = plan.target.warnings().to_vec();
    warnings.extend(outcomes.notes.iter().cloned());
    json!({
        "format": plan.options.format,
        "layers": modules,
        "exact": count(How::Exact),
        "rounded": count(How::Rounded),
        "merged": count(How::Merged),
        "outputBytes": plan.output_bytes(),
        "files": files,
        "warnings": warnings,
        "fingerprint": plan.identity.fingerprint(),
    })
}
