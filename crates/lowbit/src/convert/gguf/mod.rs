//! Target: GGUF, one file or several, as `gguf::export` plans it.
//!
//! A matrix that is quantized in the source becomes blocks directly where the type of the file
//! holds exactly its values (`gguf::bridge_back`), and goes through floats where not.

mod extras;
mod make;
#[cfg(test)]
mod tests;

pub use crate::gguf::imatrix::ImatrixFile;
pub use extras::Extras;

use super::request::Request;
use super::source::{Logical, Quantized, Source};
use super::target::{Form, How, Making, Planned, Target, Want};
use super::work;
use crate::error::{Code, Error, Result};
use crate::gguf::bridge_back::may_hold;
use crate::gguf::export::{self, Output};
use crate::gguf::imatrix::Imatrix;
use crate::gguf::mix_kinds::quantizes;
use crate::gguf::split::split;
use crate::gguf::types::Type;
use crate::gguf::vocabulary::Files as Texts;
use crate::gguf::write::layout_file;
use crate::job::files::{File, Files, Place};
use crate::tensor::Dtype;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most bytes that a slice of rows takes as floats, as blocks and as what they stand for.
const SLICE_BYTES: u64 = 16 << 20;

/// One source of an output tensor.
#[derive(Debug, Clone)]
struct Part {
    output: Arc<Output>,
    /// Which of the output's sources it is.
    source: usize,
    /// What is reported of it; nothing for vectors.
    planned: Option<Planned>,
    /// Zeros behind the last tensor of a file.
    pad: usize,
}

#[derive(Debug)]
struct Gguf {
    files: Files,
    wants: Vec<Want>,
    parts: Vec<Part>,
    planned: Vec<Planned>,
    bits: f64,
    memory: u64,
    warnings: Vec<String>,
    exact: bool,
}

/// Plans it. Codes are those of `export::plan` and `split`, `option` for names of types, `imatrix`.
pub(super) fn make(request: &Request, source: &Source) -> Result<Box<dyn Target>> {
    let empty = Extras::default();
    let extras = request.gguf.as_ref().unwrap_or(&empty);
    let imatrix = extras.imatrix()?;
    let plan = export_plan(request, extras, source, imatrix.as_ref())?;
    let planned: Vec<_> = plan.outputs.iter().map(|o| o.planned.clone()).collect();
    let most = request.max_shard_bytes.unwrap_or(u64::MAX);
    let (mut list, mut places, mut pads) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    for part in split(extras.stem(), &plan.metadata, &planned, most)? {
        let inside = &planned[part.tensors];
        let layout = layout_file(&part.metadata, inside)?;
        for (i, (tensor, offset)) in inside.iter().zip(layout.offsets).enumerate() {
            let mut bytes = tensor.bytes()?;
            if i + 1 == inside.len() {
                let pad = layout.file_bytes - offset - bytes;
                pads.insert(tensor.name.clone(), pad as usize);
                bytes += pad;
            }
            let place = Place {
                file: list.len(),
                offset,
                bytes,
            };
            places.insert(tensor.name.clone(), place);
        }
        list.push(File {
            name: part.file,
            bytes: layout.file_bytes,
            header: layout.head,
        });
    }
    let held = imatrix.map_or(0, |(m, _)| m.entries.values().map(|e| e.sums.len()).sum());
    let mut warnings = plan.warnings;
    warnings.extend(source.cache_lost("gguf"));
    let mut target = Gguf {
        files: Files::laid_out(list, places),
        wants: Vec::new(),
        parts: Vec::new(),
        planned: Vec::new(),
        bits: bits_per_weight(&plan.outputs),
        memory: SLICE_BYTES + 4 * held as u64,
        warnings,
        exact: request.options.exact,
    };
    let positions = source.tensors.iter().enumerate();
    let positions: BTreeMap<_, _> = positions.map(|(i, t)| (t.name.as_str(), i)).collect();
    for output in plan.outputs {
        let pad = pads.get(&output.planned.name).copied().unwrap_or(0);
        target.add((output, pad), source, &positions)?;
    }
    Ok(Box::new(target))
}

fn export_plan(
    request: &Request,
    extras: &Extras,
    source: &Source,
    imatrix: Option<&(Imatrix, &str)>,
) -> Result<export::Plan> {
    let tensor = |t: &Logical| export::Source {
        name: t.name.clone(),
        dtype: t.dtype,
        shape: t.shape.clone(),
    };
    let tensors = source.tensors.iter();
    let tensors: Vec<_> = tensors
        .filter(|t| !source.is_cache_scale(t))
        .map(tensor)
        .collect();
    let tokenizer = extras::json(extras.tokenizer.as_deref(), "tokenizer.json")?;
    let config = extras::json(extras.tokenizer_config.as_deref(), "tokenizer_config.json")?;
    export::plan(&export::Request {
        name: &extras.name,
        tensors: &tensors,
        files: Texts {
            tokenizer: tokenizer.as_ref(),
            config: config.as_ref(),
            model: &source.config,
            template: extras.template.as_deref(),
            pre: extras.tokenizer_pre.as_deref(),
        },
        mix: extras::mix(request.options.scheme.as_deref())?,
        pooling: &extras.pooling,
        overrides: &extras.overrides()?,
        imatrix: imatrix.map(|(m, file)| (m, *file)),
    })
}

