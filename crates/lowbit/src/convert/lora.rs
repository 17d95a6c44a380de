//! LoRA adapters as PEFT stores them, merged into weights: `W + s · B·A` in f32.
//!
//! ```text
//! base_model.model.<module>.lora_A.weight   [r, inputs]
//! base_model.model.<module>.lora_B.weight   [outputs, r]
//! s = alpha / r, or alpha / √r with use_rslora; r and alpha of a pattern that fits the module
//! ```
//! `fan_in_fan_out` (weights stored inputs × outputs) and embeddings add the transpose. A tensor
//! without a factor (`modules_to_save`, biases) replaces the one of its name. Source: PEFT,
//! `tuners/lora/{config,layer}.py`, `utils/save_and_load.py`; arXiv 2106.09685, 2312.03732.

use super::peft::{Role, is_embedding, pattern, patterns, refuse, role, wrong};
use super::request::Adapter;
use super::source::{Logical, Stored};
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result, nearest};
use crate::job::request::infos;
use crate::layout::transpose;
use crate::model::load::TensorInfo;
use crate::tensor::{Dtype, checked_bytes, f32_from};
use regex_lite::Regex;
use std::collections::BTreeMap;

/// What tensors of an adapter are asked for by.
pub(super) const PREFIX: &str = "adapter:";

/// What an adapter does to a tensor.
#[derive(Debug, Clone)]
pub(super) enum Edit {
    /// Adds a product.
    Add {
        /// `[r, inputs]` and `[outputs, r]`, as the adapter names them.
        a: TensorInfo,
        b: TensorInfo,
        scale: f32,
        /// Whether the product is added transposed.
        transposed: bool,
    },
    /// Puts the adapter's tensor in its place, which has another type.
    Replace(Dtype),
}

impl Edit {
    /// What must be read before the first row.
    pub(super) fn tensors(&self) -> Vec<String> {
        match self {
            Self::Add { a, b, .. } => [a, b].map(|t| format!("{PREFIX}{}", t.name)).to_vec(),
            Self::Replace(_) => Vec::new(),
        }
    }
}

/// A product to add, in f32.
#[derive(Debug)]
pub(super) struct Factors {
    /// `[r, cols]` of the weight.
    right: Vec<f32>,
    /// `[rows, r]`.
    left: Vec<f32>,
    rank: usize,
    scale: f32,
}

impl Factors {
    /// Adds the rows from `first` on to as many as there are.
    pub(super) fn add(&self, first: usize, cols: usize, values: &mut [f32], cpu: &Cpu) {
        cpu.run_chunks(values, cols, true, |i, row| {
            let left = &self.left[(first + i) * self.rank..][..self.rank];
            let mut delta = vec![0.0f32; cols];
            for (l, right) in left.iter().zip(self.right.chunks_exact(cols)) {
                for (d, r) in delta.iter_mut().zip(right) {
                    *d += l * r;
                }
            }
            for (w, d) in row.iter_mut().zip(&delta) {
                *w += self.scale * d;
            }
        });
    }
}

/// An adapter without its data.
#[derive(Debug)]
pub(super) struct Lora {
    tensors: Vec<TensorInfo>,
    alpha: f64,
    rank: f64,
    rslora: bool,
    transposed: bool,
    alphas: Vec<(Regex, f64)>,
    ranks: Vec<(Regex, f64)>,
}

impl Lora {
    /// Reads an adapter's description; `unsupported` names a kind that is not merged, `config` a
    /// setting that makes no sense.
    pub(super) fn new(adapter: &Adapter) -> Result<Self> {
        let config = &adapter.config;
        refuse(config)?;
        let number = |key: &str| {
            let value = config[key].as_f64().filter(|v| v.is_finite());
            value.ok_or_else(|| wrong(Code::Config, format!("{key} is {}", config[key])))
        };
        let rank = number("r")?;
        if rank < 1.0 {
            return Err(wrong(Code::Config, format!("r is {rank}")));
        }
        Ok(Self {
            tensors: infos(&adapter.tensors).map_err(|e| e.at("the adapter"))?,
            alpha: number("lora_alpha")?,
            rank,
            rslora: config["use_rslora"] == true,
            transposed: config["fan_in_fan_out"] == true,
            alphas: patterns(&config["alpha_pattern"])?,
            ranks: patterns(&config["rank_pattern"])?,
        })
    }

    /// Name and length of every tensor that may be asked for.
    pub(super) fn lengths(&self) -> impl Iterator<Item = (String, u64)> {
        self.tensors.iter().map(|t| {
            // Checked when the adapter is applied.
            let bytes = checked_bytes(t.dtype, &t.shape).unwrap_or_default();
            (format!("{PREFIX}{}", t.name), bytes)
        })
    }

