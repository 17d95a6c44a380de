//! A checkpoint as a GGUF file: what the file will hold, and each tensor's blocks when its turn
//! comes. Nothing is read here; who calls brings the tensors in the order of the plan.

use super::bridge_back;
use super::codec::{Importance, decode, encode};
use super::collect::Names;
use super::export_types::choose_types;
use super::families_encoder::{classifies, labels, unused_positions};
use super::family::Family;
use super::granted;
use super::imatrix::Imatrix;
use super::latent::Latent;
use super::metadata::{Sizes, metadata, text_config};
use super::mix::Mix;
use super::mix_choose::Overrides;
use super::pooling;
use super::rotary::rope_tensors;
use super::tensors::Change;
use super::types::{F32, Type};
use super::value::{Array, Metadata, Value};
use super::vocabulary::{self, Files};
use super::write::Planned;
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::matrix::QuantizedMatrix;
use crate::tensor::{Dtype, TensorRef};
use serde_json::Value as Json;

/// A tensor of the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name there.
    pub name: String,
    /// Its type there; plain floats.
    pub dtype: Dtype,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
}

/// What is to be exported, and how.
#[derive(Debug)]
pub struct Request<'a> {
    /// The name in the file's metadata.
    pub name: &'a str,
    /// Every tensor of the checkpoint.
    pub tensors: &'a [Source],
    /// The tokenizer and config.json.
    pub files: Files<'a>,
    /// The mix.
    pub mix: &'static Mix,
    /// How an encoder's states become vectors, by the names of sentence-transformers.
    pub pooling: &'a [String],
    /// What differs from the mix.
    pub overrides: &'a Overrides,
    /// The importance matrix, and its name in the metadata.
    pub imatrix: Option<(&'a Imatrix, &'a str)>,
}

/// One tensor of the file.
#[derive(Debug)]
pub struct Output {
    /// Name, type and shape in the file.
    pub planned: Planned,
    /// The type it would have if its rows were whole blocks.
    pub wanted: &'static Type,
    /// Tensors of the checkpoint that it is made of, one behind the other; none for `values`.
    pub sources: Vec<String>,
    /// Values that come from config.json.
    pub values: Vec<f32>,
    pub(super) change: Change,
    /// One per source or per head, if there is an importance matrix that knows the tensor.
    pub(super) importance: Option<Vec<Importance>>,
}

/// A file to be: its keys and its tensors in their order.
#[derive(Debug)]
pub struct Plan {
    /// Keys and values.
    pub metadata: Metadata,
    /// The tensors.
    pub outputs: Vec<Output>,
    /// What the user should know: tensors with another type than the mix says, and why.
    pub warnings: Vec<String>,
}

/// Plans a file. Everything that can be wrong is found here, before a tensor is read: codes as in
/// `Family::find`, `tensors::target`, `metadata`, `vocabulary::set`, `choose`; `missing-tensor`
/// when experts are not complete, `imatrix` when the importance matrix does not fit.
pub fn plan(request: &Request<'_>) -> Result<Plan> {
    let config = text_config(request.files.model);
    let model_type = config.get("model_type").and_then(serde_json::Value::as_str);
    let family = Family::find(model_type.unwrap_or_default())?;
    let sizes = Sizes::from_config(config)?;
    let mut warnings = granted::check(family, config, &sizes)?;
    let further = config.get("num_nextn_predict_layers");
    let names = Names {
        family,
        sizes: &sizes,
        latent: latent(family, config, &sizes)?,
        unused: unused_positions(family, config),
        classifies: classifies(config),
        tied: config.get("tie_word_embeddings").and_then(Json::as_bool) == Some(true),
        further: further.and_then(Json::as_u64).unwrap_or(0).min(64) as usize,
    };
    let mut outputs = names.collect(request.tensors, &mut warnings)?;
    let rope = if family.encoder {
        Vec::new()
    } else {
        rope_tensors(config)?
    };
    for (name, values) in rope {
        let output = Output::new(name.into(), vec![values.len()]);
        outputs.push(Output { values, ..output });
    }
    choose_types(&mut outputs, request, &sizes, &mut warnings)?;
    let count = |o: &Output| o.planned.shape.iter().product::<usize>() as u64;
    let values = outputs.iter().map(count).sum();
    let mut keys = metadata(family, config, request.name, request.mix, values)?;
    if family.encoder && classifies(config) {
        pooling::set_ranks(&mut keys, family.arch, labels(config));
    } else {
        warnings.extend(pooling::set(&mut keys, family.arch, request.pooling)?);
    }
    let rows_of = |name: &str| {
        let output = outputs.iter().find(|o| o.planned.name == name)?;
        output.planned.shape.first().copied()
    };
    if let Some(positions) = rows_of("position_embd.weight") {
        keys.set_count(format!("{}.context_length", family.arch), positions)?;
    }
    let rows = rows_of("token_embd.weight")
        .ok_or_else(|| Error::new(Code::MissingTensor, "the checkpoint has no token embedding"))?;
    vocabulary::set(&mut keys, &request.files, rows)?;
    if request.files.tokenizer.is_none() {
        warnings
            .push("there is no tokenizer.json: the file takes and gives tokens, not text".into());
    }
    if let Some((imatrix, file)) = request.imatrix {
        record(&mut keys, imatrix, file);
    }
    Ok(Plan {
        metadata: keys,
        outputs,
        warnings,
    })
}

fn latent(family: &Family, config: &Json, sizes: &Sizes) -> Result<Option<Latent>> {
    let one = family.names.iter().any(|(_, to)| *to == "attn_kv_b");
    one.then(|| Latent::from_config(config, sizes)).transpose()
}

