//! config.json of transformers 4 and 5, checked.
//!
//! The two differ in where they keep the rotary embedding (`rope_theta` and `rope_scaling`, or
//! `rope_parameters`) and in the name of the stored type (`torch_dtype`, or `dtype`).

mod blocks;
mod encoder;
mod experts;
pub(super) mod factors;
mod latent;
mod rope;
mod sizes;

pub use blocks::{BlockShape, Turning};
pub use encoder::Encoder;
pub use experts::{ExpertGroups, Experts, Scoring};
pub use factors::Factors;
pub use latent::Latent;
pub use rope::RopeScaling;

use super::arch::{self, Arch, Bias, Place, Row};
use super::archs::UNKNOWN;
use super::fields::Fields;
use super::guess::Guess;
use super::ops::Op;
use crate::error::{Code, Error, Result};
use crate::tensor::Dtype;
use serde_json::Value;
use std::sync::Arc;

/// What the forward pass needs from config.json; every value is in range.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Name of the architecture row.
    pub model_type: String,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// Decoder blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Longest sequence.
    pub context: usize,
    /// Added to the mean square in norms.
    pub norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Scaling of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// Base of the rotary frequencies of blocks whose attention slides, if they have their own;
    /// these are not scaled.
    pub local_theta: Option<f64>,
    /// Values of a head that are rotated, from its start; even.
    pub rotary: usize,
    /// Constants of the family.
    pub factors: Factors,
    /// The head is the embedding.
    pub tied: bool,
    /// q, k and v have a bias.
    pub qkv_bias: bool,
    /// The attention output has a bias.
    pub o_bias: bool,
    /// MLP linears have a bias.
    pub mlp_bias: bool,
    /// Sizes of attention through a narrow vector, if the family has it. `head_dim` is the width
    /// of a query head then, and every query head has a key head of its own.
    pub latent: Option<Latent>,
    /// What only encoders have: their tokens see their whole text.
    pub encoder: Option<Encoder>,
    /// Labels that the model gives scores to; 0 when it does not classify.
    pub labels: usize,
    /// Names in the checkpoint lack the base model's prefix; the loader finds that out.
    pub bare: bool,
    /// Layer norms are stored as `gamma` and `beta`, as in old checkpoints; the loader finds out.
    pub old_norms: bool,
    /// Linears of a family that is not known: such a config can be quantized and not run.
    pub guess: Option<Arc<Guess>>,
    /// The mixture of experts of the blocks that have one.
    pub experts: Option<Experts>,
    /// What differs from block to block, `layers` of them.
    pub blocks: Vec<BlockShape>,
    /// The type that the config says the weights are stored in; the tensors themselves decide.
    pub dtype: Option<Dtype>,
}

impl Config {
    /// Reads and checks config.json.
    ///
    /// `config` names key, value and allowed values; `unknown-architecture` when no row knows the
    /// model type; `unsupported` for features that nothing here computes.
    pub fn from_json(json: &Value) -> Result<Self> {
        let outer = Fields::new(json, "")?;
        let model_type = outer
            .text("model_type")?
            .ok_or_else(|| Error::new(Code::Config, "model_type is missing").at("config.json"))?;
        let arch = arch::find(model_type)?;
        let nested = arch.text.filter(|key| outer.get(key).is_some());
        let mut config = if let Some(key) = nested {
            let path = format!("{key}.");
            let inner = text_of(&outer, key, &path)?;
            Self::from_fields(&Fields::new(&inner, &path)?, arch)?
        } else if arch.renamed.is_empty() {
            Self::from_fields(&outer, arch)?
        } else {
            Self::from_fields(&Fields::new(&renamed(json, arch), "")?, arch)?
        };
        config.labels = encoder::labels(&outer)?;
        Ok(config)
    }

    fn from_fields(fields: &Fields<'_>, arch: &Arch) -> Result<Self> {
        let mut config = sizes::read(fields, arch)?;
        check_activation(fields, arch)?;
        rope::read(fields, arch, &mut config)?;
        let (eps, absent) = arch.eps;
        config.norm_eps = fields.number(eps, 0.0..=1.0, Some(absent))? as f32;
        config.encoder = encoder::read(fields, arch, &mut config)?;
        config.tied = fields.flag("tie_word_embeddings", arch.absent.tied)?;
        config.qkv_bias = condition(fields, arch.biases.qkv)?;
        config.o_bias = condition(fields, arch.biases.o)?;
        config.mlp_bias = condition(fields, arch.biases.mlp)?;
        config.experts = experts::experts(fields, arch)?;
        config.blocks = blocks::shapes(fields, arch, &config)?;
        config.factors = (arch.factors)(fields, &config)?;
        config.dtype = stored_dtype(fields)?;
        Ok(config)
    }

