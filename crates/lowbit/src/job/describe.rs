//! A plan as JSON: what `lowbit quantize --dry-run` shows.

use super::files::File;
use super::inputs;
use super::pace;
use super::plan::{Layer, Plan};
use super::seal::Seal;
use super::served::{self, Parallel};
use super::step::Step;
use crate::model::accelerator::Adapter;
use crate::model::ops::Part;
use crate::model::weights;
use crate::transform::Producer;
use serde_json::{Map, Value, json};

impl Plan {
    /// The plan as the port gives it out.
    pub fn to_json(&self) -> Value {
        let file = |f: &File| json!({ "file": f.name, "bytes": f.bytes });
        let sizes = &self.sizes;
        let stages = sizes.memory_stages.iter();
        let stages: Map<_, _> = stages.map(|(s, b)| ((*s).into(), json!(b))).collect();
        let kind = match self.budget {
            Some(_) => "sensitivity",
            None => "quantize",
        };
        let mut out = json!({
            "kind": kind,
            "layers": self.layers.iter().map(layer).collect::<Vec<_>>(),
            "ignored": self.ignored,
            "transforms": self.transforms(),
            "prune": self.effective.prune,
            "outputs": self.files.list.iter().map(file).collect::<Vec<_>>(),
            "bitsPerWeight": sizes.bits_per_weight,
            "modelBitsPerWeight": sizes.model_bits_per_weight,
            "memoryPeakBytes": sizes.memory_peak_bytes,
            "memoryStages": stages,
            "deviceMemoryBytes": sizes.device_bytes,
            "scratchBytes": sizes.scratch_bytes,
            "outputBytes": sizes.output_bytes,
            "device": self.device_name(),
            "adapter": self.device.as_ref().map(adapter),
            "needsCalibration": self.calibration.is_some(),
            "workUnits": self.work_units(),
            "options": self.effective,
            "fingerprint": self.identity.fingerprint(),
            "config": format!("{:#}\n", self.config),
            "warnings": self.warnings,
            "guessed": self.model.guess.is_some(),
            "torn": served::torn(self),
            "tensorParallel": served::parallel(self).iter().map(parallel).collect::<Vec<_>>(),
        });
        if let Some(index) = &self.files.index {
            out["index"] = json!(index);
        }
        out
    }

    /// `cpu` or `gpu`.
    pub(super) fn device_name(&self) -> &'static str {
        self.device.as_ref().map_or("cpu", |_| "gpu")
    }

    /// What the whole run takes, in the units of its progress.
    fn work_units(&self) -> u64 {
        let steps = Step::list(self).into_iter().map(|s| s.work(self));
        // A survey writes nothing that would be read back.
        let seal = self.budget.is_none().then(|| Seal::work(&self.files));
        pace::units(steps.sum::<u64>() + seal.unwrap_or(0))
    }

    /// Every place where a transform changes weights.
    fn transforms(&self) -> Vec<Value> {
        let mut all = Vec::new();
        if let Some(rotate) = &self.changes.rotate {
            all.push(json!({ "kind": "rotate", "r1": rotate.r1, "r2": rotate.r2 }));
        }
        for block in 0..self.model.layers {
            let linears = weights::linears(&self.model, block);
            let module = |part: &Part| inputs::module(&linears, *part).map(String::from);
            for planned in inputs::scalings(self, block) {
                let producer = match planned.mapping.producer {
                    // A norm is a row of the architecture like any other.
                    Producer::Norm(part) => self.norm_module(block, part),
                    Producer::Rows(part) => module(&part),
                };
                let consumers = planned.mapping.consumers.iter().filter_map(module);
                all.push(json!({
                    "kind": planned.name,
                    "block": block,
                    "producer": producer,
                    "consumers": consumers.collect::<Vec<_>>(),
                }));
            }
        }
        all
    }

    fn norm_module(&self, block: usize, part: Part) -> Option<String> {
        let rows = self.model.rows(block);
        let row = rows.iter().find(|r| r.part == part)?;
        Some(self.model.module_of(block, row))
    }
}

/// What the journal, the plan and the report say about an accelerator.
pub(super) fn adapter(a: &Adapter) -> Value {
    json!({ "name": a.name, "backend": a.backend, "driver": a.driver, "software": a.software })
}

fn parallel(p: &Parallel) -> Value {
    match &p.why {
        None => json!({ "ranks": p.ranks }),
        Some(why) => json!({ "ranks": p.ranks, "why": why }),
    }
}

fn layer(l: &Layer) -> Value {
    json!({
        "name": l.linear.module,
        "rows": l.linear.rows,
        "cols": l.linear.cols,
        "scheme": l.scheme.to_string(),
        "method": l.method.name,
    })
}
