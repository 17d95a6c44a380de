//! Names of a checkpoint's tensors in GGUF, and what happens to their values on the way.

use super::family::Family;
use super::latent::{Half, Latent};
use crate::error::{Code, Error, Result};

/// Modules outside the blocks.
pub(super) const OUTSIDE: &[(&str, &str)] = &[
    ("model.embed_tokens", "token_embd"),
    ("model.norm", "output_norm"),
    ("lm_head", "output"),
];

/// Modules inside a block, `{}` for the number of an expert.
pub(super) const BLOCK: &[(&str, &str)] = &[
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mlp.gate", "ffn_gate_inp"),
    ("mlp.experts.{}.gate_proj", "ffn_gate_exps"),
    ("mlp.experts.{}.up_proj", "ffn_up_exps"),
    ("mlp.experts.{}.down_proj", "ffn_down_exps"),
    ("mlp.shared_expert.gate_proj", "ffn_gate_shexp"),
    ("mlp.shared_expert.up_proj", "ffn_up_shexp"),
    ("mlp.shared_expert.down_proj", "ffn_down_shexp"),
    ("mlp.shared_expert_gate", "ffn_gate_inp_shexp"),
];

/// Where a tensor of a checkpoint goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The name in GGUF.
    pub name: String,
    /// The expert whose slice of the tensor it is.
    pub expert: Option<usize>,
}

/// Where the language model's tensors are in checkpoints of several towers, and what stands there
/// in checkpoints of one.
const LANGUAGE: &[(&str, &str)] = &[
    ("model.language_model.", "model."),
    ("language_model.model.", "model."),
    ("language_model.lm_head.", "lm_head."),
];

/// What the names of other towers begin with.
const TOWERS: &[&str] = &[
    "visual.",
    "model.visual.",
    "vision_tower.",
    "model.vision_tower.",
    "multi_modal_projector.",
    "model.multi_modal_projector.",
];

/// What a tensor's name says in a checkpoint of several towers.
pub(super) enum Place {
    /// It is of the language model, whose name for it this is.
    Language(String),
    /// It is of another tower.
    Tower,
    /// Its name has no tower.
    Plain,
}

/// Which tower a tensor is of.
pub(super) fn place(name: &str) -> Place {
    if TOWERS.iter().any(|tower| name.starts_with(tower)) {
        return Place::Tower;
    }
    let mut plain = LANGUAGE
        .iter()
        .filter_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)));
    plain.next().map_or(Place::Plain, Place::Language)
}

/// What happens to a tensor's values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// Nothing.
    None,
    /// Rows of every head, this many each, are reordered for rotary pairs that are neighbours.
    Permute(usize),
    /// This is added to every value.
    Add(f32),
    /// One of the halves of a matrix is taken.
    Half(Latent, Half),
    /// So many rows of so many are left out at the start.
    Skip(usize, usize),
}

/// A number in a name; `name` when it is not below `end`, so that no arithmetic with it can wrap.
pub(super) fn number(text: &str, end: usize, name: &str) -> Result<usize> {
    let plain = text.len() <= 6 && text.bytes().all(|b| b.is_ascii_digit());
    let found = plain.then(|| text.parse().ok()).flatten();
    found.filter(|n| *n < end).ok_or_else(|| {
        let what = format!("tensor {name:?} is of number {text}, there are {end}");
        Error::new(Code::Name, what).remedy("config.json and the weights are of different models")
    })
}

/// The target of a tensor; none for buffers that are computed again, `unsupported` with the name
/// for tensors that GGUF has no name for.
///
/// `layers` and `experts` bound the numbers in names.
pub fn target(
    family: &Family,
    name: &str,
    layers: usize,
    experts: usize,
) -> Result<Option<Target>> {
    let own = name.strip_prefix(family.base).unwrap_or(name);
    if name.ends_with("rotary_emb.inv_freq")
        || (family.headless && name == "lm_head.weight")
        || family.left.iter().any(|left| own.starts_with(left))
    {
        return Ok(None);
    }
    let unknown = || {
        let what = format!("GGUF has no name for tensor {name:?} of {}", family.arch);
        Error::new(Code::Unsupported, what)
            .remedy("if the checkpoint is quantized, decode it first; it must be of a plain model")
    };
    // The one bias that checkpoints write with an underscore.
    let dotted = name.replace(".e_score_correction_bias", ".e_score_correction.bias");
    let (module, suffix) = dotted.rsplit_once('.').ok_or_else(unknown)?;
    let suffix = match suffix {
        "weight" | "bias" => suffix,
        // As layer norms were called once.
        "gamma" if family.encoder => "weight",
        "beta" if family.encoder => "bias",
        _ => return Err(unknown()),
    };
    let whole = format!("{}{module}", family.base);
    let bare = module.strip_prefix(family.base).unwrap_or(module);
    let spellings = [module, bare, &*whole];
    let mut outside = family.outside.iter().chain(OUTSIDE);
    if let Some((_, to)) = outside.find(|(from, _)| spellings.contains(from)) {
        let name = format!("{to}.{suffix}");
        return Ok(Some(Target { name, expert: None }));
    }
    let inside = spellings.iter().find_map(|module| {
        let rest = module.strip_prefix(family.blocks)?;
        rest.strip_prefix('.')?.split_once('.')
    });
    let (layer, module) = inside.ok_or_else(unknown)?;
    let layer = number(layer, layers, name)?;
    for (from, to) in family.names.iter().chain(BLOCK) {
        let expert = match from.split_once("{}") {
            None if *from == module => None,
            Some((before, after)) => {
                let middle = module.strip_prefix(before);
                match middle.and_then(|m| m.strip_suffix(after)) {
                    Some(digits) => Some(number(digits, experts, name)?),
                    None => continue,
                }
            }
            None => continue,
        };
        let name = format!("blk.{layer}.{to}.{suffix}");
        return Ok(Some(Target { name, expert }));
    }
    Err(unknown())
}

