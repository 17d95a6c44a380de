//! LoRA adapters: what merging comes to, and what is refused.

use super::{quantized, request, run, source_of};
use crate::convert::{Plan, Request};
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::job::tests::store::{Store, noise};
use crate::tensor::{Dtype, bytes_from_f32, f32_from};
use serde_json::{Value, json};

pub(super) const MODULE: &str = "model.layers.1.self_attn.q_proj";
const RANK: usize = 4;

fn named(part: &str) -> String {
    format!("base_model.model.{MODULE}.{part}")
}

/// Factors for one module, and whatever else a test adds.
pub(super) struct Adapter {
    config: Value,
    tensors: Vec<(String, Dtype, Vec<usize>, Vec<f32>)>,
}

impl Adapter {
    pub(super) fn new() -> Self {
        let factor = |part: &str, shape: [usize; 2], seed| {
            let values = noise(seed, shape[0] * shape[1]);
            (named(part), Dtype::F32, shape.to_vec(), values)
        };
        Self {
            config: json!({ "peft_type": "LORA", "r": RANK, "lora_alpha": 6 }),
            tensors: vec![
                factor("lora_A.weight", [RANK, 64], 5),
                factor("lora_B.weight", [64, RANK], 6),
            ],
        }
    }

    pub(super) fn request(&self, store: &mut Store, options: &Value) -> Request {
        let mut list = Vec::new();
        for (name, dtype, shape, values) in &self.tensors {
            let bytes = bytes_from_f32(*dtype, values).unwrap();
            store.source.insert(format!("adapter:{name}"), bytes);
            list.push(json!({ "name": name, "dtype": dtype.name(), "shape": shape }));
        }
        let mut request = request(store, options);
        let adapter = json!({ "config": self.config, "tensors": list });
        request.adapter = Some(serde_json::from_value(adapter).unwrap());
        request
    }

    /// The converted checkpoint and the report.
    pub(super) fn merge(&self, store: &Store, options: &Value) -> Result<(Store, Value)> {
        let mut store = store.clone();
        let request = self.request(&mut store, options);
        let config = Plan::new(&request)?.target.config().cloned().unwrap();
        let end = run(&mut store, &request, &Cpu::single(), usize::MAX)?;
        let crate::job::tests::store::End::Done(report) = end else {
            unreachable!("it was not stopped");
        };
        Ok((source_of(&store, &config), report))
    }
}

fn floats(store: &Store, name: &str) -> Vec<f32> {
    let entry = store.entries.iter().find(|t| t.name == name).unwrap();
    let dtype = Dtype::parse(&entry.dtype).unwrap();
    let bytes = &store.source[name];
    let mut values = vec![0.0; bytes.len() * 8 / dtype.bits()];
    f32_from(dtype, bytes, &mut values).unwrap();
    values
}

/// `w + scale · B·A` of 64 × 64, in the type of the source.
fn wanted(w: &[f32], a: &[f32], b: &[f32], scale: f32, transposed: bool) -> Vec<f32> {
    let product = |i: usize, j: usize| {
        (0..RANK)
            .map(|k| b[i * RANK + k] * a[k * 64 + j])
            .sum::<f32>()
    };
    let delta = |n: usize| {
        let (i, j) = (n / 64, n % 64);
        if transposed {
            product(j, i)
        } else {
            product(i, j)
        }
    };
    let sum = |(n, w): (usize, &f32)| half::bf16::from_f32(w + scale * delta(n)).to_f32();
    w.iter().enumerate().map(sum).collect()
}

#[test]
fn factors_are_added_in_f32_and_stored_as_the_source() {
    let store = Store::new();
    let weight = format!("{MODULE}.weight");
    let w = floats(&store, &weight);
    let cases = [
        (json!({}), 1.5, false),
        (json!({ "use_rslora": true }), 3.0, false),
        (json!({ "alpha_pattern": { "q_proj": 2 } }), 0.5, false),
        (
            json!({ "r": 8, "rank_pattern": { "layers.1.self_attn.q_proj": 4 } }),
            1.5,
            false,
        ),
        (json!({ "fan_in_fan_out": true }), 1.5, true),
    ];
    for (settings, scale, transposed) in cases {
        let mut adapter = Adapter::new();
        for (key, value) in settings.as_object().unwrap() {
            adapter.config[key] = value.clone();
        }
        let (merged, report) = adapter
            .merge(&store, &json!({ "format": "float" }))
            .unwrap();
        let (a, b) = (&adapter.tensors[0].3, &adapter.tensors[1].3);
        let wanted = wanted(&w, a, b, scale, transposed);
        assert_eq!(floats(&merged, &weight), wanted, "{settings}");
        assert_eq!(report["merged"], 1);
        let other = "model.layers.0.self_attn.q_proj.weight";
        assert_eq!(merged.source[other], store.source[other]);
    }
}

