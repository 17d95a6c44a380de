//! On-disk formats: QuantizedMatrix ⇄ named tensors and config JSON.
//!
//! A layout never sees a file. It says which tensors a matrix becomes, makes their bytes, and takes
//! them back; `encode(decode(bytes)) == bytes`.

pub mod aqlm;
pub mod awq;
pub mod bitsandbytes;
pub mod compressed_tensors;
pub mod eetq;
pub mod fp8;
#[cfg(test)]
mod golden_tests;
pub mod gptq;
pub mod hqq;
mod parts;
mod resolver;
#[cfg(test)]
pub(crate) mod sample;
pub mod target;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use parts::transpose;
pub use resolver::{Member, Resolver, Rule};

use crate::container::safetensors::Planned;
use crate::error::{Code, Error, Result, nearest};
use crate::matrix::QuantizedMatrix;
use crate::scheme::Scheme;
use crate::tensor::{Dtype, Tensor};
use serde_json::Value;

/// One on-disk format.
pub trait Layout: Sync + std::fmt::Debug {
    /// The name in options.
    fn name(&self) -> &'static str;

    /// One sentence on what reads it.
    fn about(&self) -> &'static str;

    /// What the user should know of columns with groups in an order of their own, if the layout
    /// stores one that its readers do not all take.
    fn order_caveat(&self) -> Option<&'static str> {
        None
    }

    /// Whether it is written too, rather than only read.
    fn is_written(&self) -> bool {
        true
    }

    /// Whether there is a place for scales of the cache of keys and values.
    fn holds_cache(&self) -> bool {
        false
    }

    /// Whether matrices of a scheme are read; of those that are written too, by default.
    fn reads(&self, scheme: &Scheme) -> bool {
        self.accepts(scheme).is_ok()
    }

    /// Whether there is a place for a scheme; `scheme` with the reason otherwise.
    fn accepts(&self, scheme: &Scheme) -> Result<()>;

    /// Whether a matrix of this shape, which is not empty, divides as its scheme asks.
    fn divides(&self, scheme: &Scheme, rows: usize, cols: usize) -> Result<()>;

    /// Whether a matrix `[rows, cols]` can be written so; `scheme` with the reason otherwise.
    fn fits(&self, scheme: &Scheme, rows: usize, cols: usize) -> Result<()> {
        self.accepts(scheme)
            .map_err(|e| match default_for(scheme) {
                Ok(other) if e.remedy.is_empty() => {
                    e.remedy(format!("use format {}", other.name()))
                }
                _ => e,
            })?;
        if rows == 0 || cols == 0 {
            return Err(Error::new(
                Code::Scheme,
                format!("{scheme}: the matrix is empty"),
            ));
        }
        self.divides(scheme, rows, cols)
    }

    /// Whether a module that the config counts as quantized is, from its tensors: layouts whose
    /// configs leave that open say no when the codes are missing.
    fn is_quantized(&self, parts: &[String]) -> bool {
        let _ = parts;
        true
    }

    /// The endings, behind `base.`, of every tensor that may belong to one matrix.
    fn parts(&self) -> &'static [&'static str];

    /// Those of `parts` that hold the codes.
    fn codes(&self) -> &'static [&'static str] {
        &self.parts()[..1]
    }

    /// The tensors that `encode` will make for a matrix of this shape `(rows, cols)`.
    ///
    /// `base` is the module, as `model.layers.0.self_attn.q_proj`; `by_index` says that each column
    /// stores its group (GPTQ's order `group`).
    fn outputs(
        &self,
        base: &str,
        scheme: &Scheme,
        shape: (usize, usize),
        scale_dtype: Dtype,
        by_index: bool,
    ) -> Vec<Planned>;

    /// The bytes, under the names, shapes and order of `outputs`.
    ///
    /// `dtype` is the type of scales that `outputs` was given; a layout that stores the type of the
    /// original takes it for that.
    fn encode(
        &self,
        base: &str,
        matrix: &QuantizedMatrix,
        scheme: &Scheme,
        dtype: Dtype,
    ) -> Result<Vec<Tensor>>;

    /// Takes the tensors of one matrix, in any order; `qparam`, `dtype` or `shape` when they do
    /// not fit each other or the scheme, `missing-tensor` when one is absent.
    fn decode(&self, base: &str, scheme: &Scheme, tensors: &[Tensor]) -> Result<QuantizedMatrix>;

    /// `quantization_config` for config.json: which module has which scheme, which has none.
    fn config(&self, assignment: &[(String, Scheme)], ignored: &[String], by_index: bool) -> Value;

    /// Reads a `quantization_config`; none when it belongs to another layout, `unsupported` or
    /// `config` when it is this one's and cannot be followed.
    fn detect(&self, quantization_config: &Value) -> Option<Result<Resolver>>;
}