    /// Marks every tensor that the adapter changes; `missing-tensor` for a module that the source
    /// does not have, `shape` for factors that do not fit.
    pub(super) fn apply(&self, source: &mut [Logical]) -> Result<()> {
        let index: BTreeMap<String, usize> = source
            .iter()
            .enumerate()
            .map(|(i, t)| (t.name.clone(), i))
            .collect();
        let mut halves: BTreeMap<String, (Option<&TensorInfo>, Option<&TensorInfo>)> =
            BTreeMap::new();
        for tensor in &self.tensors {
            checked_bytes(tensor.dtype, &tensor.shape)?;
            match role(&tensor.name)? {
                Role::A(module) => halves.entry(module).or_default().0 = Some(tensor),
                Role::B(module) => halves.entry(module).or_default().1 = Some(tensor),
                Role::Whole(name) => {
                    let i = find(&index, &name)?;
                    replace(&mut source[i], tensor)?;
                }
            }
        }
        for (module, halves) in halves {
            let (Some(a), Some(b)) = halves else {
                let what = format!("module {module:?} has one factor of two");
                return Err(wrong(Code::MissingTensor, what));
            };
            let i = find(&index, &format!("{module}.weight"))?;
            source[i].edit = Some(self.edit(&module, &source[i], a, b)?);
        }
        Ok(())
    }

    fn edit(&self, module: &str, tensor: &Logical, a: &TensorInfo, b: &TensorInfo) -> Result<Edit> {
        let place = |e: Error| e.at(format!("the adapter, module {module:?}"));
        let rank = pattern(&self.ranks, module).unwrap_or(self.rank);
        let alpha = pattern(&self.alphas, module).unwrap_or(self.alpha);
        let transposed = self.transposed || is_embedding(&a.name);
        let (&[ra, inputs], &[outputs, rb]) = (&a.shape[..], &b.shape[..]) else {
            let what = format!("factors of shapes {:?} and {:?}", a.shape, b.shape);
            return Err(place(Error::new(Code::Shape, what)));
        };
        let product = if transposed {
            [inputs, outputs]
        } else {
            [outputs, inputs]
        };
        if ra != rb || tensor.shape != product {
            let what = format!(
                "factors {:?} and {:?} make {product:?}, the weight is {:?}",
                a.shape, b.shape, tensor.shape
            );
            return Err(place(Error::new(Code::Shape, what)));
        }
        if (ra as f64 - rank).abs() > 0.0 {
            let what = format!("factors of rank {ra}, the config says {rank}");
            return Err(place(Error::new(Code::Config, what)));
        }
        let divisor = if self.rslora { rank.sqrt() } else { rank };
        Ok(Edit::Add {
            a: a.clone(),
            b: b.clone(),
            scale: (alpha / divisor) as f32,
            transposed,
        })
    }

    /// The factors of an edit from their bytes, as `Edit::tensors` lists them.
    pub(super) fn factors(edit: &Edit, answer: &[Vec<u8>]) -> Result<Option<Factors>> {
        let (
            Edit::Add {
                a,
                b,
                scale,
                transposed,
            },
            [left, right],
        ) = (edit, answer)
        else {
            return Ok(None);
        };
        let (av, bv) = (floats(a, left)?, floats(b, right)?);
        let rank = a.shape[0];
        let (left, right) = if *transposed {
            (transpose(&av, a.shape[1]), transpose(&bv, rank))
        } else {
            (bv, av)
        };
        Ok(Some(Factors {
            right,
            left,
            rank,
            scale: *scale,
        }))
    }
}

fn floats(info: &TensorInfo, bytes: &[u8]) -> Result<Vec<f32>> {
    let mut values = vec![0.0; bytes.len() * 8 / info.dtype.bits()];
    let place = |e: Error| e.at(format!("the adapter, tensor {:?}", info.name));
    f32_from(info.dtype, bytes, &mut values).map_err(place)?;
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(values),
        Some(i) => {
            let what = format!("value {i} is {}", values[i]);
            Err(place(Error::new(Code::NonfiniteWeight, what)))
        }
    }
}

fn find(index: &BTreeMap<String, usize>, name: &str) -> Result<usize> {
    index.get(name).copied().ok_or_else(|| {
        let what = format!("it changes {name:?}, which the model does not have");
        let error = wrong(Code::MissingTensor, what);
        match nearest(name, index.keys().map(String::as_str)) {
            Some(near) => error.remedy(format!(
                "the model has {near:?}: use the adapter's own base"
            )),
            None => error.remedy("use the adapter's own base model"),
        }
    })
}

/// Puts a tensor of the adapter in the place of the source's.
fn replace(tensor: &mut Logical, own: &TensorInfo) -> Result<()> {
    if tensor.shape != own.shape {
        let what = format!("shape {:?}, the model's is {:?}", own.shape, tensor.shape);
        return Err(wrong(Code::Shape, what).at(format!("tensor {:?}", own.name)));
    }
    tensor.stored = Stored::Plain(format!("{PREFIX}{}", own.name));
    tensor.edit = (own.dtype != tensor.dtype).then_some(Edit::Replace(own.dtype));
    Ok(())
}