    /// The architecture's row.
    pub fn arch(&self) -> &'static Arch {
        if self.guess.is_some() {
            return &UNKNOWN;
        }
        arch::find(&self.model_type).expect("a checked config names a known model type")
    }

    /// The weights of block `layer`, those of each expert one after the other.
    pub fn rows(&self, layer: usize) -> Vec<Row> {
        let mut rows = Vec::new();
        let all = (self.arch().rows)(self, layer);
        for run in all.chunk_by(|a, b| a.part.expert() == b.part.expert()) {
            match (run[0].part.expert(), self.experts) {
                (Some(_), Some(experts)) => {
                    for expert in 0..experts.count {
                        rows.extend(run.iter().map(|row| Row {
                            part: row.part.of_expert(expert as u16),
                            module: row.module.replace("{}", &expert.to_string()).into(),
                            ..row.clone()
                        }));
                    }
                }
                _ => rows.extend_from_slice(run),
            }
        }
        rows
    }

    /// The whole name of a module whose name in the table of architectures is `name`.
    pub fn named(&self, name: &str) -> String {
        let base = self.arch().base;
        let bare = name.strip_prefix(base).filter(|_| self.bare);
        bare.unwrap_or(name).into()
    }

    /// The whole name of a row's module, in block `layer` if it stands in one.
    pub fn module_of(&self, layer: usize, row: &Row) -> String {
        let (arch, module) = (self.arch(), &row.module);
        match row.place {
            Place::Block => format!("{}.{layer}.{module}", self.named(arch.blocks)),
            Place::Base => self.named(&format!("{}{module}", arch.base)),
            Place::Whole => module.to_string(),
        }
    }

    /// What block `layer` does.
    pub fn ops(&self, layer: usize) -> Arc<[Op]> {
        (self.arch().ops)(self, layer).into()
    }
}

/// The language model's object, and with it what configs keep outside of it.
fn text_of(outer: &Fields<'_>, key: &str, path: &str) -> Result<Value> {
    let inner = outer.get(key).unwrap_or(&Value::Null);
    let fields = Fields::new(inner, path)?;
    let mut text = inner.clone();
    for key in ["tie_word_embeddings", "dtype", "torch_dtype"] {
        // Older configs tie inside, newer ones outside: either counts.
        let tied = key == "tie_word_embeddings" && outer.flag(key, false)?;
        if let Some(value) = outer.get(key).filter(|_| tied || fields.get(key).is_none()) {
            text[key] = value.clone();
        }
    }
    Ok(text)
}

/// The same object with the family's own keys under the names that are read here.
fn renamed(json: &Value, arch: &Arch) -> Value {
    let mut all = json.clone();
    for (name, own) in arch.renamed {
        if let Some(value) = json.get(own) {
            all[*name] = value.clone();
        }
    }
    all
}

fn check_activation(fields: &Fields<'_>, arch: &Arch) -> Result<()> {
    let (keys, known) = arch.activation;
    for key in keys {
        if let Some(act) = fields.text(key)?.filter(|a| !known.contains(a)) {
            let what = format!("{key} {act:?}; only {:?} is computed here", known[0]);
            return Err(Error::new(Code::Unsupported, what).at("config.json"));
        }
    }
    Ok(())
}

pub(super) fn condition(fields: &Fields<'_>, condition: Bias) -> Result<bool> {
    match condition {
        Bias::Never => Ok(false),
        Bias::Always => Ok(true),
        Bias::Key(key) => fields.flag(key, false),
        Bias::Unless(key) => fields.flag(key, true),
    }
}

fn stored_dtype(fields: &Fields<'_>) -> Result<Option<Dtype>> {
    let name = fields.text("dtype")?.or(fields.text("torch_dtype")?);
    Ok(match name.map(|n| n.trim_start_matches("torch.")) {
        Some("float32") => Some(Dtype::F32),
        Some("float16") => Some(Dtype::F16),
        Some("bfloat16") => Some(Dtype::BF16),
        _ => None,
    })
}
