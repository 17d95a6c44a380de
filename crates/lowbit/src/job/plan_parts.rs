//! Parts of a plan that follow from a request alone.

use super::changes::Changes;
use super::request::Request;
use crate::cpu::Isa;
use crate::error::{Code, Error, Result};
use crate::model::config::Config;
use crate::model::load::TensorInfo;
use crate::transform::Rotation;
use std::collections::BTreeMap;

/// The instruction set, if bytes depend on it: data-free rounding alone gives the same on every host.
pub(super) fn instruction_set(request: &Request, counts: bool) -> Result<Option<Isa>> {
    let isa = request.isa.as_deref();
    let isa = isa.map_or(Ok(Isa::detect()), Isa::parse)?;
    Ok(counts.then_some(isa))
}

/// The rotation of a recipe, if it has one.
pub(super) fn rotation_of(
    changes: &Changes,
    model: &Config,
    seed: u64,
) -> Result<Option<Rotation>> {
    let rotate = changes.rotate.as_ref();
    rotate.map(|r| Rotation::new(model, r, seed)).transpose()
}

/// Every tensor by its name; `duplicate-key` when one is listed twice.
pub(super) fn by_name(tensors: &[TensorInfo]) -> Result<BTreeMap<String, TensorInfo>> {
    let named = tensors.iter().map(|t| (t.name.clone(), t.clone()));
    let by_name: BTreeMap<_, _> = named.collect();
    if by_name.len() != tensors.len() {
        return Err(Error::new(Code::DuplicateKey, "a tensor is listed twice"));
    }
    Ok(by_name)
}
