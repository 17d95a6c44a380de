//! A store in memory and a small random model, for tests of the job.

use super::recipes;
use crate::cpu::Cpu;
use crate::error::Result;
use crate::job::request::{Calibration, TensorEntry};
use crate::job::{Ask, Job, Request};
use crate::model::config::Config;
use crate::model::weights;
use crate::tensor::{Dtype, bytes_from_f32};
use serde_json::json;
use std::collections::BTreeMap;

/// Blocks of the test model.
pub(crate) const LAYERS: usize = 3;
/// Calibration samples and their length.
pub(crate) const SET: Calibration = Calibration {
    samples: 6,
    length: 40,
};

/// What outlives a process: source, output, scratch, journal.
#[derive(Debug, Clone, Default)]
pub(crate) struct Store {
    pub config: serde_json::Value,
    pub source: BTreeMap<String, Vec<u8>>,
    pub entries: Vec<TensorEntry>,
    pub files: BTreeMap<String, Vec<u8>>,
    pub scratch: BTreeMap<String, Vec<u8>>,
    pub journal: Vec<String>,
    /// The answer to the last ask.
    pending: Vec<Vec<u8>>,
    /// What was durable when the last line was appended.
    durable: Option<Box<Store>>,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) enum End {
    Done(serde_json::Value),
    Killed,
}

