//! Target: a checkpoint of plain floats, as before it was quantized.
//!
//! Quantized matrices are widened; what is written is each value rounded once to the type asked for.
//! Other tensors are copied, unless a type is named: then the floats that the model reads as
//! `weight` or `bias` are of that type too.

use super::report::ModuleReport;
use super::request::Request;
use super::source::{FLOAT_NAMES, Logical, Quantized, Source};
use super::target::{Form, Given, How, Making, Piece, Planned, Target, Want};
use super::work;
use crate::container::safetensors;
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result, nearest};
use crate::job::files::Files;
use crate::job::plan::SHARD_BYTES;
use crate::tensor::{Dtype, bytes_from_f32, f32_from};
use serde_json::{Value, json};

/// Types that weights are written in.
const FLOATS: &[Dtype] = &[Dtype::F32, Dtype::F16, Dtype::BF16];

#[derive(Debug)]
struct Float {
    files: Files,
    wants: Vec<Want>,
    casts: Vec<Option<Cast>>,
    planned: Vec<Planned>,
    config: Value,
    warnings: Vec<String>,
}

/// Plans it; `option` for a type that is none of floats.
pub(super) fn make(request: &Request, source: &Source) -> Result<Box<dyn Target>> {
    let dtype = request.options.dtype.as_deref().map(parse).transpose()?;
    let exact = request.options.exact;
    let (mut tensors, mut target) = (Vec::new(), Float::empty());
    for (i, tensor) in source.tensors.iter().enumerate() {
        if source.is_cache_scale(tensor) {
            continue;
        }
        let to = wanted(tensor, dtype);
        tensors.push(safetensors::Planned {
            name: tensor.name.clone(),
            dtype: to,
            shape: tensor.shape.clone(),
        });
        let kept = tensor.quantized().is_none() && !tensor.is_edited() && to == tensor.dtype;
        let planned = (!kept).then(|| planned(tensor, to));
        let form = match planned {
            None => Form::Stored,
            Some(_) => Form::Rows { granule: 1 },
        };
        target.wants.push(Want {
            tensor: i,
            form,
            unit: work::unit(&tensor.name),
            work: work::of(tensor, form)?,
        });
        let cast = planned
            .clone()
            .map(|planned| Cast::new(tensor, to, planned, exact));
        target.casts.push(cast);
        target.planned.extend(planned);
    }
    let shard_bytes = request.max_shard_bytes.unwrap_or(SHARD_BYTES);
    target.files = Files::new(&tensors, shard_bytes)?;
    target.config = config(&source.config, dtype);
    target.warnings.extend(source.cache_lost("float"));
    Ok(Box::new(target))
}

fn parse(name: &str) -> Result<Dtype> {
    let found = FLOAT_NAMES
        .iter()
        .find(|(n, _)| n.eq_ignore_ascii_case(name));
    found.map(|(_, dtype)| *dtype).ok_or_else(|| {
        let near = nearest(name, FLOAT_NAMES.iter().map(|(n, _)| *n)).unwrap_or("bf16");
        Error::new(Code::Option, format!("dtype is {name:?}"))
            .remedy(format!("did you mean {near:?}?"))
    })
}

/// The type that a tensor is written in.
fn wanted(tensor: &Logical, asked: Option<Dtype>) -> Dtype {
    let is_float = tensor.quantized().is_some() || FLOATS.contains(&tensor.dtype);
    let known = [".weight", ".bias"]
        .iter()
        .any(|end| tensor.name.ends_with(end));
    asked.filter(|_| is_float && known).unwrap_or(tensor.dtype)
}

pub(super) fn planned(tensor: &Logical, to: Dtype) -> Planned {
    let from = tensor.quantized().map(Quantized::name);
    let widens = match tensor.quantized() {
        Some(_) => to == Dtype::F32,
        None => to == Dtype::F32 || to == tensor.dtype,
    };
    let (how, why) = match (tensor.is_edited(), widens) {
        (true, _) => (How::Merged, "an adapter is merged".to_owned()),
        (false, true) => (How::Exact, String::new()),
        (false, false) => (How::IfItFits, format!("if {} holds every value", to.name())),
    };
    Planned {
        name: tensor.module().to_owned(),
        shape: (tensor.rows(), tensor.cols()),
        from: from.unwrap_or_else(|| tensor.dtype.name().into()),
        to: to.name().into(),
        how,
        why,
    }
}

