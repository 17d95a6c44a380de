//! What describes an architecture: which tensors a model has, in which order its blocks use them.
//!
//! The table itself is `archs.rs`.

pub use super::archs::ARCHS;
use super::config::{Config, Factors, Scoring};
pub use super::dims::Dim;
use super::fields::Fields;
pub use super::keys::{Dense, EncoderKeys, ExpertKeys, Groups, Rope, Shared, Window};
use super::ops::{Op, Part};
use crate::error::{Code, Error, Result, nearest};
use std::borrow::Cow;

/// One family of models as data.
#[derive(Debug)]
pub struct Arch {
    /// Name shown to people.
    pub name: &'static str,
    /// Values of `model_type` in config.json that this row serves.
    pub model_types: &'static [&'static str],
    /// Key of config.json that holds the values of the language model, in models that also see
    /// images; without it they stand outside.
    pub text: Option<&'static str>,
    /// What names of the base model begin with; checkpoints of the base model alone leave it out.
    pub base: &'static str,
    /// Keys of config.json by other names: the one that is read here, the family's own.
    pub renamed: &'static [(&'static str, &'static str)],
    /// Key of what is added in norms, and what it stands for when absent.
    pub eps: (&'static str, f64),
    /// How an encoder's config says what differs; none in decoders.
    pub encoder: Option<EncoderKeys>,
    /// What follows the last block in a model that classifies.
    pub tail: Tail,
    /// Module of the token embedding, `[vocabulary, hidden]`.
    pub embed: &'static str,
    /// Modules of the blocks: this, a dot, the block's index.
    pub blocks: &'static str,
    /// Module of the final norm; empty in encoders, which have none.
    pub norm: &'static str,
    /// Module of the output head, `[vocabulary, hidden]`; `head.rs` decides what it gets.
    pub head: &'static str,
    /// The weights of block `layer`; `Config::rows` repeats those of experts.
    pub rows: fn(config: &Config, layer: usize) -> &'static [Row],
    /// What block `layer` does.
    pub ops: fn(config: &Config, layer: usize) -> Vec<Op>,
    /// When linears have biases.
    pub biases: Biases,
    /// Keys of the MLP's activation, and the names of the one that its operations compute.
    pub activation: (&'static [&'static str], &'static [&'static str]),
    /// Where attention looks back over a window only.
    pub window: Window,
    /// How queries and keys are rotated.
    pub rope: Rope,
    /// Reads the constants of the family.
    pub(super) factors: fn(&Fields<'_>, &Config) -> Result<Factors>,
    /// Keys and values are made of a narrow vector (multi-head latent attention).
    pub latent: bool,
    /// How its config describes a mixture of experts, if it has one.
    pub experts: Option<ExpertKeys>,
    /// What is added to a norm's stored weight to get what values are multiplied with. Everything
    /// here that holds a norm holds the sum; only files hold the weight without it.
    pub norm_offset: f32,
    /// What transformers assumes for keys that config.json leaves out.
    pub absent: Absent,
}

/// What follows the last block of a model that classifies, on one state per text.
#[derive(Debug, Clone, Copy)]
pub struct Tail {
    /// Its weights.
    pub rows: &'static [Row],
    /// What it does, from `Hidden` to `Labels`.
    pub ops: &'static [Op],
}

/// One weight of a block.
#[derive(Debug, Clone)]
pub struct Row {
    /// The name that operations use; experts are numbered when the row is repeated.
    pub part: Part,
    /// Module below its place, as in `self_attn.q_proj`; `{}` stands for an expert's number.
    pub module: Cow<'static, str>,
    /// Below what.
    pub place: Place,
    /// Shape and bias.
    pub kind: Kind,
    /// How far it may be compressed.
    pub policy: Policy,
}

/// What a row's module is below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The block.
    Block,
    /// The base model.
    Base,
    /// Nothing: it is a whole name.
    Whole,
}

/// Shape of a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A matrix that inputs are multiplied with.
    Matrix {
        /// Outputs.
        rows: Dim,
        /// Inputs.
        cols: Dim,
        /// Which of the biases it shares the condition of.
        bias: BiasOf,
    },
    /// A vector, as norms have.
    Vector(Dim),
    /// The bias of a norm.
    Bias(Dim),
    /// A matrix whose rows are looked up.
    Table {
        /// How many rows.
        rows: Dim,
        /// Their width.
        cols: Dim,
    },
}

/// Which bias condition a linear follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BiasOf {
    /// Query, key and value projections.
    Qkv,
    /// Attention output projection.
    O,
    /// Linears of the MLP.
    Mlp,
    /// A linear that always has one.
    Always,
    /// The router of experts with logistic scores, where it counts for the choice only.
    Correction,
    /// A linear that never has one.
    None,
}

impl BiasOf {
    /// Whether the linear has a bias in a given model.
    pub fn present(self, config: &Config) -> bool {
        match self {
            BiasOf::Qkv => config.qkv_bias,
            BiasOf::O => config.o_bias,
            BiasOf::Mlp => config.mlp_bias,
            BiasOf::Correction => config
                .experts
                .is_some_and(|e| e.scoring == Scoring::Sigmoid),
            BiasOf::Always => true,
            BiasOf::None => false,
        }
    }
}

impl BiasOf {
    /// Last part of the name of its tensor.
    pub fn tensor(self) -> &'static str {
        match self {
            BiasOf::Correction => "e_score_correction_bias",
            _ => "bias",
        }
    }
}

/// The strongest compression that a weight tolerates by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Stays as stored: norms and other vectors, whose bytes are few and whose errors are not.
    Keep,
    /// May be rounded to codes of this many bits or more.
    Codes {
        /// Fewest bits.
        fewest_bits: u8,
    },
}

/// When a linear has a bias, or another thing is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bias {
    /// In no model of the family.
    Never,
    /// In every model of the family.
    Always,
    /// When this key of config.json is true; absent means false.
    Key(&'static str),
    /// Unless this key of config.json is false.
    Unless(&'static str),
}

/// The bias conditions of a family.
#[derive(Debug, Clone, Copy)]
pub struct Biases {
    /// Query, key and value projections.
    pub qkv: Bias,
    /// Attention output projection.
    pub o: Bias,
    /// Linears of the MLP.
    pub mlp: Bias,
}

/// What transformers assumes for keys that config.json leaves out.
#[derive(Debug, Clone, Copy)]
pub struct Absent {
    /// `num_key_value_heads`; `None`: as many as query heads.
    pub kv_heads: Option<usize>,
    /// `head_dim`; `None`: hidden size divided by query heads.
    pub head_dim: Option<usize>,
    /// `tie_word_embeddings`.
    pub tied: bool,
}

/// The row that serves a `model_type`; `unknown-architecture` names the known ones otherwise.
pub fn find(model_type: &str) -> Result<&'static Arch> {
    let known = || ARCHS.iter().flat_map(|a| a.model_types).copied();
    let serves = |a: &&&Arch| a.model_types.contains(&model_type);
    ARCHS.iter().find(serves).copied().ok_or_else(|| {
        let shown: String = model_type.chars().take(60).collect();
        let near = nearest(&shown, known()).unwrap_or_default();
        let list: Vec<_> = known().collect();
        let what = format!("model_type {shown:?} has no architecture here");
        Error::new(Code::UnknownArchitecture, what)
            .at("config.json")
            .remedy(format!("known: {}; nearest: {near}", list.join(", ")))
    })
}