#[test]
fn whole_tensors_replace_the_models() {
    let store = Store::new();
    let mut adapter = Adapter::new();
    let norm = noise(8, 64);
    let name = "base_model.model.model.norm.weight".to_owned();
    adapter
        .tensors
        .push((name, Dtype::F32, vec![64], norm.clone()));
    let (merged, _) = adapter
        .merge(&store, &json!({ "format": "float" }))
        .unwrap();
    let rounded: Vec<f32> = norm
        .iter()
        .map(|v| half::bf16::from_f32(*v).to_f32())
        .collect();
    assert_eq!(floats(&merged, "model.norm.weight"), rounded);
}

#[test]
fn quantized_sources_are_merged_through_floats() {
    let store = quantized("w4g32", "compressed-tensors");
    let adapter = Adapter::new();
    let options = json!({ "format": "gptq" });
    let (merged, report) = adapter.merge(&store, &options).unwrap();
    assert_eq!(
        (&report["merged"], &report["exact"]),
        (&json!(1), &json!(20))
    );
    let layers = report["layers"].as_array().unwrap();
    let layer = layers.iter().find(|l| l["name"] == MODULE).unwrap();
    assert_eq!(
        (&layer["how"], &layer["scheme"]),
        (&json!("merged"), &json!("w4g32"))
    );
    assert!(layer["relativeError"].as_f64() > Some(0.0));
    let float = json!({ "format": "float", "dtype": "f32" });
    let (before, _) = super::convert(&store, &float).unwrap();
    let (after, _) = super::convert(&merged, &float).unwrap();
    let weight = format!("{MODULE}.weight");
    let (w, found) = (floats(&before, &weight), floats(&after, &weight));
    let (a, b) = (&adapter.tensors[0].3, &adapter.tensors[1].3);
    let wanted = wanted(&w, a, b, 1.5, false);
    let error: f32 = found
        .iter()
        .zip(&wanted)
        .map(|(a, b)| (a - b).powi(2))
        .sum();
    let size: f32 = wanted.iter().map(|v| v * v).sum();
    assert!((error / size).sqrt() < 0.12, "{}", (error / size).sqrt());
}

fn refusal(change: impl FnOnce(&mut Adapter)) -> Error {
    let mut adapter = Adapter::new();
    change(&mut adapter);
    let merged = adapter.merge(&Store::new(), &json!({ "format": "float" }));
    merged.unwrap_err()
}

#[test]
fn exact_and_an_adapter_exclude_each_other() {
    let options = json!({ "format": "float", "exact": true });
    let e = Adapter::new().merge(&Store::new(), &options).unwrap_err();
    assert_eq!(e.code, Code::Option);
    assert!(e.what.contains("merging changes values"), "{e}");
}

#[test]
fn other_adapters_are_refused_by_name() {
    for (key, value) in [
        ("use_dora", json!(true)),
        ("peft_type", json!("LOHA")),
        ("init_lora_weights", json!("pissa")),
        ("target_parameters", json!(["a.b"])),
    ] {
        let e = refusal(|a| a.config[key] = value);
        assert_eq!(e.code, Code::Unsupported, "{key}");
        assert!(e.what.contains(key), "{e}");
    }
    let e = refusal(|a| a.tensors[0].0 = named("lora_magnitude_vector"));
    assert_eq!(e.code, Code::Unsupported);
    let e = refusal(|a| a.tensors.truncate(1));
    assert_eq!(e.code, Code::MissingTensor);
    let e = refusal(|a| a.tensors[1].2 = vec![32, 2 * RANK]);
    assert_eq!(e.code, Code::Shape);
    let e = refusal(|a| a.config["r"] = json!(8));
    assert_eq!(e.code, Code::Config);
    let e = refusal(|a| {
        for tensor in &mut a.tensors {
            tensor.0 = tensor.0.replace("q_proj", "q_prj");
        }
    });
    assert_eq!(e.code, Code::MissingTensor);
    assert!(e.remedy.contains("q_proj"), "{e}");
    let e = refusal(|a| a.tensors[0].3[3] = f32::NAN);
    assert_eq!(e.code, Code::NonfiniteWeight);
}