/// The source's config without a quantization, and with the type that was asked for.
fn config(source: &Value, dtype: Option<Dtype>) -> Value {
    let mut config = source.clone();
    if let Some(map) = config.as_object_mut() {
        map.remove("quantization_config");
        let named = dtype.and_then(|d| FLOAT_NAMES.iter().find(|(_, own)| *own == d));
        if let Some((name, _)) = named {
            let key = if map.contains_key("dtype") {
                "dtype"
            } else {
                "torch_dtype"
            };
            map.insert(key.into(), json!(name));
        }
    }
    config
}

impl Float {
    fn empty() -> Self {
        Self {
            files: Files::default(),
            wants: Vec::new(),
            casts: Vec::new(),
            planned: Vec::new(),
            config: Value::Null,
            warnings: Vec::new(),
        }
    }
}

impl Target for Float {
    fn files(&self) -> &Files {
        &self.files
    }

    fn wants(&self) -> &[Want] {
        &self.wants
    }

    fn begin(&self, want: usize, source: &Source) -> Result<Box<dyn Making>> {
        if let Some(cast) = &self.casts[want] {
            return Ok(Box::new(cast.clone()));
        }
        let tensor = &source.tensors[self.wants[want].tensor];
        Ok(Box::new(Copy::new(&tensor.name)))
    }

    fn planned(&self) -> &[Planned] {
        &self.planned
    }

    fn config(&self) -> Option<&Value> {
        Some(&self.config)
    }

    fn bits_per_weight(&self) -> Option<f64> {
        None
    }

    fn memory_bytes(&self) -> u64 {
        0
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// A tensor that is written as it is stored.
#[derive(Debug, Clone)]
pub(super) struct Copy {
    name: String,
}

impl Copy {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.into() }
    }
}

impl Making for Copy {
    fn take(&mut self, given: Given, _cpu: &Cpu) -> Result<Vec<Piece>> {
        match given {
            Given::Stored(bytes) => Ok(vec![Piece {
                tensor: self.name.clone(),
                bytes,
            }]),
            _ => Err(Error::new(Code::Internal, "bytes were wanted")),
        }
    }

    fn finish(self: Box<Self>, _cpu: &Cpu) -> Result<(Vec<Piece>, Option<ModuleReport>)> {
        Ok((Vec::new(), None))
    }
}

/// Floats that are written in another type.
#[derive(Debug, Clone)]
pub(super) struct Cast {
    name: String,
    to: Dtype,
    planned: Planned,
    exact: bool,
    /// Σ (w − q)² and Σ w².
    error: (f64, f64),
}

impl Cast {
    pub(super) fn new(tensor: &Logical, to: Dtype, planned: Planned, exact: bool) -> Self {
        Self {
            name: tensor.name.clone(),
            to,
            planned,
            exact,
            error: (0.0, 0.0),
        }
    }

    /// Adds to the error, value by value.
    fn compare(&mut self, values: &[f32], written: &[u8]) -> Result<()> {
        let mut back = vec![0.0; values.len()];
        f32_from(self.to, written, &mut back)?;
        for (v, b) in values.iter().zip(&back) {
            if v.is_finite() && !b.is_finite() {
                let what = format!("{v} is beyond {}", self.to.name());
                return Err(Error::new(Code::NonfiniteWeight, what)
                    .at(format!("tensor {:?}", self.name))
                    .remedy("use dtype bf16 or f32"));
            }
            if v.is_finite() {
                let (v, d) = (f64::from(*v), f64::from(v - b));
                self.error.0 += d * d;
                self.error.1 += v * v;
            }
        }
        Ok(())
    }
}

impl Making for Cast {
    fn take(&mut self, given: Given, _cpu: &Cpu) -> Result<Vec<Piece>> {
        let Given::Rows { rows, .. } = given else {
            return Err(Error::new(Code::Internal, "rows were wanted"));
        };
        let values = rows.view()?.to_f32()?;
        let bytes = bytes_from_f32(self.to, &values)?;
        self.compare(&values, &bytes)?;
        Ok(vec![Piece {
            tensor: self.name.clone(),
            bytes,
        }])
    }

    fn finish(self: Box<Self>, _cpu: &Cpu) -> Result<(Vec<Piece>, Option<ModuleReport>)> {
        let (error, weight) = self.error;
        let relative = (error / weight.max(f64::MIN_POSITIVE)).sqrt();
        let merged = self.planned.how == How::Merged;
        let why = format!("{} does not hold every value", self.to.name());
        let (how, why) = match (merged, error > 0.0) {
            (true, _) => (How::Merged, self.planned.why.as_str()),
            (false, true) => (How::Rounded, why.as_str()),
            (false, false) => (How::Exact, ""),
        };
        work::check_exact(self.exact, &self.planned.name, how, why)?;
        let report = ModuleReport::of(&self.planned, how, why, relative);
        Ok((Vec::new(), Some(report)))
    }
}
