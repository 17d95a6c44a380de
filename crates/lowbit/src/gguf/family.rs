//! What a family is to GGUF: the columns of the table in `families.rs`.

use super::families::FAMILIES;
use super::granted::Granted;
use super::metadata::Sizes;
use crate::error::{Code, Error, Result, nearest};
use serde_json::Value as Json;

/// One family as GGUF knows it.
#[derive(Debug)]
pub struct Family {
    /// Values of `model_type` in config.json that this row serves.
    pub model_types: &'static [&'static str],
    /// The value of `general.architecture`, which prefixes the family's keys.
    pub arch: &'static str,
    /// Query and key rows are reordered: rotary pairs are neighbours in the file and half a head
    /// apart in the checkpoint.
    pub permute: bool,
    /// Norm weights are stored less one in the checkpoint.
    pub norm_offset: f32,
    /// What names of the base model begin with; checkpoints of the base model alone leave it out.
    pub(super) base: &'static str,
    /// Where the blocks are.
    pub(super) blocks: &'static str,
    /// Modules outside the blocks beside those of `tensors::OUTSIDE`.
    pub(super) outside: &'static [(&'static str, &'static str)],
    /// What names of the base model begin with that the file has no use for.
    pub(super) left: &'static [&'static str],
    /// Tokens see their whole text: layer norms, learned positions, nothing that turns.
    pub(super) encoder: bool,
    /// Modules inside a block that have another name than in `tensors::BLOCK`.
    pub(super) names: &'static [(&'static str, &'static str)],
    /// Keys beside those that all families have.
    pub(super) keys: &'static [Key],
    /// The head is never stored, because loaders take the embedding.
    pub headless: bool,
    /// Whether checkpoints may hold another tower beside the language model.
    pub multimodal: bool,
    /// What llama.cpp has no key for.
    pub(super) granted: &'static [Granted],
    /// What it has no key for either and one value does not tell: why the config does not fit.
    pub(super) misfit: fn(&Json, &Sizes) -> Option<String>,
}

/// A key of the family and where config.json has its value.
#[derive(Debug)]
pub struct Key {
    /// The key without the family's prefix.
    pub(super) name: &'static str,
    /// The key of config.json.
    pub(super) from: &'static str,
    pub(super) kind: KeyKind,
}

/// How a key is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyKind {
    Count,
    /// A count that is this when the config has none.
    CountOr(usize),
    /// The sum of two counts, the other of this name.
    CountPlus(&'static str),
    /// A float that is not written when the config has none.
    MaybeFloat,
    /// A count that is not written when the config has none.
    MaybeCount,
    /// A flag that is written when it is set.
    MaybeFlag,
    /// The width of a head, computed when the config has none.
    HeadDim,
    /// How much of a head turns.
    RotaryDim,
    /// Parts of a head that turn with time, height and width.
    Sections,
    /// Which layers look at a window only.
    Windows,
    /// Always this number.
    Always(u32),
    /// A flag that is never set.
    Off,
    /// What is added to the variance in layer norms, which the config need not have.
    Epsilon,
    /// One, where the checkpoint has as many as there are heads.
    OneHead,
}

pub(super) const fn key(name: &'static str, from: &'static str, kind: KeyKind) -> Key {
    Key { name, from, kind }
}

impl Family {
    /// The row that serves a `model_type`; `unknown-architecture` names the known ones otherwise.
    pub fn find(model_type: &str) -> Result<&'static Self> {
        let known = || FAMILIES.iter().flat_map(|f| f.model_types).copied();
        let serves = |f: &&Family| f.model_types.contains(&model_type);
        FAMILIES.iter().find(serves).ok_or_else(|| {
            let shown: String = model_type.chars().take(60).collect();
            let near = nearest(&shown, known()).unwrap_or_default();
            let list: Vec<_> = known().collect();
            let what = format!("model_type {shown:?} has no GGUF names here");
            Error::new(Code::UnknownArchitecture, what)
                .at("config.json")
                .remedy(format!("known: {}; nearest: {near}", list.join(", ")))
        })
    }
}
