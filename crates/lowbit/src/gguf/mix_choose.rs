//! Applies a mix to the tensors of a model.

use super::mix::Mix;
use super::mix_kinds::{Kind, fallback, kind_of, layer_of, quantizes};
use super::types::{F32, Q5_K, Q8_0, Type};
use crate::error::{Code, Error, Result};
use regex_lite::Regex;

/// When a rule applies to the i-th of n tensors of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Always,
    /// i is below this.
    Below(usize),
    /// i is in the first of this many equal parts.
    First(usize),
    /// In the first and last eighth, and every third between.
    MoreBits,
    /// Four query heads or more share a value head.
    ManyQueries,
    /// As `First`, with an importance matrix.
    ImatrixFirst(usize),
    /// As `First`, without one.
    NoImatrixFirst(usize),
}

/// What the choice depends on beside names and shapes.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Experts per layer, 0 without any.
    pub experts: usize,
    /// Whether there is an importance matrix.
    pub imatrix: bool,
}

/// What the caller wants otherwise than the mix says.
#[derive(Debug, Default)]
pub struct Overrides {
    /// Types for names that match, the first that does; as `--tensor-type`.
    pub tensors: Vec<(Regex, &'static Type)>,
    /// Type of the head.
    pub head: Option<&'static Type>,
    /// Type of the token embedding.
    pub embedding: Option<&'static Type>,
    /// The base type for everything.
    pub pure: bool,
    /// The head stays in floats.
    pub keep_head: bool,
}

/// The type of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The type it gets.
    pub ty: &'static Type,
    /// The type it would have if its rows were whole blocks.
    pub wanted: &'static Type,
}

/// Mixes that give the attention output of 8-expert models more bits.
const EIGHT_EXPERTS: &[&str] = &[
    "Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M", "IQ4_NL", "IQ4_XS",
];

/// Chooses a type for each tensor, `(name, shape)` in the order of the file.
///
/// `imatrix` when the mix needs an importance matrix and there is none.
pub fn choose(
    mix: &Mix,
    tensors: &[(String, Vec<usize>)],
    facts: &Facts,
    overrides: &Overrides,
) -> Result<Vec<Choice>> {
    if mix.needs_imatrix && !facts.imatrix {
        let what = format!(
            "{} without an importance matrix gives a useless model",
            mix.name
        );
        let error = Error::new(Code::Imatrix, what);
        return Err(error.remedy("collect one and pass it with --imatrix"));
    }
    let tied = !tensors.iter().any(|(name, _)| name == "output.weight");
    let of_kind = |kind| {
        tensors
            .iter()
            .filter(|(n, _)| kind_of(n, tied) == kind)
            .count()
    };
    let mut chooser = Chooser {
        mix,
        facts,
        overrides,
        tied,
        values: (0, of_kind(Kind::Value)),
        downs: 0,
    };
    let chosen = tensors
        .iter()
        .map(|(name, shape)| chooser.choose(name, shape));
    Ok(chosen.collect())
}

struct Chooser<'a> {
    mix: &'a Mix,
    facts: &'a Facts,
    overrides: &'a Overrides,
    tied: bool,
    /// Tensors with values: how many were seen, and how many there are.
    values: (usize, usize),
    downs: usize,
}

impl Chooser<'_> {
    fn choose(&mut self, name: &str, shape: &[usize]) -> Choice {
        let kept = Choice {
            ty: &F32,
            wanted: &F32,
        };
        let kind = kind_of(name, self.tied);
        if !quantizes(name, shape) || (name == "output.weight" && self.overrides.keep_head) {
            return kept;
        }
        let cols = shape.last().copied().unwrap_or_default();
        let wanted = self.wanted(name, shape, kind);
        Choice {
            ty: fallback(wanted, cols),
            wanted,
        }
    }

    fn wanted(&mut self, name: &str, shape: &[usize], kind: Kind) -> &'static Type {
        let o = self.overrides;
        let own = match kind {
            Kind::Head if name == "output.weight" => o.head,
            _ if name == "token_embd.weight" => o.embedding,
            _ => None,
        };
        let named = || {
            o.tensors
                .iter()
                .find(|(r, _)| r.is_match(name))
                .map(|(_, ty)| *ty)
        };
        let place = self.place(name, kind);
        if let Some(ty) = own.or_else(named) {
            return ty;
        }
        if o.pure || self.mix.base.block == 1 {
            return self.mix.base;
        }
        let cols = shape.last().copied().unwrap_or_default();
        match kind {
            Kind::Head if o.head.is_some() => o.head.unwrap_or(self.mix.base),
            Kind::Head => match self.mix.head {
                Some(_) if !cols.is_multiple_of(self.mix.base.block) => &Q8_0,
                Some(ty) => ty,
                None => self.mix.base,
            },
            Kind::Embedding => self.mix.embedding.unwrap_or(self.mix.base),
            _ => self.by_rule(kind, shape.len() == 3, place),
        }
    }

    /// The tensor's number among those of its kind, and how many there are.
    fn place(&mut self, name: &str, kind: Kind) -> (usize, usize) {
        let counted = match kind {
            Kind::Value => &mut self.values.0,
            Kind::Down => &mut self.downs,
            _ => return (0, 1),
        };
        let i = *counted;
        *counted += 1;
        let layers = self.facts.layers;
        match kind {
            Kind::Value => (i, self.values.1),
            // Experts are not always in the order of their layers.
            _ if self.facts.experts > 1 => (layer_of(name, layers).unwrap_or(i), layers),
            _ => (i, layers),
        }
    }

    fn by_rule(&self, kind: Kind, stacked: bool, place: (usize, usize)) -> &'static Type {
        let rules = self.mix.rules.iter();
        let mut applying = rules.filter(|r| {
            (r.kind == kind || (r.kind == Kind::Stacked && stacked)) && self.applies(r.when, place)
        });
        let ty = applying.next().map_or(self.mix.base, |r| r.ty);
        let eight = self.facts.experts == 8 && self.mix.name != "MXFP4_MOE";
        match kind {
            Kind::Value | Kind::Key if eight => &Q8_0,
            Kind::Output if eight && EIGHT_EXPERTS.contains(&self.mix.name) => &Q5_K,
            Kind::Output if eight => self.mix.base,
            Kind::Value if self.is_70b() && ["Q3_K", "Q4_K"].contains(&ty.name) => &Q5_K,
            _ => ty,
        }
    }

    /// Eighty layers whose queries share values: values are small and worth their bits.
    fn is_70b(&self) -> bool {
        self.facts.layers == 80 && self.facts.heads != self.facts.kv_heads
    }

    fn applies(&self, when: When, (i, n): (usize, usize)) -> bool {
        let first = |part: usize| i < n / part;
        match when {
            When::Always => true,
            When::Below(most) => i < most,
            When::First(part) => first(part),
            When::MoreBits => first(8) || i >= 7 * n / 8 || (i - n / 8) % 3 == 2,
            When::ManyQueries => self.facts.heads >= 4 * self.facts.kv_heads.max(1),
            When::ImatrixFirst(part) => self.facts.imatrix && first(part),
            When::NoImatrixFirst(part) => !self.facts.imatrix && first(part),
        }
    }
}
