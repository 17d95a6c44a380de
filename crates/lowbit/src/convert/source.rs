//! A checkpoint as a conversion sees it: tensors by the names that the model has for them, however
//! each is stored.
//!
//! ```text
//! files:  q_proj.weight_packed, q_proj.weight_scale, q_proj.weight_shape, norm.weight
//! here:   q_proj.weight [4096, 4096] in w4g128,                           norm.weight [4096]
//! ```

use super::lora::{Edit, Lora};
use super::sizes;
pub(super) use super::stored::FLOAT_NAMES;
pub use super::stored::{Coding, Quantized, Stored};
use crate::error::{Code, Error, Result};
use crate::job::request::{TensorEntry, infos};
use crate::kv_cache::KvCache;
use crate::layout::{self, Resolver};
use crate::model::config::Config;
use crate::model::load::{self, Loader, TensorInfo};
use crate::tensor::{Dtype, checked_bytes};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A tensor by the name that the model has for it.
#[derive(Debug)]
pub struct Logical {
    /// Name, as in an unquantized checkpoint: `….weight`.
    pub name: String,
    /// Type as stored; that of the model's floats for a quantized matrix.
    pub dtype: Dtype,
    /// Extents, outermost first; `[outputs, inputs]` for a quantized matrix.
    pub shape: Vec<usize>,
    /// How it is stored.
    pub stored: Stored,
    /// What an adapter does to it.
    pub(super) edit: Option<Edit>,
}

impl Logical {
    pub(super) fn new(name: &str, dtype: Dtype, shape: &[usize], stored: Stored) -> Self {
        Self {
            name: name.into(),
            dtype,
            shape: shape.to_vec(),
            stored,
            edit: None,
        }
    }

    /// The module: the name without `.weight`.
    pub fn module(&self) -> &str {
        self.name.strip_suffix(".weight").unwrap_or(&self.name)
    }

    /// Whether it is a linear that quantized layouts hold: of a layout now, or one of the model's
    /// blocks. GGUF quantizes the embedding and the head too.
    pub(super) fn is_linear(&self, model: Option<&Config>) -> bool {
        let Some(quantized) = self.quantized() else {
            return false;
        };
        match quantized.coding {
            Coding::Layout(..) => true,
            Coding::Blocks(_) => model.is_some_and(|m| sizes::is_linear(m, self.module())),
        }
    }

    /// Whether an adapter changes its values.
    pub fn is_edited(&self) -> bool {
        self.edit.is_some()
    }

    /// The quantized matrix, if it is one.
    pub fn quantized(&self) -> Option<&Quantized> {
        match &self.stored {
            Stored::Plain(_) => None,
            Stored::Matrix(quantized) => Some(quantized),
        }
    }

    /// Values of a row; a vector is one row.
    pub fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Rows of that length.
    pub fn rows(&self) -> usize {
        let outer = &self.shape[..self.shape.len().saturating_sub(1)];
        outer.iter().product()
    }

    /// Type of its rows where they are read.
    pub(super) fn read_dtype(&self) -> Dtype {
        let blocks = self.quantized().and_then(Quantized::blocks);
        match self.edit {
            Some(Edit::Replace(dtype)) => dtype,
            _ => blocks.unwrap_or(self.dtype),
        }
    }

    /// Bytes of a row where rows are read by themselves.
    pub(super) fn row_bytes(&self) -> Result<u64> {
        checked_bytes(self.read_dtype(), &[1, self.cols()])
    }

    /// The tensor whose rows can be read by themselves.
    pub(super) fn row_wise(&self) -> Option<&str> {
        match &self.stored {
            Stored::Plain(name) => Some(name),
            Stored::Matrix(q) => q.blocks().and(q.parts.first()).map(|p| &*p.name),
        }
    }

    /// Bytes that it takes in the source.
    pub fn stored_bytes(&self) -> Result<u64> {
        match &self.stored {
            Stored::Plain(_) => checked_bytes(self.read_dtype(), &self.shape),
            Stored::Matrix(q) => q
                .parts
                .iter()
                .map(|p| checked_bytes(p.dtype, &p.shape))
                .sum(),
        }
    }
}

/// A checkpoint without its data.
#[derive(Debug)]
pub struct Source {
    /// Its tensors, in the order of files and bytes.
    pub tensors: Vec<Logical>,
    /// config.json.
    pub config: Value,
    /// The model, where its architecture is known.
    pub model: Option<Config>,
    /// How engines are to keep keys and values; its scales are among the tensors.
    pub cache: Option<KvCache>,
    /// Length of every tensor of the files, and of `adapter:` the adapter's.
    lengths: BTreeMap<String, u64>,
}