/// Bits per weight of the matrices that are quantized.
fn bits_per_weight(outputs: &[Output]) -> f64 {
    let (mut bits, mut weights) = (0.0, 0.0);
    for output in outputs {
        let p = &output.planned;
        if quantizes(&p.name, &p.shape) {
            let values = p.shape.iter().product::<usize>() as f64;
            bits += p.ty.bits() * values;
            weights += values;
        }
    }
    bits / f64::max(weights, 1.0)
}

impl Gguf {
    /// Wants of one output tensor, one per source.
    fn add(
        &mut self,
        (output, pad): (Output, usize),
        source: &Source,
        positions: &BTreeMap<&str, usize>,
    ) -> Result<()> {
        let output = Arc::new(output);
        let unit = work::unit(&output.planned.name);
        if output.sources.is_empty() {
            self.wants.push(Want {
                tensor: 0,
                form: Form::Nothing,
                unit: unit.clone(),
                work: 0,
            });
            self.parts.push(Part {
                output: Arc::clone(&output),
                source: 0,
                planned: None,
                pad,
            });
        }
        for (i, name) in output.sources.iter().enumerate() {
            let missing = || Error::new(Code::Internal, format!("tensor {name:?} is not planned"));
            let position = positions.get(name.as_str()).copied().ok_or_else(missing)?;
            let tensor = &source.tensors[position];
            let form = form(tensor, &output);
            let matrix = quantizes(&output.planned.name, &output.planned.shape);
            let planned = matrix.then(|| planned(tensor, output.planned.ty, form));
            self.wants.push(Want {
                tensor: position,
                form,
                unit: unit.clone(),
                work: work::of(tensor, form)?,
            });
            self.planned.extend(planned.clone());
            self.parts.push(Part {
                output: Arc::clone(&output),
                source: i,
                planned,
                pad: if i + 1 == output.sources.len() {
                    pad
                } else {
                    0
                },
            });
        }
        Ok(())
    }
}

/// As a matrix where the file's type may hold it, as rows otherwise.
fn form(tensor: &Logical, output: &Output) -> Form {
    match tensor.quantized().filter(|_| !tensor.is_edited()) {
        Some(q)
            if q.bits()
                .is_some_and(|bits| may_hold(output.planned.ty, bits)) =>
        {
            Form::Matrix
        }
        _ if tensor.shape.len() < 2 => Form::Rows { granule: 1 },
        _ => Form::Rows {
            granule: output.granule(),
        },
    }
}

fn planned(tensor: &Logical, to: &Type, form: Form) -> Planned {
    let quantized = tensor.quantized();
    let from = quantized.map_or_else(|| tensor.dtype.name().to_owned(), Quantized::name);
    let floats = [
        ("F32", Dtype::F32),
        ("F16", Dtype::F16),
        ("BF16", Dtype::BF16),
    ];
    let to_float = floats.iter().find(|(name, _)| *name == to.name);
    let same = to_float.is_some_and(|(_, d)| *d == tensor.dtype);
    let (how, why) = match (tensor.is_edited(), form, to_float) {
        (true, _, _) => (How::Merged, "an adapter is merged".to_owned()),
        (_, Form::Matrix, _) => (How::IfItFits, format!("if {} has its values", to.name)),
        (_, _, Some(_)) if to.name == "F32" || (same && quantized.is_none()) => {
            (How::Exact, String::new())
        }
        (_, _, Some(_)) => (How::IfItFits, format!("if {} has its values", to.name)),
        (_, _, None) if quantized.is_some() => (
            How::Rounded,
            format!("{} has other groups or scales", to.name),
        ),
        (_, _, None) => (How::Rounded, format!("floats become {}", to.name)),
    };
    Planned {
        name: tensor.module().to_owned(),
        shape: (tensor.rows(), tensor.cols()),
        from,
        to: to.name.to_owned(),
        how,
        why,
    }
}

impl Target for Gguf {
    fn files(&self) -> &Files {
        &self.files
    }

    fn wants(&self) -> &[Want] {
        &self.wants
    }

    fn begin(&self, want: usize, _source: &Source) -> Result<Box<dyn Making>> {
        Ok(Box::new(make::Encode::new(
            self.parts[want].clone(),
            self.exact,
        )))
    }

    fn planned(&self) -> &[Planned] {
        &self.planned
    }

    fn config(&self) -> Option<&Value> {
        None
    }

    fn bits_per_weight(&self) -> Option<f64> {
        Some(self.bits)
    }

    fn memory_bytes(&self) -> u64 {
        self.memory
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }
}
