//! Stored tensors → model, sans I/O: says which tensors it wants next, takes their bytes.
//!
//! ```text
//! Loader::new(names, shapes, config) ─► wants() ─► supply(tensors) = Piece ─► wants() … ─► None
//! ```
//! Pieces come in the order embedding, blocks, final norm, head or tail, so that a caller can place each
//! on its device and drop the bytes before it reads the next.

use super::arch::{self, Row};
use super::config::Config;
use super::head::{self, Head};
use super::item::{Form, Item, Quantized};
use super::weights::Needed;
use super::{Block, Slotted, Stored};
use crate::error::{Code, Error, Result};
use crate::layout::{self, Resolver};
use crate::tensor::{Dtype, Tensor};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A tensor as a checkpoint's headers list it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name in the checkpoint.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Extent of each dimension, outermost first.
    pub shape: Vec<usize>,
}

/// A checkpoint without its data.
#[derive(Debug, Clone)]
pub struct Source {
    /// Every tensor of every shard.
    pub tensors: Vec<TensorInfo>,
    /// config.json.
    pub config: Value,
}

/// A part of a model, ready to be placed on a device.
#[derive(Debug)]
pub enum Piece {
    /// Token embedding, `[vocabulary, hidden]`.
    Embed(Stored),
    /// A decoder block and its index.
    Block(usize, Block<Stored>),
    /// Final norm; does not come in families without one.
    Norm(Vec<f32>),
    /// Output head, `[vocabulary, hidden]`; does not come when the head is the embedding.
    Head(Stored),
    /// What follows the last block in a model that classifies.
    Tail(Block<Stored>),
}

/// What a piece will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Embed,
    Block(usize),
    Norm,
    Head(&'static str),
    Tail,
}

/// Goes through a checkpoint piece by piece.
#[derive(Debug)]
pub struct Loader {
    config: Config,
    head: Head,
    /// How matrices are stored, unless all are floats.
    resolver: Option<Resolver>,
    names: BTreeSet<String>,
    next: usize,
}

impl Loader {
    /// Checks config and shapes before any tensor is read.
    ///
    /// `config`, `unknown-architecture`, `unsupported` as `Config::from_json` gives them;
    /// `missing-tensor`, `shape` and `dtype` name the tensor.
    pub fn new(source: &Source) -> Result<Self> {
        let config = Config::from_json(&source.config)?;
        let infos: BTreeMap<_, _> = source.tensors.iter().map(|t| (&*t.name, t)).collect();
        let mut loader = Self {
            resolver: layout::detect(&source.config)?,
            names: source.tensors.iter().map(|t| t.name.clone()).collect(),
            head: Head::Tied,
            config,
            next: 0,
        };
        let embed = loader.config.arch().embed;
        loader.config.bare = !loader.has(embed, "weight")
            && (embed.strip_prefix(loader.config.arch().base))
                .is_some_and(|bare| loader.has(bare, "weight"));
        let norm = format!("{}embeddings.LayerNorm", loader.config.arch().base);
        let norm = loader.config.named(&norm);
        loader.config.old_norms = loader.config.encoder.is_some() && loader.has(&norm, "gamma");
        let module = loader.config.arch().head;
        let stored = !loader.parts(module).is_empty() || loader.has(module, "weight");
        loader.head = head::source(&loader.config, stored)?;
        loader.check_vocabulary(&infos)?;
        for item in (0..loader.pieces()).flat_map(|piece| loader.items(piece)) {
            item.check_parts()?;
            for needed in item.needed() {
                check(&infos, &needed)?;
            }
        }
        Ok(loader)
    }

    /// The checked configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How the checkpoint's matrices are quantized; none when all are floats.
    pub fn resolver(&self) -> Option<&Resolver> {
        self.resolver.as_ref()
    }

    /// Where the head comes from.
    pub fn head(&self) -> Head {
        self.head
    }

    /// How many pieces there are in all, for progress.
    pub fn pieces(&self) -> usize {
        self.kinds().len()
    }

    /// The pieces in their order.
    fn kinds(&self) -> Vec<Kind> {
        let mut kinds = vec![Kind::Embed];
        kinds.extend((0..self.config.layers).map(Kind::Block));
        if !self.config.arch().norm.is_empty() {
            kinds.push(Kind::Norm);
        }
        if let Head::Own(module) = self.head {
            kinds.push(Kind::Head(module));
        }
        if self.config.labels > 0 {
            kinds.push(Kind::Tail);
        }
        kinds
    }

    /// Every tensor that the model reads.
    pub fn tensors(&self) -> Vec<String> {
        let items = (0..self.pieces()).flat_map(|piece| self.items(piece));
        items
            .flat_map(|item| item.needed())
            .map(|n| n.name)
            .collect()
    }

    /// The tensors of the next piece; `None` when the model is complete.
    pub fn wants(&self) -> Option<Vec<String>> {
        let items = self.items(self.next);
        (self.next < self.pieces()).then(|| items.iter().flat_map(Item::names).collect())
    }

