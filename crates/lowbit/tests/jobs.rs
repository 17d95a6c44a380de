//! The quantization of every checkpoint of the repository, with calibration and without.
#![allow(clippy::print_stdout, reason = "losses are worth seeing")]

mod support;

use lowbit::container::safetensors;
use lowbit::cpu::{Compute, Cpu, Isa};
use lowbit::job::request::{Calibration, Options, TensorEntry};
use lowbit::job::{Ask, Job, Request};
use lowbit::model::load::Loader;
use lowbit::tensor::Tensor;
use std::collections::BTreeMap;
use support::{Checkpoint, Sequence, root};

const SET: Calibration = Calibration {
    samples: 4,
    length: 32,
};

fn request(checkpoint: &Checkpoint, options: Options) -> Request {
    let entry = |t: &Tensor| TensorEntry {
        name: t.name.clone(),
        dtype: t.dtype.name().into(),
        shape: t.shape.clone(),
    };
    Request {
        config: checkpoint.source.config.clone(),
        tensors: checkpoint.tensors.values().map(entry).collect(),
        options,
        calibration: Some(SET),
        journal: Vec::new(),
        isa: None,
        threads: None,
        max_shard_bytes: None,
        identities: BTreeMap::default(),
    }
}

/// Scratch and output files of a job.
#[derive(Default)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    fn write(&mut self, name: String, offset: u64, bytes: &[u8]) -> Vec<Vec<u8>> {
        let (file, from) = (self.0.entry(name).or_default(), offset as usize);
        file.resize(file.len().max(from + bytes.len()), 0);
        file[from..from + bytes.len()].copy_from_slice(bytes);
        Vec::new()
    }
}

/// Runs a job to its end; what it wrote, as a checkpoint, and its report.
fn quantized(
    checkpoint: &Checkpoint,
    options: Options,
    cpu: &Cpu,
) -> (Checkpoint, serde_json::Value) {
    let vocabulary = Loader::new(&checkpoint.source)
        .expect("a model")
        .config()
        .vocabulary;
    let tokens = (0..(SET.samples * SET.length) as u32).map(|i| i * 7919 % vocabulary as u32);
    let mut job = Job::open(&request(checkpoint, options), tokens.collect()).expect("a plan");
    let config = job.plan().config.clone();
    let (mut scratch, mut output) = (Files::default(), Files::default());
    let source = |name: &String| checkpoint.tensors[name].bytes.clone();
    let part = |bytes: &[u8], offset: u64, len: u64| {
        vec![bytes[offset as usize..(offset + len) as usize].to_vec()]
    };
    let mut answer = Vec::new();
    let report = loop {
        answer = match job.poll(cpu, std::mem::take(&mut answer)).expect("a step") {
            Ask::Done { report } => break report,
            Ask::Read { tensors } => tensors.iter().map(source).collect(),
            Ask::ReadRange {
                tensor,
                offset,
                len,
            } => part(&source(&tensor), offset, len),
            Ask::ReadScratch { name, offset, len } => part(&scratch.0[&name], offset, len),
            Ask::ReadOutput { name, offset, len } => part(&output.0[&name], offset, len),
            Ask::WriteScratch {
                name,
                offset,
                bytes,
            } => scratch.write(name, offset, &bytes),
            Ask::Write {
                name,
                offset,
                bytes,
                ..
            } => output.write(name, offset, &bytes),
            Ask::Journal { .. } | Ask::Work(_) => Vec::new(),
        };
    };
    let mut written = checkpoint.clone();
    written.tensors.clear();
    written.source.config = config;
    for file in output.0.values() {
        let header = safetensors::parse(file, file.len() as u64).expect("a header");
        for e in header.entries {
            let at = (header.data_start + e.begin) as usize..(header.data_start + e.end) as usize;
            let (name, dtype, shape, bytes) = (e.name, e.dtype, e.shape, file[at].to_vec());
            written.add(Tensor {
                name,
                dtype,
                shape,
                bytes,
            });
        }
    }
    written.list();
    (written, serde_json::from_str(&report).expect("a report"))
}

/// Names of `models/tiny-*`.
fn tiny() -> Vec<String> {
    let folders = std::fs::read_dir(root("models")).expect("models");
    let names = folders.map(|f| f.expect("a folder").file_name().into_string());
    let mut names: Vec<_> = names.map(|n| n.expect("a name")).collect();
    names.retain(|n| n.starts_with("tiny-"));
    names.sort();
    names
}

#[test]
fn every_family_is_quantized_and_runs() {
    let cpu = Cpu::new(Isa::detect(), 2).expect("threads");
    for name in tiny() {
        let checkpoint = Checkpoint::open(&name);
        let logits = |c: &Checkpoint| {
            let model = c.load(&cpu, Compute::F32).expect("a model");
            Sequence::new(&cpu, &model).logits(&(2..40).collect::<Vec<u32>>())
        };
        let wanted = logits(&checkpoint);
        let largest = wanted.iter().fold(0.0f32, |m, l| m.max(l.abs()));
        for method in ["rtn", "gptq"] {
            let options = Options {
                method: method.into(),
                scheme: "w8".into(),
                ..Options::default()
            };
            let (written, report) = quantized(&checkpoint, options, &cpu);
            let pairs = logits(&written).into_iter().zip(&wanted);
            let worst = pairs.fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / largest;
            println!("{name} {method}: {worst:.1e}");
            // Eight bits move logits little, unless they send a token to another expert.
            let mixture = checkpoint
                .source
                .config
                .get("num_experts_per_tok")
                .is_some();
            assert!(
                worst <= if mixture { 1.0 } else { 0.1 },
                "{name} {method}: {worst:e}"
            );

            let layers = report["layers"].as_array().expect("layers");
            let packed = written
                .tensors
                .keys()
                .filter(|n| n.ends_with("weight_packed") || n.ends_with("weight_scale"));
            assert!(
                !layers.is_empty() && packed.count() >= layers.len(),
                "{name}"
            );
            // What no row knows is copied, and named for loaders that would take it for quantized.
            for (module, tensor) in checkpoint.tensors.iter().filter(|(n, _)| n.contains("vis")) {
                assert_eq!(
                    written.tensors[module].bytes, tensor.bytes,
                    "{name} {module}"
                );
                let named = module
                    .strip_suffix(".weight")
                    .filter(|_| tensor.shape.len() == 2);
                let ignored = &written.source.config["quantization_config"]["ignore"];
                let listed = |m| ignored.as_array().expect("a list").iter().any(|i| i == m);
                assert!(named.is_none_or(listed), "{name}: {module} in {ignored}");
            }
        }
    }
}