/// Seeded values in −1..1.
pub(crate) fn noise(seed: u32, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

impl Store {
    /// A Qwen3 of three blocks with an unknown tensor beside it.
    pub(crate) fn new() -> Self {
        let config = json!({
            "model_type": "qwen3", "hidden_size": 64, "intermediate_size": 96,
            "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2,
            "head_dim": 16, "vocab_size": 50, "max_position_embeddings": 64,
            "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": true,
            "hidden_act": "silu", "attention_bias": false
        });
        Self::of(config)
    }

    /// The same with four experts in place of the MLP, two of them for each token.
    pub(crate) fn experts() -> Self {
        let mut config = Self::new().config;
        config["model_type"] = "qwen3_moe".into();
        config["num_experts"] = 4.into();
        config["num_experts_per_tok"] = 2.into();
        config["moe_intermediate_size"] = 32.into();
        config["norm_topk_prob"] = true.into();
        Self::of(config)
    }

    /// Seeded tensors of every name that a config asks for.
    fn of(config: serde_json::Value) -> Self {
        let model = Config::from_json(&config).unwrap();
        let mut store = Self {
            config,
            ..Self::default()
        };
        let blocks = (0..model.layers).flat_map(|i| weights::block_tensors(&model, i));
        let mut needed: Vec<_> = blocks.map(|n| (n.name, n.shape)).collect();
        let (hidden, vocabulary) = (model.hidden, model.vocabulary);
        needed.insert(
            0,
            ("model.embed_tokens.weight".into(), vec![vocabulary, hidden]),
        );
        needed.push(("model.norm.weight".into(), vec![hidden]));
        for (seed, (name, shape)) in needed.iter().enumerate() {
            let values = noise(seed as u32 + 1, shape.iter().product());
            let values: Vec<f32> = match shape[..] {
                [_, cols] if name.contains("layers") => {
                    let size = 1.5 / (cols as f32).sqrt();
                    values.iter().map(|v| v * size).collect()
                }
                [_] => values.iter().map(|v| v * 0.2 + 1.0).collect(),
                _ => values,
            };
            store.put(name, Dtype::BF16, shape, &values);
        }
        store.put("model.mtp.unknown", Dtype::F32, &[3, 5], &noise(99, 15));
        store
    }

    /// Adds or replaces a source tensor.
    pub(crate) fn put(&mut self, name: &str, dtype: Dtype, shape: &[usize], values: &[f32]) {
        let bytes = bytes_from_f32(dtype, values).unwrap();
        self.entries.retain(|t| t.name != name);
        self.source.insert(name.into(), bytes);
        self.entries.push(TensorEntry {
            name: name.into(),
            dtype: dtype.name().into(),
            shape: shape.to_vec(),
        });
    }

    /// Quantization of the model with one of the recipes.
    pub(crate) fn request(&self, recipe: &str) -> Request {
        Request {
            config: self.config.clone(),
            tensors: self.entries.clone(),
            options: recipes::options(recipe),
            calibration: Some(SET),
            imatrix: None,
            journal: self.journal.clone(),
            isa: None,
            threads: None,
            max_shard_bytes: Some(40_000),
            identities: BTreeMap::default(),
        }
    }

    /// Calibration tokens.
    pub(crate) fn tokens() -> Vec<u32> {
        let values = noise(99, SET.samples * SET.length);
        values
            .iter()
            .map(|v| ((v + 1.0) * 25.0) as u32 % 50)
            .collect()
    }

    /// Runs a job to its end, or kills it after `polls` polls.
    pub(crate) fn run(&mut self, request: &Request, cpu: &Cpu, polls: usize) -> Result<End> {
        let mut job = Job::open(request, Self::tokens())?;
        self.pending = Vec::new();
        for _ in 0..polls {
            if let End::Done(report) = self.step(&mut job, cpu)? {
                return Ok(End::Done(report));
            }
        }
        Ok(End::Killed)
    }

    /// Forgets the last ask, as a new process does.
    pub(crate) fn restart(&mut self) {
        self.pending = Vec::new();
    }

    /// Polls once and does what is asked.
    pub(crate) fn step(&mut self, job: &mut Job, cpu: &Cpu) -> Result<End> {
        self.step_with(|answer| job.poll(cpu, answer))
    }

    /// The same for whatever polls.
    pub(crate) fn step_with(
        &mut self,
        poll: impl FnOnce(Vec<Vec<u8>>) -> Result<Ask>,
    ) -> Result<End> {
        match poll(std::mem::take(&mut self.pending))? {
            Ask::Done { report } => Ok(End::Done(serde_json::from_str(&report).unwrap())),
            ask => {
                self.pending = self.answer(ask);
                Ok(End::Killed)
            }
        }
    }

    /// Loses everything that was not made durable.
    pub(crate) fn lose_power(&mut self) {
        let durable = self.durable.take();
        let source = std::mem::take(&mut self.source);
        let entries = std::mem::take(&mut self.entries);
        let config = std::mem::take(&mut self.config);
        *self = durable.map_or_else(Store::default, |d| *d);
        (self.source, self.entries, self.config) = (source, entries, config);
    }

    fn answer(&mut self, ask: Ask) -> Vec<Vec<u8>> {
        let part = |bytes: &[u8], offset: u64, len: u64| {
            vec![bytes[offset as usize..(offset + len) as usize].to_vec()]
        };
        match ask {
            Ask::Read { tensors } => tensors.iter().map(|t| self.source[t].clone()).collect(),
            Ask::ReadRange {
                tensor,
                offset,
                len,
            } => part(&self.source[&tensor], offset, len),
            Ask::ReadScratch { name, offset, len } => part(&self.scratch[&name], offset, len),
            Ask::ReadOutput { name, offset, len } => part(&self.files[&name], offset, len),
            Ask::WriteScratch {
                name,
                offset,
                bytes,
            } => {
                write(self.scratch.entry(name).or_default(), offset, &bytes);
                Vec::new()
            }
            Ask::Write {
                name,
                total,
                offset,
                bytes,
            } => {
                let file = self.files.entry(name).or_default();
                file.resize(total as usize, 0xcc);
                write(file, offset, &bytes);
                Vec::new()
            }
            Ask::Journal { line } => {
                self.journal.push(line);
                self.durable = None;
                self.durable = Some(Box::new(self.clone()));
                Vec::new()
            }
            Ask::Work(p) => {
                assert!(p.done <= p.total, "{p:?}");
                Vec::new()
            }
            Ask::Done { .. } => unreachable!("handled by the caller"),
        }
    }
}

fn write(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let end = offset as usize + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset as usize..end].copy_from_slice(bytes);
}