    /// Takes the wanted tensors, in the order that `wants` gave, and builds the piece.
    pub fn supply(&mut self, tensors: Vec<Tensor>) -> Result<Piece> {
        let mut tensors = tensors.into_iter();
        let index = self.next;
        let mut slots = Vec::new();
        for item in self.items(index) {
            slots.push(item.build(&mut tensors)?);
        }
        self.next += 1;
        let kind = self.kinds().get(index).copied();
        match (kind, slots.pop()) {
            (Some(Kind::Block(layer)), last) => {
                slots.extend(last);
                Ok(Piece::Block(layer, self.block(layer, slots)))
            }
            (Some(Kind::Tail), last) => {
                slots.extend(last);
                let parts = self.config.arch().tail.rows.iter().map(|r| r.part);
                Ok(Piece::Tail(Block {
                    ops: self.config.arch().tail.ops.into(),
                    weights: parts.zip(slots).collect(),
                }))
            }
            (Some(Kind::Embed), Some(Slotted::Matrix { weight, .. })) => Ok(Piece::Embed(weight)),
            (Some(Kind::Head(_)), Some(Slotted::Matrix { weight, .. })) => Ok(Piece::Head(weight)),
            (Some(Kind::Norm), Some(Slotted::Vector(norm))) => Ok(Piece::Norm(norm)),
            _ => Err(Error::new(Code::Internal, "the model is already complete")),
        }
    }

    fn block(&self, layer: usize, slots: Vec<Slotted<Stored>>) -> Block<Stored> {
        let rows = self.config.rows(layer);
        Block {
            ops: self.config.ops(layer),
            weights: rows.iter().map(|r| r.part).zip(slots).collect(),
        }
    }

    fn items(&self, piece: usize) -> Vec<Item> {
        let arch = self.config.arch();
        let of_row = |layer, row: &Row| {
            let item = Item::of_row(&self.config, layer, row);
            // Tables are looked up: like the embedding, they are always floats.
            let table = matches!(row.kind, arch::Kind::Table { .. });
            if table { item } else { self.stored(item) }
        };
        match self.kinds().get(piece) {
            None => Vec::new(),
            Some(Kind::Embed) => vec![Item::vocabulary(&self.config, arch.embed)],
            Some(Kind::Block(layer)) => {
                let rows = self.config.rows(*layer);
                rows.iter().map(|row| of_row(*layer, row)).collect()
            }
            Some(Kind::Norm) => vec![Item::final_norm(&self.config)],
            Some(Kind::Head(module)) => {
                vec![self.stored(Item::vocabulary(&self.config, module))]
            }
            Some(Kind::Tail) => arch.tail.rows.iter().map(|row| of_row(0, row)).collect(),
        }
    }

    /// A linear as this checkpoint stores it. The embedding is none: it is floats, or blocks.
    fn stored(&self, mut item: Item) -> Item {
        let resolver = self.resolver.as_ref();
        let resolver = resolver.filter(|_| matches!(item.form, Form::Matrix { .. }));
        item.quantized = resolver.and_then(|r| {
            let rule = r.rule(&item.module)?;
            let parts = self.parts(&item.module);
            rule.layout.is_quantized(&parts).then_some(Quantized {
                layout: rule.layout,
                scheme: rule.scheme,
                parts,
            })
        });
        item
    }

    /// Those tensors of a quantized module that the checkpoint has.
    fn parts(&self, module: &str) -> Vec<String> {
        let endings = self.resolver.iter().flat_map(|r| r.layout.parts());
        let present = endings.filter(|part| self.has(module, part));
        present.map(|part| format!("{module}.{part}")).collect()
    }

    fn has(&self, module: &str, tensor: &str) -> bool {
        self.names.contains(&format!("{module}.{tensor}"))
    }

    /// A vocabulary that differs from the embedding is the config's fault more often than not.
    fn check_vocabulary(&self, names: &BTreeMap<&str, &TensorInfo>) -> Result<()> {
        let name = format!("{}.weight", self.config.named(self.config.arch().embed));
        let Some([rows, _]) = names.get(&*name).map(|t| &t.shape[..]) else {
            return Ok(());
        };
        if *rows == self.config.vocabulary {
            return Ok(());
        }
        let what = format!("vocab_size is {}", self.config.vocabulary);
        let remedy = format!("expected {rows}, the rows of tensor {name:?}");
        Err(Error::new(Code::Config, what)
            .at("config.json")
            .remedy(remedy))
    }
}

fn check(names: &BTreeMap<&str, &TensorInfo>, needed: &Needed) -> Result<()> {
    let Some(found) = names.get(&*needed.name) else {
        if let Some((block, _)) = needed.name.split_once(".experts.")
            && let Some(fused) = names.get(&*format!("{block}.experts.gate_up_proj"))
        {
            let what = format!("experts in one tensor of shape {:?}", fused.shape);
            return Err(Error::new(Code::Unsupported, what)
                .at(format!("tensor {:?}", fused.name))
                .remedy(format!("one tensor for each is read, as {:?}", needed.name)));
        }
        let what = format!("tensor {:?} is missing", needed.name);
        return Err(Error::new(Code::MissingTensor, what).at("the checkpoint"));
    };
    let blocks = matches!(found.dtype, Dtype::Blocks(ty) if ty.codec.is_some());
    if !blocks && ![Dtype::F32, Dtype::F16, Dtype::BF16].contains(&found.dtype) {
        let what = format!("dtype {}", found.dtype.name());
        return Err(Error::new(Code::Dtype, what)
            .at(format!("tensor {:?}", needed.name))
            .remedy("expected F32, F16, BF16 or blocks that are read here"));
    }
    needed.check(&found.shape)
}
