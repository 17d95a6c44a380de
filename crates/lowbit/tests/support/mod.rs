//! Reads the checkpoints and fixtures of the repository, as the facade does outside of tests.

#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod configs;
pub(crate) mod floats;
pub(crate) mod gguf;
pub(crate) mod quantize;
pub(crate) mod texts;

use lowbit::container::{safetensors, shards};
use lowbit::cpu::{Compute, Cpu};
use lowbit::error::Result;
use lowbit::kernels::matmul::Weight;
use lowbit::model::forward::{self, LayerCache, Scratch};
use lowbit::model::head::Head;
use lowbit::model::load::{Loader, Piece, Source, TensorInfo};
use lowbit::model::{Model, Stored};
use lowbit::tensor::Tensor;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A path below the repository's root.
pub(crate) fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every tensor of a safetensors file.
pub(crate) fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    let file = bytes(path);
    let header = safetensors::parse(&file, file.len() as u64).expect("a fixture is well formed");
    let tensor = |e: safetensors::Entry| {
        let data = &file[(header.data_start + e.begin) as usize..][..(e.end - e.begin) as usize];
        let (name, dtype, shape, bytes) = (e.name, e.dtype, e.shape, data.to_vec());
        (
            name.clone(),
            Tensor {
                name,
                dtype,
                shape,
                bytes,
            },
        )
    };
    header.entries.into_iter().map(tensor).collect()
}

/// A checkpoint folder in memory: one file, or shards and their index.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoint {
    /// What the loader checks.
    pub(crate) source: Source,
    /// The data by name.
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

impl Checkpoint {
    /// Reads `models/<name>`.
    pub(crate) fn open(name: &str) -> Self {
        let folder = root("models").join(name);
        let index = folder.join(shards::INDEX_FILE);
        let files = if index.exists() {
            shards::parse_index(&bytes(&index)).expect("an index").files
        } else {
            vec![shards::SINGLE_FILE.into()]
        };
        let tensors: BTreeMap<_, _> = files
            .iter()
            .flat_map(|f| tensors(&folder.join(f)))
            .collect();
        let config = serde_json::from_slice(&bytes(&folder.join("config.json")));
        let source = Source {
            tensors: Vec::new(),
            config: config.expect("a config"),
        };
        let mut checkpoint = Self { source, tensors };
        checkpoint.list();
        checkpoint
    }

    /// Adds a tensor or takes it in place of the one of its name.
    pub(crate) fn add(&mut self, tensor: Tensor) {
        self.tensors.insert(tensor.name.clone(), tensor);
    }

    /// Lists the tensors anew, after they were changed.
    pub(crate) fn list(&mut self) {
        let info = |t: &Tensor| TensorInfo {
            name: t.name.clone(),
            dtype: t.dtype,
            shape: t.shape.clone(),
        };
        self.source.tensors = self.tensors.values().map(info).collect();
    }

    /// Loads it for the CPU.
    pub(crate) fn load(&self, cpu: &Cpu, compute: Compute) -> Result<Model> {
        let place = |stored: Stored| match stored {
            Stored::Dense(t) => Weight::dense(t.view()?),
            Stored::Quantized(m) => Weight::packed(&m, compute, cpu.isa),
        };
        let mut loader = Loader::new(&self.source)?;
        let (mut embed, mut head, mut tail) = (None, None, None);
        let (mut norm, mut blocks) = (Vec::new(), Vec::new());
        while let Some(names) = loader.wants() {
            let wanted = names.iter().map(|n| self.tensors[n].clone()).collect();
            match loader.supply(wanted)? {
                Piece::Embed(w) => embed = Some(Arc::new(place(w)?)),
                Piece::Block(_, block) => blocks.push(block.map(place)?),
                Piece::Norm(v) => norm = v,
                Piece::Head(w) => head = Some(Arc::new(place(w)?)),
                Piece::Tail(block) => tail = Some(block.map(place)?),
            }
        }
        let embed = embed.expect("the embedding comes first");
        Ok(Model {
            config: loader.config().clone(),
            head: head.or_else(|| (loader.head() == Head::Tied).then(|| embed.clone())),
            tail,
            embed,
            blocks,
            norm,
        })
    }
}

/// One sequence on a model.
pub(crate) struct Sequence<'a> {
    cpu: &'a Cpu,
    model: &'a Model,
    scratch: Scratch,
    caches: Vec<LayerCache>,
}

impl<'a> Sequence<'a> {
    /// An empty sequence.
    pub(crate) fn new(cpu: &'a Cpu, model: &'a Model) -> Self {
        Self {
            cpu,
            model,
            scratch: Scratch::new(&model.config),
            caches: vec![LayerCache::default(); model.blocks.len()],
        }
    }

    /// Reads more tokens; hidden states `[tokens, hidden]` after the last block.
    pub(crate) fn hidden(&mut self, tokens: &[u32]) -> Vec<f32> {
        let mut hidden = forward::embed(self.model, tokens).expect("tokens of the vocabulary");
        for (block, cache) in self.model.blocks.iter().zip(&mut self.caches) {
            let scratch = &mut self.scratch;
            forward::run_block(self.cpu, scratch, block, cache, &mut hidden, None)
                .expect("no tap that could fail");
        }
        hidden
    }

    /// Reads more tokens; logits `[tokens, vocabulary]`.
    pub(crate) fn logits(&mut self, tokens: &[u32]) -> Vec<f32> {
        let hidden = self.hidden(tokens);
        forward::logits(self.cpu, self.model, &hidden).expect("shapes agree")
    }

    /// Reads more tokens; the most likely next one, ties to the lowest id.
    pub(crate) fn next(&mut self, tokens: &[u32]) -> u32 {
        let hidden = self.hidden(tokens);
        let last = &hidden[hidden.len() - self.model.config.hidden..];
        let logits = forward::logits(self.cpu, self.model, last).expect("shapes agree");
        let best = (0..logits.len())
            .rev()
            .max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
        best.expect("a vocabulary") as u32
    }
}

/// Token ids of an I64 tensor.
pub(crate) fn ids(tensor: &Tensor) -> Vec<u32> {
    let words = tensor.bytes.as_chunks::<8>().0.iter();
    words.map(|b| i64::from_le_bytes(*b) as u32).collect()
}

/// Token ids of data/eval.txt with the tokenizer of novels-4m.
pub(crate) fn eval_tokens() -> Vec<u32> {
    tokens("eval-tokens.bin")
}

/// The first 128 × 512 token ids of data/calibration.txt.
pub(crate) fn calibration_tokens() -> Vec<u32> {
    tokens("calibration-tokens.bin")
}

fn tokens(fixture: &str) -> Vec<u32> {
    let file = bytes(&root("test/fixtures").join(fixture));
    let words = file.as_chunks::<2>().0.iter();
    words.map(|b| u32::from(u16::from_le_bytes(*b))).collect()
}
