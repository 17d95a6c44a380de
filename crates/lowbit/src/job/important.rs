//! Importance of inputs from a file, where calibration would find it.
//!
//! What llama-imatrix counts is what second moments have on their diagonal: E[x²] of every input
//! channel. Scales searched with it need no calibration text.

use super::changes::Changes;
use super::choose;
use super::plan::Layer;
use super::request::{Options, Request};
use crate::error::{Code, Error, Result};
use crate::gguf::gather::{Slot, slots};
use crate::gguf::imatrix::ImatrixFile;
use crate::model::config::Config;
use crate::model::ops::Part;
use crate::round::Kind;
use crate::round::observer::Observer;
use crate::scheme::Element;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// E[x²] of the input channels of linears, by the names of their weights.
pub(super) type Important = BTreeMap<String, Arc<[f32]>>;

impl Request {
    /// The options with every default filled in; with an importance matrix, ranges are found by it.
    pub(super) fn effective(&self) -> Options {
        let mut options = self.options.clone();
        if self.imatrix.is_some() {
            options.observer.get_or_insert_with(|| "imatrix-mse".into());
        }
        options.effective()
    }
}

/// Reads the importance matrix of a request, if it has one, and says what needs calibration still.
///
/// `option` when nothing looks at it, or inputs are changed on the way; `imatrix` naming the first
/// tensor that the file lacks, or whose columns are others.
pub(super) fn read(
    request: &Request,
    model: &Config,
    layers: &[Layer],
    (changes, observer): (&Changes, Observer),
) -> Result<(Important, Option<String>)> {
    let Some(file) = &request.imatrix else {
        let needed_by = choose::needs_calibration(layers, changes, Some(observer));
        return Ok((Important::new(), needed_by));
    };
    refuse(layers, changes, observer)?;
    if request.options.target_bpw.is_some() {
        return Err(unused("targetBpw", "leave out either of them"));
    }
    let imatrix = file.parse()?;
    let (mut blocks, mut rows) = (BTreeMap::new(), BTreeMap::new());
    let mut found = Important::new();
    for layer in layers {
        let weight = &layer.linear.weight;
        let own = match blocks.entry(layer.block) {
            Entry::Occupied(own) => own.into_mut(),
            Entry::Vacant(none) => none.insert(slots_of(model, layer.block)?),
        };
        let slot = own.get(&layer.linear.part);
        let slot = slot.ok_or_else(|| lacks(file, weight, "GGUF has no name for it"))?;
        let experts = match rows.entry(slot.name.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(none) => {
                let all = imatrix.importance(&slot.name, slot.cols, slot.experts);
                let all = all.map_err(|e| e.at(&file.file))?;
                none.insert(all.ok_or_else(|| lacks(file, weight, &slot.name))?)
            }
        };
        found.insert(weight.clone(), experts[slot.expert].values().into());
    }
    Ok((found, choose::needs_calibration(layers, changes, None)))
}

/// The linears of a block; what stands behind the blocks has no row in such files.
fn slots_of(model: &Config, block: usize) -> Result<BTreeMap<Part, Slot>> {
    if block < model.layers {
        return slots(model, block);
    }
    Ok(BTreeMap::new())
}

fn refuse(layers: &[Layer], changes: &Changes, observer: Observer) -> Result<()> {
    if changes.any_transform() {
        return Err(unused(
            "transforms",
            "they change inputs: calibrate instead",
        ));
    }
    if observer != Observer::ImatrixMse {
        return Err(unused("this observer", "use --observer imatrix-mse"));
    }
    let searches = |l: &Layer| l.method.kind != Kind::Hqq && l.scheme.element == Element::Int;
    if layers.iter().any(searches) {
        return Ok(());
    }
    Err(unused(
        "these methods and schemes",
        "use --method rtn or gptq with integers",
    ))
}

fn unused(with: &str, remedy: &str) -> Error {
    let what = format!("an importance matrix is of no use with {with}");
    Error::new(Code::Option, what).remedy(remedy)
}

fn lacks(file: &ImatrixFile, weight: &str, name: &str) -> Error {
    let what = format!("there is nothing of tensor {weight:?} ({name})");
    let error = Error::new(Code::Imatrix, what).at(&file.file);
    error.remedy("collect the importance matrix of this model, or leave the module out by --ignore")
}
