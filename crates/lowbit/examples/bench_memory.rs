//! Peak memory of a quantization of a synthetic Llama whose weights are made as they are read.
//!
//! `cargo run -p lowbit --release --features parallel --example bench_memory -- <folder> <layers> '<options>'`
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench prints and reads the clock"
)]

use lowbit::cpu::{Cpu, Isa};
use lowbit::job::request::{Calibration, Options, TensorEntry};
use lowbit::job::{Ask, Job, Request};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::Instant;

const SAMPLES: usize = 16;
const LENGTH: usize = 512;

fn config(layers: usize) -> Value {
    json!({
        "model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632,
        "num_hidden_layers": layers, "num_attention_heads": 32, "num_key_value_heads": 4,
        "vocab_size": 32000, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": false, "hidden_act": "silu"
    })
}

fn entries(layers: usize) -> Vec<TensorEntry> {
    let mut all = Vec::new();
    let mut add = |name: String, shape: &[usize]| {
        all.push(TensorEntry {
            name: name + ".weight",
            dtype: "BF16".into(),
            shape: shape.to_vec(),
        });
    };
    add("model.embed_tokens".into(), &[32000, 2048]);
    for i in 0..layers {
        let mut part = |name: &str, shape: &[usize]| add(format!("model.layers.{i}.{name}"), shape);
        part("self_attn.q_proj", &[2048, 2048]);
        part("self_attn.k_proj", &[256, 2048]);
        part("self_attn.v_proj", &[256, 2048]);
        part("self_attn.o_proj", &[2048, 2048]);
        part("mlp.gate_proj", &[5632, 2048]);
        part("mlp.up_proj", &[5632, 2048]);
        part("mlp.down_proj", &[2048, 5632]);
        part("input_layernorm", &[2048]);
        part("post_attention_layernorm", &[2048]);
    }
    add("model.norm".into(), &[2048]);
    add("lm_head".into(), &[32000, 2048]);
    all
}

/// Bytes of a tensor from a place on: bf16 noise around 0, or around 1 for norms.
fn bytes(entry: &TensorEntry, offset: u64, len: u64) -> Vec<u8> {
    let seed = entry
        .name
        .bytes()
        .fold(7u32, |h, b| h.wrapping_mul(31) ^ u32::from(b));
    let (size, centre) = match entry.shape[..] {
        [_, cols] => (1.5 / (cols as f32).sqrt(), 0.0),
        _ => (0.1, 1.0),
    };
    let value = |i: u64| {
        let mut h = (i as u32).wrapping_add(seed).wrapping_mul(2_654_435_761);
        h ^= h >> 15;
        h = h.wrapping_mul(2_246_822_519);
        centre + ((h >> 8) as f32 / (1 << 23) as f32 - 1.0) * size
    };
    let first = offset / 2;
    let bf16 = |v: f32| ((v.to_bits() >> 16) as u16).to_le_bytes();
    (first..first + len / 2)
        .flat_map(|i| bf16(value(i)))
        .collect()
}

struct Folder(PathBuf);

impl Folder {
    fn file(&self, name: &str) -> File {
        let mut options = OpenOptions::new();
        let options = options.create(true).truncate(false).read(true).write(true);
        options.open(self.0.join(name)).expect("a file")
    }

    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut file = self.file(name);
        file.seek(SeekFrom::Start(offset)).expect("a place");
        file.write_all(bytes).expect("room");
        Vec::new()
    }

    fn read(&self, name: &str, offset: u64, len: u64) -> Vec<Vec<u8>> {
        let (mut file, mut bytes) = (self.file(name), vec![0; len as usize]);
        file.seek(SeekFrom::Start(offset)).expect("a place");
        file.read_exact(&mut bytes).expect("what was written");
        vec![bytes]
    }
}

/// Peak resident memory in MB; Linux only.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let mut words = status.split_whitespace().skip_while(|w| *w != "VmHWM:");
    let kib: u64 = words.nth(1).and_then(|k| k.parse().ok()).expect("a number");
    kib * 1024 / 1_000_000
}

fn request(layers: usize, options: Options) -> Request {
    Request {
        config: config(layers),
        tensors: entries(layers),
        options,
        calibration: Some(Calibration {
            samples: SAMPLES,
            length: LENGTH,
        }),
        imatrix: None,
        journal: Vec::new(),
        isa: None,
        threads: Some(2),
        max_shard_bytes: None,
        identities: BTreeMap::new(),
    }
}

fn main() {
    let args: Vec<_> = std::env::args().collect();
    let folder = Folder(PathBuf::from(&args[1]));
    let layers: usize = args[2].parse().expect("a number of layers");
    let options: Options = serde_json::from_str(&args[3]).expect("options as JSON");
    let cpu = Cpu::new(Isa::detect(), 2).expect("threads");
    let request = request(layers, options);
    let named = request.tensors.iter().map(|t| (t.name.clone(), t.clone()));
    let by_name: BTreeMap<_, _> = named.collect();
    let tokens = (0..SAMPLES * LENGTH)
        .map(|i| (i * 7919 % 32000) as u32)
        .collect();
    let mut job = Job::open(&request, tokens).expect("a plan");
    let planned = job.plan().sizes.memory_peak_bytes / 1_000_000;
    let (start, mut answer, mut stages) = (Instant::now(), Vec::new(), BTreeMap::new());
    loop {
        answer = match job.poll(&cpu, answer).expect("no failure") {
            Ask::Read { tensors } => {
                let all = |name: &String| {
                    let entry = &by_name[name];
                    let len = 2 * entry.shape.iter().product::<usize>();
                    bytes(entry, 0, len as u64)
                };
                tensors.iter().map(all).collect()
            }
            Ask::ReadRange {
                tensor,
                offset,
                len,
            } => vec![bytes(&by_name[&tensor], offset, len)],
            Ask::ReadScratch { name, offset, len } | Ask::ReadOutput { name, offset, len } => {
                folder.read(&name, offset, len)
            }
            Ask::WriteScratch {
                name,
                offset,
                bytes,
            }
            | Ask::Write {
                name,
                offset,
                bytes,
                ..
            } => folder.write(&name, offset, &bytes),
            Ask::Work(progress) => {
                stages.insert(progress.stage, peak());
                Vec::new()
            }
            Ask::Journal { .. } => Vec::new(),
            Ask::Done { .. } => break,
        };
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{layers} layers: {seconds:.0} s, peak {} MB, planned {planned} MB, by stage {stages:?}",
        peak()
    );
}
