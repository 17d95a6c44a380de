//! What GPTQ costs on novels-4m, against what llm-compressor 0.14 reaches (models/novels-4m).

mod support;

use lowbit::cpu::{Compute, Cpu, Isa};
use lowbit::evaluate::score_window;
use lowbit::job::request::{Calibration, Options, TensorEntry};
use lowbit::job::{Ask, Job, Request};
use lowbit::model::Model;
use lowbit::tensor::Tensor;
use std::collections::BTreeMap;
use support::{Checkpoint, Sequence, calibration_tokens, eval_tokens};

/// Mean KL of llm-compressor's GPTQ w4g128 and the noise that is allowed.
const KL_MAX: f64 = 1.03 * 0.004_966;
/// Its perplexity likewise.
const PERPLEXITY_MAX: f64 = 1.001 * 46.128;

fn request(source: &Checkpoint) -> Request {
    let entry = |t: &lowbit::model::load::TensorInfo| TensorEntry {
        name: t.name.clone(),
        dtype: t.dtype.name().into(),
        shape: t.shape.clone(),
    };
    Request {
        config: source.source.config.clone(),
        tensors: source.source.tensors.iter().map(entry).collect(),
        options: Options::default(),
        calibration: Some(Calibration {
            samples: 128,
            length: 512,
        }),
        journal: Vec::new(),
        isa: None,
        threads: None,
        max_shard_bytes: None,
        identities: BTreeMap::new(),
    }
}

/// Contents by file name.
type Files = BTreeMap<String, Vec<u8>>;

/// Runs the default quantization in memory and gives the written checkpoint.
fn quantized(source: &Checkpoint, cpu: &Cpu) -> Checkpoint {
    let mut job = Job::open(&request(source), calibration_tokens()).expect("a plan");
    let (mut files, mut scratch) = (Files::new(), Files::new());
    let part =
        |bytes: &[u8], from: u64, len: u64| vec![bytes[from as usize..][..len as usize].to_vec()];
    let mut answer = Vec::new();
    loop {
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
            Ask::Done { .. } => break,
        };
    }
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
    written
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
fn cost(cpu: &Cpu, original: &Model, model: &Model) -> (f64, f64) {
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

#[test]
fn gptq_costs_no_more_than_with_llm_compressor() {
    let cpu = Cpu::new(Isa::detect(), 2).expect("threads");
    let source = Checkpoint::open("novels-4m");
    let written = quantized(&source, &cpu);
    let load = |c: &Checkpoint| c.load(&cpu, Compute::F32).expect("a model");
    let (perplexity, kl) = cost(&cpu, &load(&source), &load(&written));
    println!("perplexity {perplexity:.3}, mean KL {kl:.6}");
    assert!(kl <= KL_MAX, "mean KL {kl}, at most {KL_MAX}");
    assert!(
        perplexity <= PERPLEXITY_MAX,
        "{perplexity}, at most {PERPLEXITY_MAX}"
    );
}
