//! NVFP4 out of a conversion: matrices that engines join have one scale above their scales, so all
//! of a set are looked at before the first of them is rounded.
//!
//! ```text
//! wants before:  q   norm   k   v          after:  look q   look k   look v   q   k   v   norm
//! ```
//! They end in one line of the journal: a run that goes on looks again.

use super::layouts::{Layouts, Step};
use super::remake::Remake;
use super::report::ModuleReport;
use super::source::Source;
use super::target::{Form, Given, How, Making, Piece, Want};
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::job::pace;
use crate::model::config::Config;
use crate::model::joined;
use crate::round::rtn;
use crate::scheme::Element;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The largest magnitude of a set of matrices, as far as they were looked at.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared(Arc<AtomicU32>);

impl Shared {
    fn add(&self, values: &[f32]) {
        // Magnitudes are in the order of their bits.
        let bits = rtn::absmax(values).to_bits();
        self.0.fetch_max(bits, Ordering::Relaxed);
    }

    /// What the scale of the set must cover.
    pub(super) fn largest(&self) -> f32 {
        f32::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// A matrix that is only looked at.
#[derive(Debug, Clone)]
pub(super) struct Look(Shared);

impl Making for Look {
    fn take(&mut self, given: Given, _cpu: &Cpu) -> Result<Vec<Piece>> {
        let Given::Rows { rows, .. } = given else {
            return Err(Error::new(Code::Internal, "rows were wanted"));
        };
        self.0.add(&rows.view()?.to_f32()?);
        Ok(Vec::new())
    }

    fn finish(self: Box<Self>, _cpu: &Cpu) -> Result<(Vec<Piece>, Option<ModuleReport>)> {
        Ok((Vec::new(), None))
    }
}

/// Lets the matrices that engines join share a scale, where two or more are rounded to NVFP4.
pub(super) fn share(target: &mut Layouts, model: &Config, source: &Source) -> Result<()> {
    let mut steps: Vec<_> = (target.wants.drain(..).zip(target.steps.drain(..)))
        .map(Some)
        .collect();
    let mut together: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let (places, mut mixed) = (places(&steps), Vec::new());
    for set in joined::sets(model) {
        let all: Vec<_> = set.iter().filter_map(|m| places.get(m)).copied().collect();
        let (anew, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, rounded)| *rounded);
        if anew.len() > 1 {
            let mut anew: Vec<_> = anew.iter().map(|(place, _)| *place).collect();
            anew.sort_unstable();
            together.insert(anew[0], anew.clone());
        }
        if let (Some(_), Some((place, _))) = (anew.first(), kept.first()) {
            let kept = steps[*place].as_ref().map_or("", |(_, step)| module(step));
            mixed.push(format!(
                "{}, of which {kept} keeps its scale",
                set.join(", ")
            ));
        }
    }
    if let Some(first) = mixed.first() {
        let more = match mixed.len() {
            1 => String::new(),
            n => format!(" ({n} sets in all)"),
        };
        target.warnings.push(format!(
            "vLLM and SGLang join {first} and others get a new one{more}"
        ));
    }
    for place in 0..steps.len() {
        match together.get(&place) {
            None => target.put(steps[place].take()),
            Some(set) => {
                let set: Vec<_> = set.iter().filter_map(|i| steps[*i].take()).collect();
                target.put_set(set, source)?;
            }
        }
    }
    Ok(())
}

/// Where the matrices of NVFP4 are, by module, and whether they are rounded.
fn places(steps: &[Option<(Want, Step)>]) -> BTreeMap<String, (usize, bool)> {
    let nvfp4 = |(i, step): (usize, &Option<(Want, Step)>)| match step {
        Some((_, Step::Remake(r))) if r.wanted.scheme.element == Element::Nvfp4 => {
            let rounded = matches!(r.planned.how, How::Rounded | How::Merged);
            Some((r.module.clone(), (i, rounded)))
        }
        _ => None,
    };
    steps.iter().enumerate().filter_map(nvfp4).collect()
}

fn module(step: &Step) -> &str {
    match step {
        Step::Remake(remake) => &remake.module,
        _ => "",
    }
}

impl Layouts {
    fn put(&mut self, step: Option<(Want, Step)>) {
        let Some((want, step)) = step else { return };
        self.wants.push(want);
        self.steps.push(step);
    }

    /// A set that shares a scale: looked at, then made.
    fn put_set(&mut self, set: Vec<(Want, Step)>, source: &Source) -> Result<()> {
        let shared = Shared::default();
        let Some(unit) = set.first().map(|(want, _)| want.unit.clone()) else {
            return Ok(());
        };
        for (want, _) in &set {
            let bytes = source.tensors[want.tensor].stored_bytes()?;
            let look = Want {
                form: Form::Rows { granule: 1 },
                unit: unit.clone(),
                work: pace::bytes_work(bytes),
                ..want.clone()
            };
            self.put(Some((look, Step::Look(Look(shared.clone())))));
        }
        for (want, step) in set {
            let unit = unit.clone();
            let step = match step {
                Step::Remake(remake) => Step::Remake(Box::new(Remake {
                    shared: Some(shared.clone()),
                    ..*remake
                })),
                other => other,
            };
            self.put(Some((Want { unit, ..want }, step)));
        }
        Ok(())
    }
}
