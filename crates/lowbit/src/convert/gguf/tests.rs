//! Files made by the machine: the same bytes as encoding whole tensors, splits, exact matrices,
//! what is wrong with options.

use super::super::{Conversion, Plan, Request};
use crate::cpu::Cpu;
use crate::error::{Code, Result};
use crate::gguf::header::{Limits, Parsed, parse};
use crate::gguf::{Header, decode};
use crate::job::Ask;
use crate::layout::LAYOUTS;
use crate::matrix::{Codes, Floats, Integer, QuantizedMatrix, Scales, Values, Zero};
use crate::scheme::Scheme;
use crate::tensor::{Dtype, bytes_from_f32};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A checkpoint in memory.
#[derive(Clone, Default)]
struct Model {
    config: Value,
    tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
}

fn values(seed: usize, count: usize) -> Vec<f32> {
    let one = |i: usize| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0;
    (0..count).map(one).collect()
}

impl Model {
    fn put(&mut self, name: &str, shape: &[usize]) {
        let count = shape.iter().product();
        let bytes = bytes_from_f32(Dtype::F32, &values(self.tensors.len(), count)).unwrap();
        self.tensors
            .insert(name.into(), (Dtype::F32, shape.to_vec(), bytes));
    }

    /// A Llama of one block, whose queries and keys are permuted.
    fn llama() -> Self {
        let mut model = Self {
            config: json!({
                "model_type": "llama", "hidden_size": 64, "intermediate_size": 96,
                "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
                "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "vocab_size": 6,
                "hidden_act": "silu", "rope_theta": 10000.0, "tie_word_embeddings": false,
            }),
            ..Self::default()
        };
        model.put("model.embed_tokens.weight", &[6, 64]);
        model.put("lm_head.weight", &[6, 64]);
        model.put("model.norm.weight", &[64]);
        let at = |module: &str| format!("model.layers.0.{module}.weight");
        model.put(&at("input_layernorm"), &[64]);
        model.put(&at("post_attention_layernorm"), &[64]);
        for (module, rows) in [("q", 64), ("k", 32), ("v", 32), ("o", 64)] {
            model.put(&at(&format!("self_attn.{module}_proj")), &[rows, 64]);
        }
        model.put(&at("mlp.gate_proj"), &[96, 64]);
        model.put(&at("mlp.up_proj"), &[96, 64]);
        model.put(&at("mlp.down_proj"), &[64, 96]);
        model
    }

    fn request(&self, options: &Value, gguf: &Value) -> Request {
        let tensors: Vec<_> = self
            .tensors
            .iter()
            .map(|(name, (dtype, shape, _))| {
                json!({"name": name, "dtype": dtype.name(), "shape": shape})
            })
            .collect();
        serde_json::from_value(json!({
            "kind": "convert", "config": self.config, "tensors": tensors,
            "options": options, "gguf": gguf,
        }))
        .unwrap()
    }

