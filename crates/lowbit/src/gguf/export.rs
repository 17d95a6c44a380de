//! A checkpoint as a GGUF file: what the file will hold, and each tensor's blocks when its turn
//! comes. Nothing is read here; who calls brings the tensors in the order of the plan.

use super::bridge_back;
use super::codec::{Importance, decode, encode};
use super::collect::Names;
use super::family::Family;
use super::granted;
use super::imatrix::Imatrix;
use super::metadata::{Sizes, metadata, text_config};
use super::mix::Mix;
use super::mix_choose::{Facts, Overrides, choose};
use super::mix_kinds::quantizes;
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
    /// One per source, if there is an importance matrix that knows the tensor.
    importance: Option<Vec<Importance>>,
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
        tied: config.get("tie_word_embeddings").and_then(Json::as_bool) == Some(true),
        further: further.and_then(Json::as_u64).unwrap_or(0).min(64) as usize,
    };
    let mut outputs = names.collect(request.tensors, &mut warnings)?;
    for (name, values) in rope_tensors(config)? {
        let output = Output::new(name.into(), vec![values.len()]);
        outputs.push(Output { values, ..output });
    }
    choose_types(&mut outputs, request, &sizes, &mut warnings)?;
    let count = |o: &Output| o.planned.shape.iter().product::<usize>() as u64;
    let values = outputs.iter().map(count).sum();
    let mut keys = metadata(family, config, request.name, request.mix, values)?;
    let embedding = outputs
        .iter()
        .find(|o| o.planned.name == "token_embd.weight");
    let rows = embedding.and_then(|o| o.planned.shape.first()).copied();
    let rows = rows
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
    /// `shape` when the rows are not as planned, `dtype` when they are not of plain floats, else
    /// the codes of `encode`, all with the tensor named.
    pub fn encode(&self, source: usize, rows: &TensorRef<'_>, cpu: &Cpu) -> Result<Vec<u8>> {
        let place = |e: Error| e.at(format!("tensor {:?}", self.sources[source]));
        let mut values = rows.to_f32().map_err(place)?;
        let row = self.row();
        let planned = self.planned.shape.iter().product::<usize>() / self.sources.len();
        if !values.len().is_multiple_of(row.max(1)) || values.len() > planned {
            let what = format!("shape {:?} is not the planned one", rows.shape);
            return Err(place(Error::new(Code::Shape, what)));
        }
        self.change.apply(&mut values, row).map_err(place)?;
        let importance = self.importance.as_ref().map(|all| &all[source]);
        let cols = if row == 1 { values.len() } else { row };
        encode(self.planned.ty, &values, cols, importance, cpu).map_err(place)
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

    /// Values of rows as the checkpoint would have them, from their blocks.
    pub fn decode(&self, blocks: &[u8]) -> Result<Vec<f32>> {
        let ty = self.planned.ty;
        let mut values = vec![0.0; blocks.len() / ty.bytes * ty.block];
        decode(ty, blocks, &mut values)?;
        self.change.undo(&mut values, self.row())?;
        Ok(values)
    }

    /// Values that a change moves together: a row, or one value of a vector.
    fn row(&self) -> usize {
        match self.planned.shape.as_slice() {
            [_, .., cols] => *cols,
            _ => 1,
        }
    }

    /// Blocks of a tensor that has no source.
    pub fn encode_values(&self, cpu: &Cpu) -> Result<Vec<u8>> {
        encode(self.planned.ty, &self.values, self.values.len(), None, cpu)
    }
}

fn choose_types(
    outputs: &mut [Output],
    request: &Request<'_>,
    sizes: &Sizes,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let tensors: Vec<_> = outputs
        .iter()
        .map(|o| (o.planned.name.clone(), o.planned.shape.clone()))
        .collect();
    let facts = Facts {
        layers: sizes.layers,
        heads: sizes.heads,
        kv_heads: sizes.kv_heads,
        experts: sizes.experts,
        imatrix: request.imatrix.is_some(),
    };
    let choices = choose(request.mix, &tensors, &facts, request.overrides)?;
    for (output, choice) in outputs.iter_mut().zip(choices) {
        output.planned.ty = choice.ty;
        output.wanted = choice.wanted;
        let (name, shape) = (&output.planned.name, &output.planned.shape);
        let cols = shape.last().copied().unwrap_or(1);
        if choice.ty != choice.wanted {
            warnings.push(format!(
                "{name} becomes {} instead of {}: {cols} columns are no multiple of {}",
                choice.ty.name, choice.wanted.name, choice.wanted.block
            ));
        }
        if let Some((imatrix, _)) = request.imatrix.filter(|_| quantizes(name, shape)) {
            output.importance = imatrix.importance(name, cols, output.sources.len())?;
            let outside = name.starts_with("token_embd") || name == "output.weight";
            if output.importance.is_none() && !outside {
                warnings.push(format!("{name} is not in the importance matrix"));
            }
        }
    }
    Ok(())
}