/// What happens to the values of a tensor with the given GGUF name.
pub fn change(family: &Family, name: &str, head_dim: usize) -> Change {
    let part =
        |p: &str| name.ends_with(&format!(".{p}.weight")) || name.ends_with(&format!(".{p}.bias"));
    if family.permute && (part("attn_q") || part("attn_k")) {
        return Change::Permute(head_dim);
    }
    if family.norm_offset != 0.0 && name.ends_with("norm.weight") {
        return Change::Add(family.norm_offset);
    }
    Change::None
}

impl Change {
    /// Rows that can only be changed together.
    pub fn granule(self) -> usize {
        match self {
            Change::Permute(height) => height,
            Change::Half(latent, _) => latent.heads * latent.rows(),
            Change::Skip(_, rows) => rows,
            Change::None | Change::Add(_) => 1,
        }
    }

    /// Columns of the rows that are changed, where those of what becomes of them are others.
    pub(super) fn cols(self) -> Option<usize> {
        match self {
            Change::Half(latent, _) => Some(latent.rank),
            _ => None,
        }
    }

    /// Applies the change to `values`, whose rows are `cols` wide; `shape` unless they are whole
    /// granules.
    pub fn apply(self, values: &mut Vec<f32>, cols: usize) -> Result<()> {
        self.run(values, cols, 1.0)
    }

    /// Takes the change back: `out` gets the values as they were; of a matrix in halves it must
    /// have all, and keeps those of the other half.
    pub fn undo(self, mut values: Vec<f32>, cols: usize, out: &mut Vec<f32>) -> Result<()> {
        if let Change::Half(latent, half) = self {
            return latent.put(half, &values, out);
        }
        if let Change::Skip(rows, _) = self {
            out.truncate(rows * cols);
            out.extend(values);
            return Ok(());
        }
        self.run(&mut values, cols, -1.0)?;
        *out = values;
        Ok(())
    }

    /// Applies the change to whole rows of blocks of `row_bytes` each; `unsupported` when it changes
    /// values.
    pub(super) fn reorder(self, blocks: &mut Vec<u8>, row_bytes: usize) -> Result<()> {
        match self {
            Change::None => Ok(()),
            Change::Permute(height) => permute(blocks, height, row_bytes, false),
            Change::Add(_) | Change::Half(..) | Change::Skip(..) => Err(Error::new(
                Code::Unsupported,
                "values change on the way to GGUF",
            )),
        }
    }

    fn run(self, values: &mut Vec<f32>, cols: usize, sign: f32) -> Result<()> {
        match self {
            Change::None => Ok(()),
            Change::Add(offset) => {
                for value in &mut *values {
                    *value += sign * offset;
                }
                Ok(())
            }
            Change::Permute(height) => permute(values, height, cols, sign < 0.0),
            Change::Half(latent, half) => {
                *values = latent.cut(half, values)?;
                Ok(())
            }
            Change::Skip(rows, all) if values.len() == all * cols => {
                values.drain(..rows * cols);
                Ok(())
            }
            Change::Skip(_, all) => {
                let what = format!("{} values are no {all} rows of {cols}", values.len());
                Err(Error::new(Code::Shape, what))
            }
        }
    }
}

/// Row `half · d/2 + i` of a head of width d becomes row `2i + half`, or the other way round.
pub(super) fn permute<T: Copy>(
    values: &mut Vec<T>,
    height: usize,
    cols: usize,
    back: bool,
) -> Result<()> {
    let rows = values.len() / cols.max(1);
    if height < 2 || !height.is_multiple_of(2) || !rows.is_multiple_of(height) {
        let what = format!("{rows} rows are no heads of {height} rows in pairs");
        return Err(Error::new(Code::Shape, what));
    }
    let pairs = height / 2;
    let mut out = Vec::with_capacity(values.len());
    for row in 0..rows {
        let (head, at) = (row / height, row % height);
        let from = if back {
            2 * (at % pairs) + at / pairs
        } else {
            at % 2 * pairs + at / 2
        };
        out.extend_from_slice(&values[(head * height + from) * cols..][..cols]);
    }
    *values = out;
    Ok(())
}
