//! Quantizes a checkpoint in memory and measures what that cost.

use super::{Checkpoint, Sequence, calibration_tokens, eval_tokens};
use lowbit::cpu::{Compute, Cpu};
use lowbit::evaluate::score_window;
use lowbit::job::request::{Calibration, Options, TensorEntry};
use lowbit::job::{Ask, Job, Request};
use lowbit::model::Model;
use lowbit::tensor::Tensor;
use serde_json::Value;
use std::collections::BTreeMap;

/// A request for a checkpoint, calibrated on 128 × 512 tokens.
pub(crate) fn request(source: &Checkpoint, options: Options) -> Request {
    let entry = |t: &lowbit::model::load::TensorInfo| TensorEntry {
        name: t.name.clone(),
        dtype: t.dtype.name().into(),
        shape: t.shape.clone(),
    };
    Request {
        config: source.source.config.clone(),
        tensors: source.source.tensors.iter().map(entry).collect(),
        options,
        calibration: Some(Calibration {
            samples: 128,
            length: 512,
        }),
        imatrix: None,
        journal: Vec::new(),
        isa: None,
        threads: None,
        max_shard_bytes: None,
        identities: BTreeMap::new(),
    }
}

/// Contents by file name.
type Files = BTreeMap<String, Vec<u8>>;

/// Runs a job in memory and gives the written checkpoint with the report.
pub(crate) fn quantize(source: &Checkpoint, cpu: &Cpu, options: Options) -> (Checkpoint, Value) {
    run(source, cpu, &request(source, options), calibration_tokens())
}

/// The same with a request and tokens of one's own.
pub(crate) fn run(
    source: &Checkpoint,
    cpu: &Cpu,
    request: &Request,
    tokens: Vec<u32>,
) -> (Checkpoint, Value) {
    let mut job = Job::open(request, tokens).expect("a plan");
    let (mut files, mut scratch) = (Files::new(), Files::new());
    let part =
        |bytes: &[u8], from: u64, len: u64| vec![bytes[from as usize..][..len as usize].to_vec()];
    let mut answer = Vec::new();
    let report = loop {
        answer = match job.poll(cpu, answer).expect("no failure") {
            Ask::Read { tensors } => {
                let tensors = tensors.iter();
                tensors.map(|t| source.tensors[t].bytes.clone()).collect()
            }
            Ask::ReadRange {
                tensor,
                offset,
                len,
            } => part(&source.tensors[&tensor].bytes, offset, len),
            Ask::ReadScratch { name, offset, len } => part(&scratch[&name], offset, len),
            Ask::ReadOutput { name, offset, len } => part(&files[&name], offset, len),
            Ask::WriteScratch {
                name,
                offset,
                bytes,
            } => write(&mut scratch, name, offset, &bytes),
            Ask::Write {
                name,
                offset,
                bytes,
                ..
            } => write(&mut files, name, offset, &bytes),
            Ask::Journal { .. } | Ask::Work(_) => Vec::new(),
            Ask::Done { report } => break report,
        };
    };
    let mut written = Checkpoint {
        source: source.source.clone(),
        tensors: BTreeMap::new(),
    };
    written.source.config = job.plan().config.clone();
    for file in files.values() {
        let header = lowbit::container::safetensors::parse(file, file.len() as u64);
        let header = header.expect("what was written is read back");
        for e in header.entries {
            let (from, to) = (header.data_start + e.begin, header.data_start + e.end);
            written.add(Tensor {
                name: e.name,
                dtype: e.dtype,
                shape: e.shape,
                bytes: file[from as usize..to as usize].to_vec(),
            });
        }
    }
    written.list();
    (written, serde_json::from_str(&report).expect("a report"))
}

fn write(files: &mut Files, name: String, offset: u64, bytes: &[u8]) -> Vec<Vec<u8>> {
    let (file, end) = (
        files.entry(name).or_default(),
        offset as usize + bytes.len(),
    );
    file.resize(file.len().max(end), 0);
    file[offset as usize..end].copy_from_slice(bytes);
    Vec::new()
}

/// Perplexity, and mean KL of the original from it, over data/eval.txt.
pub(crate) fn cost(cpu: &Cpu, original: &Model, model: &Model) -> (f64, f64) {
    let (mut nll, mut divergence, mut positions) = (0.0, 0.0, 0);
    for window in eval_tokens().chunks_exact(512) {
        let reference = Sequence::new(cpu, original).logits(window);
        let logits = Sequence::new(cpu, model).logits(window);
        let vocabulary = model.config.vocabulary;
        let scores = score_window(&logits, Some(&reference), window, vocabulary);
        let scores = scores.expect("finite logits");
        nll += scores.nll;
        divergence += scores.kl.iter().map(|k| f64::from(*k)).sum::<f64>();
        positions += scores.positions;
    }
    let positions = positions as f64;
    ((nll / positions).exp(), divergence / positions)
}

/// Perplexity and mean KL of a written checkpoint.
pub(crate) fn cost_of(cpu: &Cpu, source: &Checkpoint, written: &Checkpoint) -> (f64, f64) {
    let load = |c: &Checkpoint| c.load(cpu, Compute::F32).expect("a model");
    cost(cpu, &load(source), &load(written))
}