impl Source {
    /// Reads a checkpoint's description. Codes as in `layout::detect` and `Loader::new`; `shape`
    /// when the size of a matrix of an unknown architecture is not to be told from its tensors.
    pub(super) fn new(config: &Value, entries: &[TensorEntry], lora: Option<Lora>) -> Result<Self> {
        let infos = infos(entries)?;
        let length = |t: &TensorInfo| Ok((t.name.clone(), checked_bytes(t.dtype, &t.shape)?));
        let mut lengths = infos
            .iter()
            .map(length)
            .collect::<Result<BTreeMap<_, _>>>()?;
        if lengths.len() != infos.len() {
            return Err(Error::new(Code::DuplicateKey, "a tensor is listed twice"));
        }
        lengths.extend(lora.iter().flat_map(Lora::lengths));
        let resolver = layout::detect(config)?;
        let model = model(config, &infos)?;
        let shapes = model.as_ref().map(sizes::known).unwrap_or_default();
        let mut source = Self {
            tensors: Vec::new(),
            config: config.clone(),
            model,
            cache: resolver.as_ref().and_then(|r| r.cache),
            lengths,
        };
        source.tensors = source.logical(&infos, resolver.as_ref(), &shapes)?;
        if let Some(lora) = lora {
            lora.apply(&mut source.tensors)?;
        }
        Ok(source)
    }

    #[cfg(test)]
    pub(super) fn of(config: &Value, tensors: Vec<Logical>) -> Self {
        Self {
            tensors,
            config: config.clone(),
            model: None,
            cache: None,
            lengths: BTreeMap::new(),
        }
    }

    /// Length of a tensor of the files, for answers to be checked against.
    pub(super) fn length(&self, name: &str) -> Result<u64> {
        let missing = || Error::new(Code::Internal, format!("tensor {name:?} is not planned"));
        self.lengths.get(name).copied().ok_or_else(missing)
    }

    /// The type that the model computes in, as its config says; `F32` when it does not.
    pub fn float_dtype(&self) -> Dtype {
        let named = ["dtype", "torch_dtype"].iter().find_map(|key| {
            let text = &self.config["text_config"];
            let found = self.config[key].as_str().or(text[key].as_str())?;
            FLOAT_NAMES.iter().find(|(name, _)| *name == found)
        });
        named.map_or(Dtype::F32, |(_, dtype)| *dtype)
    }

    /// Modules with matrices that are not `quantized` in the output, as loaders want them named
    /// beside those that are.
    pub fn float_linears(&self, quantized: impl Fn(&str) -> bool) -> Vec<String> {
        let embed = self.model.as_ref().map(|m| m.named(m.arch().embed));
        let is_linear = |t: &&Logical| {
            let matrix = t.shape.len() == 2 && !quantized(t.module());
            matrix && t.name.ends_with(".weight") && Some(t.module()) != embed.as_deref()
        };
        let found = self.tensors.iter().filter(is_linear);
        found.map(|t| t.module().to_owned()).collect()
    }

    /// A tensor that nothing lies beside.
    fn alone(&self, info: &TensorInfo) -> Logical {
        let (dtype, stored) = match info.dtype {
            Dtype::Blocks(ty) => {
                let quantized = Quantized {
                    coding: Coding::Blocks(ty),
                    parts: vec![info.clone()],
                };
                (self.float_dtype(), Stored::Matrix(quantized))
            }
            dtype => (dtype, Stored::Plain(info.name.clone())),
        };
        Logical::new(&info.name, dtype, &info.shape, stored)
    }

    /// Puts the tensors of each quantized matrix together.
    fn logical(
        &self,
        infos: &[TensorInfo],
        resolver: Option<&Resolver>,
        shapes: &BTreeMap<String, (usize, usize)>,
    ) -> Result<Vec<Logical>> {
        let names: BTreeSet<String> = infos.iter().map(|t| t.name.clone()).collect();
        let mut by_name: BTreeMap<_, _> = infos.iter().map(|t| (t.name.clone(), t)).collect();
        let mut all = Vec::new();
        for info in infos {
            let found = resolver.and_then(|r| r.member(&info.name, |name| names.contains(name)));
            let Some(found) = found else {
                all.push(self.alone(info));
                continue;
            };
            // The matrix stands where the first of its tensors is.
            let parts = found.present.iter().filter_map(|p| by_name.remove(p));
            let parts: Vec<_> = parts.cloned().collect();
            if parts.is_empty() {
                continue;
            }
            let quantized = Quantized {
                coding: Coding::Layout(found.rule.layout, found.rule.scheme),
                parts,
            };
            let module = found.module;
            let known = shapes.get(module).copied();
            let (rows, cols) = known.map_or_else(|| sizes::of_parts(module, &quantized), Ok)?;
            let (name, dtype) = (format!("{module}.weight"), self.float_dtype());
            all.push(Logical::new(
                &name,
                dtype,
                &[rows, cols],
                Stored::Matrix(quantized),
            ));
        }
        Ok(all)
    }
}

/// The model of a checkpoint whose architecture is known.
fn model(config: &Value, infos: &[TensorInfo]) -> Result<Option<Config>> {
    let source = load::Source {
        tensors: infos.to_vec(),
        config: config.clone(),
    };
    match Loader::new(&source) {
        Ok(loader) => Ok(Some(loader.config().clone())),
        Err(e) if e.code == Code::UnknownArchitecture => Ok(None),
        Err(e) => Err(e),
    }
}