/// Every layout, in the order of help texts.
pub static LAYOUTS: &[&dyn Layout] = &[
    &compressed_tensors::CURRENT,
    &gptq::V1,
    &gptq::V2,
    &awq::GEMM,
    &bitsandbytes::BitsAndBytes,
    &hqq::Hqq,
    &fp8::Fp8,
    &eetq::Eetq,
    &aqlm::Aqlm,
];

/// The layout that a scheme is written in unless another is asked for: the first that has a place
/// for it; `scheme` with the reasons when none has.
pub fn default_for(scheme: &Scheme) -> Result<&'static dyn Layout> {
    let found = LAYOUTS.iter().copied().find(|l| l.accepts(scheme).is_ok());
    found.ok_or_else(|| {
        let reasons = LAYOUTS.iter().filter_map(|l| l.accepts(scheme).err());
        let reasons: Vec<_> = reasons.map(|e| e.what).collect();
        Error::new(Code::Scheme, format!("no format holds {scheme}")).remedy(reasons.join("; "))
    })
}

/// Looks a layout up by name; `option` with the nearest name otherwise.
///
/// `compressed-tensors@0.17` is compressed-tensors as it was before 0.18, for readers from then.
pub fn find(name: &str) -> Result<&'static dyn Layout> {
    let older: &'static dyn Layout = &compressed_tensors::OLD;
    let mut known = LAYOUTS.iter().copied().chain([older]);
    let found = known.find(|l| l.name() == name);
    found.ok_or_else(|| {
        let near = nearest(name, LAYOUTS.iter().map(|l| l.name())).unwrap_or_default();
        let error = Error::new(Code::Option, format!("unknown format {name:?}"));
        error.remedy(format!("did you mean {near:?}?"))
    })
}

/// Finds out how a checkpoint is quantized; none without a `quantization_config`.
pub fn detect(config: &Value) -> Result<Option<Resolver>> {
    let Some(found) = config.get("quantization_config").filter(|q| !q.is_null()) else {
        return Ok(None);
    };
    if let Some(resolver) = LAYOUTS.iter().find_map(|l| l.detect(found)) {
        return resolver.map(Some);
    }
    let method = found.get("quant_method").and_then(Value::as_str);
    let what = format!(
        "quant_method {:?} is not read here",
        method.unwrap_or_default()
    );
    let known: Vec<_> = LAYOUTS.iter().map(|l| l.name()).collect();
    Err(Error::new(Code::Unsupported, what).remedy(format!("expected {}", known.join(", "))))
}

/// The scheme that most modules have; the first of those that are equally common.
fn commonest(assignment: &[(String, Scheme)]) -> Option<Scheme> {
    let mut counts: Vec<(Scheme, usize)> = Vec::new();
    for (_, scheme) in assignment {
        match counts.iter_mut().find(|(s, _)| s == scheme) {
            Some((_, count)) => *count += 1,
            None => counts.push((*scheme, 1)),
        }
    }
    let most = counts.iter().rev().max_by_key(|(_, count)| *count);
    most.map(|(scheme, _)| *scheme)
}