    /// Files by name, and the report.
    fn convert(&self, request: &Request) -> Result<(BTreeMap<String, Vec<u8>>, Value)> {
        let mut job = Conversion::open(request)?;
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let (cpu, mut answer) = (Cpu::single(), Vec::new());
        loop {
            let range = |bytes: &[u8], from: u64, len: u64| {
                vec![bytes[from as usize..][..len as usize].to_vec()]
            };
            answer = match job.poll(&cpu, std::mem::take(&mut answer))? {
                Ask::Read { tensors } => {
                    tensors.iter().map(|t| self.tensors[t].2.clone()).collect()
                }
                Ask::ReadRange {
                    tensor,
                    offset,
                    len,
                } => range(&self.tensors[&tensor].2, offset, len),
                Ask::ReadOutput { name, offset, len } => range(&files[&name], offset, len),
                Ask::Write {
                    name,
                    total,
                    offset,
                    bytes,
                } => {
                    let file = files.entry(name).or_default();
                    file.resize(total as usize, 0);
                    file[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
                    Vec::new()
                }
                Ask::Done { report } => {
                    return Ok((files, serde_json::from_str(&report).unwrap()));
                }
                _ => Vec::new(),
            };
        }
    }
}

fn header(bytes: &[u8]) -> Header {
    match parse(bytes, bytes.len() as u64, &Limits::default()).unwrap() {
        Parsed::Header(header) => *header,
        Parsed::Need(n) => panic!("{n} bytes of header are missing"),
    }
}

fn floats(bytes: &[u8], header: &Header, name: &str) -> Vec<f32> {
    let info = header.tensors.iter().find(|t| t.name == name).unwrap();
    let mut out = vec![0.0; info.shape.iter().product()];
    let data = &bytes[(header.data_start + info.offset) as usize..][..info.bytes as usize];
    decode(info.ty, data, &mut out).unwrap();
    out
}

#[test]
fn a_file_holds_the_checkpoint_and_splits_hold_the_same() {
    let model = Model::llama();
    let options = json!({"format": "gguf", "scheme": "F32"});
    let mut request = model.request(&options, &json!({"name": "m", "stem": "tiny"}));
    let (files, report) = model.convert(&request).unwrap();
    let whole = &files["tiny.gguf"];
    let head = header(whole);
    assert_eq!(head.tensors.len(), 12);
    assert_eq!(
        head.metadata.string("tokenizer.ggml.model").unwrap(),
        Some("no_vocab")
    );
    let up = &model.tensors["model.layers.0.mlp.up_proj.weight"].2;
    let found = floats(whole, &head, "blk.0.ffn_up.weight");
    assert_eq!(&bytes_from_f32(Dtype::F32, &found).unwrap(), up);
    // Row 1 of a head of 16 was row 8.
    let q = &model.tensors["model.layers.0.self_attn.q_proj.weight"].2;
    let found = floats(whole, &head, "blk.0.attn_q.weight");
    let row = bytes_from_f32(Dtype::F32, &found[64..128]).unwrap();
    assert_eq!(row, q[8 * 256..9 * 256]);
    assert_eq!(report["rounded"], 0);
    request.max_shard_bytes = Some(30_000);
    let (parts, _) = model.convert(&request).unwrap();
    assert!(parts.len() > 2, "{}", parts.len());
    let first = header(&parts[&format!("tiny-00001-of-{:05}.gguf", parts.len())]);
    let count = first.metadata.index("split.count").unwrap();
    assert_eq!(count, Some(parts.len() as u64));
    let mut names = Vec::new();
    for bytes in parts.values() {
        let head = header(bytes);
        for info in &head.tensors {
            names.push(info.name.clone());
            let all = header(whole);
            assert_eq!(
                floats(bytes, &head, &info.name),
                floats(whole, &all, &info.name)
            );
        }
    }
    assert_eq!(names.len(), 12);
}

#[test]
fn types_follow_the_mix_and_the_overrides() {
    let model = Model::llama();
    let options = json!({"format": "gguf", "scheme": "Q4_0"});
    let gguf = json!({"tensorTypes": [["ffn_(up|gate)", "q8_0"]], "embeddingType": "F16"});
    let (files, report) = model.convert(&model.request(&options, &gguf)).unwrap();
    let bytes = &files["model.gguf"];
    let head = header(bytes);
    let type_of = |name: &str| {
        let info = head.tensors.iter().find(|t| t.name == name).unwrap();
        info.ty.name
    };
    assert_eq!(type_of("blk.0.ffn_up.weight"), "Q8_0");
    assert_eq!(type_of("blk.0.attn_v.weight"), "Q4_0");
    assert_eq!(type_of("token_embd.weight"), "F16");
    assert_eq!(type_of("blk.0.attn_norm.weight"), "F32");
    // Rows of 64 are no blocks of 256: what Q6_K would be is Q8_0.
    assert_eq!(type_of("output.weight"), "Q8_0");
    let layers = report["layers"].as_array().unwrap();
    let v = layers
        .iter()
        .find(|l| l["name"].as_str().unwrap().contains("v_proj"))
        .unwrap();
    assert_eq!(
        (&v["how"], &v["scheme"]),
        (&json!("rounded"), &json!("Q4_0"))
    );
    let error = v["relativeError"].as_f64().unwrap();
    assert!((0.01..0.12).contains(&error), "{error}");
}

#[test]
fn wrong_options_name_the_nearest() {
    let model = Model::llama();
    let refused = |scheme: &str, gguf: Value| {
        let options = json!({"format": "gguf", "scheme": scheme});
        let request = model.request(&options, &gguf);
        Plan::new(&request).map(|_| ()).unwrap_err()
    };
    let error = refused("Q4_KM", json!({}));
    assert_eq!(error.code, Code::Option);
    assert!(error.remedy.contains("Q4_K_M"), "{}", error.remedy);
    let error = refused("F16", json!({"tensorTypes": [["ffn", "Q4_X"]]}));
    assert_eq!(error.code, Code::Option);
    let error = refused("F16", json!({"tensorTypes": [["ffn", "IQ2_S"]]}));
    assert!(error.what.contains("not written"), "{}", error.what);
    let error = refused("F16", json!({"tensorTypes": [["(", "Q4_0"]]}));
    assert_eq!(error.code, Code::Option);
    assert_eq!(refused("Q2_K_S", json!({})).code, Code::Imatrix);
    let imatrix = json!({"imatrix": {"file": "m.dat", "base64": "AAAAAA=="}});
    assert_eq!(refused("Q4_0", imatrix).code, Code::Imatrix);
}

/// A matrix of four bits in runs of 32, whose scales are halves.
fn matrix(rows: usize, cols: usize) -> QuantizedMatrix {
    let codes: Vec<u8> = (0..rows * cols).map(|i| (i * 7 % 16) as u8).collect();
    let scales: Vec<f32> = (0..rows * cols / 32)
        .map(|i| 0.5 + (i % 64) as f32 / 64.0)
        .collect();
    QuantizedMatrix {
        rows,
        cols,
        values: Values::Integer(Integer {
            codes: Codes::pack(&codes, cols, 4),
            group: 32,
            scales: Scales::Flat(Floats::from_f32(Dtype::F16, &scales).unwrap()),
            zero: Zero::Centre,
            group_of_col: None,
        }),
        inputs: None,
    }
}

#[test]
fn a_quantized_matrix_becomes_blocks_without_rounding() {
    let mut model = Model::llama();
    let layout = LAYOUTS
        .iter()
        .find(|l| l.name() == "compressed-tensors")
        .unwrap();
    let scheme: Scheme = "w4g32".parse().unwrap();
    let mut assigned = Vec::new();
    let shapes = [("self_attn.q_proj", 64, 64), ("mlp.down_proj", 64, 96)];
    for (module, rows, cols) in shapes {
        let base = format!("model.layers.0.{module}");
        let tensors = layout
            .encode(&base, &matrix(rows, cols), &scheme, Dtype::F16)
            .unwrap();
        model.tensors.remove(&format!("{base}.weight"));
        for t in tensors {
            model.tensors.insert(t.name, (t.dtype, t.shape, t.bytes));
        }
        assigned.push((base, scheme));
    }
    let floats_of = ["gate_proj", "up_proj"].map(|m| format!("model.layers.0.mlp.{m}"));
    let attention = ["k", "v", "o"].map(|m| format!("model.layers.0.self_attn.{m}_proj"));
    let ignored: Vec<_> = floats_of
        .into_iter()
        .chain(attention)
        .chain(["lm_head".into()])
        .collect();
    model.config["quantization_config"] = layout.config(&assigned, &ignored, false);
    let options = json!({"format": "gguf", "scheme": "Q4_0"});
    let (files, report) = model.convert(&model.request(&options, &json!({}))).unwrap();
    assert_eq!(report["exact"], 2, "{report:#}");
    let bytes = &files["model.gguf"];
    let head = header(bytes);
    let down = floats(bytes, &head, "blk.0.ffn_down.weight");
    let mut row = vec![0.0; 96];
    matrix(64, 96).dequantize_row(5, &mut row).unwrap();
    assert_eq!(down[5 * 96..6 * 96], row);
    // Queries are permuted as blocks: row 1 of the file is row 8.
    let q = floats(bytes, &head, "blk.0.attn_q.weight");
    let mut row = vec![0.0; 64];
    matrix(64, 64).dequantize_row(8, &mut row).unwrap();
    assert_eq!(q[64..128], row);
}
