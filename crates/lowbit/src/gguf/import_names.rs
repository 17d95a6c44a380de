//! Names of GGUF back to those of the checkpoint, from the rows that give them.

use super::family::Family;
use super::header::TensorInfo;
use super::import_config::Model;
use super::import_rows::Restore;
use super::tensors::{BLOCK, Change, OUTSIDE, change, number};
use crate::error::{Code, Error, Result};
use crate::model::arch;
use crate::tensor::Dtype;

/// A tensor of the checkpoint, and where its bytes are.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Its name in the checkpoint; its own when the family has none for it.
    pub name: String,
    /// Its type as `gguf::rows` gives it, or as it lies when nothing is to be restored.
    pub dtype: Dtype,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Index of the file.
    pub file: usize,
    /// First byte in the file.
    pub offset: u64,
    /// How many bytes it has in the file.
    pub stored: u64,
    /// What is done to its rows before they are the checkpoint's; none when they already are.
    pub restore: Option<Restore>,
    /// Where the rest of it lies, when it is made of two tensors.
    pub second: Option<Second>,
}

/// The second tensor of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Second {
    /// Index of the file.
    pub file: usize,
    /// First byte in the file.
    pub offset: u64,
    /// How many bytes it has in the file.
    pub stored: u64,
}

/// A name of the checkpoint.
struct Named {
    /// With `{}` for the number of an expert.
    name: String,
    /// It is one slice per expert.
    stacked: bool,
}

/// The name in the checkpoint; none when the family knows no such tensor, `name` for the number of
/// a block that the model does not have.
fn source(model: &Model, family: &Family, name: &str) -> Result<Option<Named>> {
    let Some((module, suffix)) = name.rsplit_once('.') else {
        return Ok(None);
    };
    let plain = |module: &str| Named {
        // The one bias that checkpoints write with an underscore.
        name: format!("{module}.{suffix}")
            .replace(".e_score_correction.bias", ".e_score_correction_bias"),
        stacked: module.contains("{}"),
    };
    // Models with several towers have other names for the same modules.
    let arch = arch::find(model.model_type()).ok();
    let mut outside = family.outside.iter().chain(OUTSIDE);
    if let Some((from, _)) = outside.find(|(_, to)| *to == module) {
        let own = arch.map_or(*from, |arch| match *from {
            "model.embed_tokens" => arch.embed,
            "model.norm" => arch.norm,
            "lm_head" => arch.head,
            other => other,
        });
        return Ok(Some(plain(own)));
    }
    let blocks = match arch {
        Some(arch) if !family.encoder => arch.blocks,
        _ => family.blocks,
    };
    let inside = module.strip_prefix("blk.").and_then(|r| r.split_once('.'));
    let Some((layer, module)) = inside else {
        return Ok(None);
    };
    let layer = number(layer, model.layers, name)?;
    // A family's own rows come first, and stand before those that they replace.
    let mut rows = family.names.iter().chain(BLOCK);
    let found = rows.find(|(_, to)| *to == module);
    Ok(found.map(|(from, _)| plain(&format!("{blocks}.{layer}.{from}"))))
}

/// The name of a tensor that a family has one for.
pub(super) fn name_of(model: &Model, family: &Family, name: &str) -> Result<String> {
    let named = source(model, family, name)?;
    Ok(named.map_or_else(|| name.into(), |n| n.name))
}

/// The tensors that a tensor of file `file` stands for: itself, or one per expert.
///
/// `data` is where the file's data section begins, `floats` the type that blocks are to be decoded
/// to, if they are. `shape` when experts are stacked otherwise than the metadata says.
pub(super) fn places(
    model: &Model,
    tensor: &TensorInfo,
    (file, data): (usize, u64),
    floats: Option<Dtype>,
) -> Result<Vec<Place>> {
    let at = |e: Error| e.at(format!("tensor {:?}", tensor.name));
    let named = match model.family {
        Some(family) => source(model, family, &tensor.name).map_err(at)?,
        None => None,
    };
    let change = match (model.family, &named) {
        (Some(family), Some(_)) => change(family, &tensor.name, model.head_dim),
        _ => Change::None,
    };
    let one = |name: String, shape: Vec<usize>, offset: u64, stored: u64| -> Result<Place> {
        let (dtype, restore) = Restore::of(tensor.ty, &shape, change, floats).map_err(at)?;
        Ok(Place {
            name,
            dtype,
            shape,
            file,
            offset: data + tensor.offset + offset,
            stored,
            restore,
            second: None,
        })
    };
    let mut shape = tensor.shape.clone();
    let Some(named) = named else {
        return Ok(vec![one(tensor.name.clone(), shape, 0, tensor.bytes)?]);
    };
    if !named.stacked {
        // A vector to loaders of GGUF, a matrix of one row in the checkpoint.
        if tensor.name.contains("ffn_gate_inp_shexp") && shape.len() == 1 {
            shape.insert(0, 1);
        }
        return Ok(vec![one(named.name, shape, 0, tensor.bytes)?]);
    }
    if shape.len() < 2 || shape[0] != model.experts || model.experts == 0 {
        let what = format!("shape {shape:?} for {} experts", model.experts);
        return Err(at(Error::new(Code::Shape, what)));
    }
    let experts = shape.remove(0);
    let stored = tensor.bytes / experts as u64;
    let each = (0..experts).map(|expert| {
        let name = named.name.replace("{}", &expert.to_string());
        one(name, shape.clone(), expert as u64 * stored, stored)
    });
    each.collect()
}