/// What llama-quantize writes about the importance matrix that it used.
fn record(keys: &mut Metadata, imatrix: &Imatrix, file: &str) {
    keys.set_string("quantize.imatrix.file", file);
    let datasets = Array::String(imatrix.datasets.clone());
    match imatrix.datasets.as_slice() {
        [one] => keys.set_string("quantize.imatrix.dataset", one.clone()),
        [] => {}
        _ => keys.set("quantize.imatrix.datasets", Value::Array(datasets)),
    }
    let entries = Value::I32(imatrix.entries.len() as i32);
    keys.set("quantize.imatrix.entries_count", entries);
    keys.set(
        "quantize.imatrix.chunks_count",
        Value::I32(imatrix.chunks as i32),
    );
}

impl Output {
    pub(super) fn new(name: String, shape: Vec<usize>) -> Self {
        Self {
            planned: Planned {
                name,
                ty: &F32,
                shape,
            },
            wanted: &F32,
            sources: Vec::new(),
            values: Vec::new(),
            change: Change::None,
            importance: None,
        }
    }

    /// Blocks of some rows of a source; those of all rows of all sources, one behind the other, are
    /// the tensor. Rows come in whole multiples of `granule`, so that a large tensor need not be in
    /// memory at once.
    ///
    /// The codes of `values_of` and of `encode`, all with the tensor named.
    pub fn encode(&self, source: usize, rows: &TensorRef<'_>, cpu: &Cpu) -> Result<Vec<u8>> {
        self.encode_values_of(source, &self.values_of(source, rows)?, cpu)
    }

    /// Values of some rows of a source as the file has them: in its order, with its offset.
    ///
    /// `shape` when the rows are not as planned, `dtype` when they are not of plain floats.
    pub fn values_of(&self, source: usize, rows: &TensorRef<'_>) -> Result<Vec<f32>> {
        let place = |e: Error| e.at(format!("tensor {:?}", self.sources[source]));
        let mut values = rows.to_f32().map_err(place)?;
        let row = self.row();
        if !values.len().is_multiple_of(row.max(1)) || values.len() > self.source_len() {
            let what = format!("shape {:?} is not the planned one", rows.shape);
            return Err(place(Error::new(Code::Shape, what)));
        }
        self.change.apply(&mut values, row).map_err(place)?;
        Ok(values)
    }

    /// Blocks of what `values_of` gave.
    pub fn encode_values_of(&self, source: usize, values: &[f32], cpu: &Cpu) -> Result<Vec<u8>> {
        let (ty, place) = (self.planned.ty, |e: Error| {
            e.at(format!("tensor {:?}", self.sources[source]))
        });
        let cols = match self.planned.shape.as_slice() {
            [_, .., cols] => *cols,
            _ => values.len(),
        };
        match &self.importance {
            Some(heads) if heads.len() > self.sources.len() => {
                // Whole sources come, because their heads are of one granule.
                let each = values.chunks(values.len() / heads.len());
                let blocks = each
                    .zip(heads)
                    .map(|(v, i)| encode(ty, v, cols, Some(i), cpu));
                let blocks: Result<Vec<_>> = blocks.collect();
                blocks.map(|all| all.concat()).map_err(place)
            }
            all => {
                let importance = all.as_ref().map(|all| &all[source]);
                encode(ty, values, cols, importance, cpu).map_err(place)
            }
        }
    }

    /// Blocks of a whole source that is a quantized matrix; `unsupported` with the reason when they
    /// would not give its values exactly.
    pub fn blocks_of(&self, matrix: &QuantizedMatrix) -> Result<Vec<u8>> {
        let mut blocks = bridge_back::blocks(self.planned.ty, matrix)?;
        let row_bytes = self.planned.ty.row_bytes(matrix.cols)?;
        self.change.reorder(&mut blocks, row_bytes)?;
        Ok(blocks)
    }

    /// Rows that must be encoded together.
    pub fn granule(&self) -> usize {
        self.change.granule()
    }

    /// Values that blocks stand for, as the file has them.
    pub fn decode_values(&self, blocks: &[u8]) -> Result<Vec<f32>> {
        let ty = self.planned.ty;
        let mut values = vec![0.0; blocks.len() / ty.bytes * ty.block];
        decode(ty, blocks, &mut values)?;
        Ok(values)
    }

    /// Values of a source as the checkpoint would have them, from their blocks; where several
    /// outputs are made of one source, each fills its part of `out`.
    pub fn decode(&self, blocks: &[u8], out: &mut Vec<f32>) -> Result<()> {
        let values = self.decode_values(blocks)?;
        out.resize(out.len().max(self.source_len()), 0.0);
        self.change.undo(values, self.row(), out)
    }

    /// Values of a source.
    fn source_len(&self) -> usize {
        match self.change {
            Change::Half(latent, _) => latent.heads * latent.rows() * latent.rank,
            Change::Skip(_, rows) => rows * self.row(),
            _ => self.planned.shape.iter().product::<usize>() / self.sources.len().max(1),
        }
    }

    /// Values that a change moves together: a row, or one value of a vector.
    fn row(&self) -> usize {
        match self.planned.shape.as_slice() {
            [_, .., cols] => self.change.cols().unwrap_or(*cols),
            _ => 1,
        }
    }

    /// Blocks of a tensor that has no source.
    pub fn encode_values(&self, cpu: &Cpu) -> Result<Vec<u8>> {
        encode(self.planned.ty, &self.values, self.values.len(), None, cpu)
    }
}
