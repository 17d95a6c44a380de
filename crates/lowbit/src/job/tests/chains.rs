//! Chains of steps leave a model that computes what the source computes.

use super::finish;
use super::store::{End, Store};
use crate::container::safetensors;
use crate::cpu::{Compute, Cpu};
use crate::error::Code;
use crate::job::Plan;
use crate::job::recipe::{Awq, Rotate, Transform};
use crate::kernels::matmul::Weight;
use crate::model::forward::{LayerCache, Scratch, embed, logits, run_block};
use crate::model::load::{Loader, Piece, Source, TensorInfo};
use crate::model::{Model, Stored};
use crate::tensor::{Dtype, Tensor};
use serde_json::Value;
use std::sync::Arc;

/// Logits of the model that some tensors and a config make.
fn run(config: &Value, tensors: &[Tensor]) -> Vec<f32> {
    let cpu = Cpu::single();
    let info = |t: &Tensor| TensorInfo {
        name: t.name.clone(),
        dtype: t.dtype,
        shape: t.shape.clone(),
    };
    let mut loader = Loader::new(&Source {
        tensors: tensors.iter().map(info).collect(),
        config: config.clone(),
    })
    .unwrap();
    let place = |stored: Stored| match stored {
        Stored::Dense(t) => Weight::dense(t.view()?),
        Stored::Quantized(m) => Weight::packed(&m, Compute::F32, cpu.isa),
    };
    let (mut embedding, mut head, mut norm, mut blocks) = (None, None, Vec::new(), Vec::new());
    while let Some(names) = loader.wants() {
        let find = |name: &String| tensors.iter().find(|t| t.name == *name).unwrap().clone();
        match loader.supply(names.iter().map(find).collect()).unwrap() {
            Piece::Embed(e) => embedding = Some(Arc::new(place(e).unwrap())),
            Piece::Block(_, block) => blocks.push(block.map(place).unwrap()),
            Piece::Norm(values) => norm = values,
            Piece::Head(h) => head = Some(Arc::new(place(h).unwrap())),
            Piece::Tail(_) => {}
        }
    }
    let embed_weight = embedding.unwrap();
    let model = Model {
        config: loader.config().clone(),
        head: Some(head.unwrap_or_else(|| Arc::clone(&embed_weight))),
        tail: None,
        embed: embed_weight,
        blocks,
        norm,
    };
    let mut hidden = embed(&model, &Store::tokens()[..40]).unwrap();
    let mut scratch = Scratch::new(&model.config);
    for block in &model.blocks {
        let mut cache = LayerCache::default();
        run_block(&cpu, &mut scratch, block, &mut cache, &mut hidden, None).unwrap();
    }
    logits(&cpu, &model, &hidden).unwrap()
}

/// Every tensor of the output, or of the source.
fn tensors(store: &Store, written: bool) -> Vec<Tensor> {
    if !written {
        let entries = store.entries.iter();
        let tensor = |e: &crate::job::request::TensorEntry| Tensor {
            name: e.name.clone(),
            dtype: Dtype::parse(&e.dtype).unwrap(),
            shape: e.shape.clone(),
            bytes: store.source[&e.name].clone(),
        };
        return entries.map(tensor).collect();
    }
    let mut all = Vec::new();
    for bytes in store.files.values() {
        let header = safetensors::parse(bytes, bytes.len() as u64).unwrap();
        for e in header.entries {
            let from = (header.data_start + e.begin) as usize;
            let to = (header.data_start + e.end) as usize;
            all.push(Tensor {
                name: e.name,
                dtype: e.dtype,
                shape: e.shape,
                bytes: bytes[from..to].to_vec(),
            });
        }
    }
    all
}

/// ‖a − b‖ / ‖a‖.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let square = |v: f32| f64::from(v) * f64::from(v);
    let error: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    (error / a.iter().map(|v| square(*v)).sum::<f64>()).sqrt()
}

/// How far the quantized model is from its source.
fn loss(mut store: Store, change: impl Fn(&mut crate::job::request::Options)) -> (f64, Value) {
    let mut request = store.request("rtn");
    change(&mut request.options);
    let plan = Plan::new(&request).unwrap();
    let ran = store.run(&request, &Cpu::single(), usize::MAX).unwrap();
    let End::Done(report) = ran else {
        panic!("the job did not end")
    };
    let source = run(&store.config, &tensors(&store, false));
    let written = run(&plan.config, &tensors(&store, true));
    (distance(&source, &written), report)
}

#[test]
fn transforms_leave_the_function_as_it_was() {
    let rotate = || Transform::Rotate(Rotate::default());
    let awq = || Transform::Awq(Awq::default());
    let smooth = || Transform::SmoothQuant(crate::job::recipe::SmoothQuant::default());
    let chains: [Vec<Transform>; 5] = [
        vec![],
        vec![rotate()],
        vec![smooth()],
        vec![awq()],
        vec![rotate(), smooth(), awq()],
    ];
    for store in [Store::new(), Store::experts()] {
        for transforms in &chains {
            let (loss, _) = loss(store.clone(), |o| {
                o.scheme = "w8g16".into();
                o.transforms.clone_from(transforms);
            });
            // bf16 norms and embeddings and 8-bit weights; another function is off by about 1.
            assert!(loss < 0.03, "{transforms:?}: {loss}");
        }
    }
}

#[test]
fn gptq_after_awq_is_nearer_than_rounding_alone() {
    let w3 = |o: &mut crate::job::request::Options| o.scheme = "w3g32".into();
    let (plain, _) = loss(Store::new(), w3);
    let (chained, report) = loss(Store::new(), |o| {
        w3(o);
        o.method = "gptq".into();
        o.transforms = vec![Transform::Awq(Awq::default())];
    });
    assert!(chained < plain, "{chained} and {plain}");
    let transforms = report["transforms"].as_array().unwrap();
    let of = |kind: &str| transforms.iter().filter(|t| t["kind"] == kind).count();
    // Per block: two norms and up → down; every linear but q and k is clipped.
    assert_eq!((of("awq"), of("clip")), (9, 15));
    assert!(report["layers"][0]["inputMax"].as_f64().unwrap() > 0.0);
}

#[test]
fn pruned_weights_stay_zero() {
    for recipe in ["sparsegpt+gptq", "magnitude+rtn"] {
        let mut store = Store::new();
        let report = finish(&mut store, recipe, &Cpu::single());
        for layer in report["layers"].as_array().unwrap() {
            assert_eq!(layer["sparsity"], 0.5, "{layer}");
        }
        let packed = tensors(&store, true);
        let q = packed
            .iter()
            .find(|t| t.name.ends_with("q_proj.weight_packed"));
        let bytes = &q.unwrap().bytes;
        let nibbles = bytes.iter().flat_map(|b| [b & 15, b >> 4]);
        let nibbles: Vec<u8> = nibbles.collect();
        let zeros = |run: &[u8]| run.iter().map(|c| u8::from(*c == 8)).sum::<u8>() >= 2;
        assert!(nibbles.chunks(4).all(zeros), "{recipe}");
    }
}

#[test]
fn experts_without_tokens_fall_back_or_refuse() {
    // A router that never chooses the last expert.
    let lonely = || {
        let mut store = Store::experts();
        for i in 0..super::store::LAYERS {
            // One of two opposites comes first; of the two zeros, the one of the lower number.
            let row = super::store::noise(7, 64);
            let mut values = vec![0.0; 64];
            values.extend(&row);
            values.extend(row.iter().map(|v| -v));
            values.extend([0.0; 64]);
            let name = format!("model.layers.{i}.mlp.gate.weight");
            store.put(&name, Dtype::BF16, &[4, 64], &values);
        }
        store
    };
    let seen = |store: &Store| {
        let mut request = store.request("gptq");
        request.options.scheme = "w4g32".into();
        request.options.all_experts = false;
        request
    };
    let mut store = lonely();
    let End::Done(report) = store
        .run(&seen(&store), &Cpu::single(), usize::MAX)
        .unwrap()
    else {
        panic!("the job did not end")
    };
    let fallbacks = report["fallbacks"].as_array().unwrap().len();
    let layers = report["layers"].as_array().unwrap();
    let saw = layers.iter().filter_map(|l| l["fallback"].as_str());
    assert!(saw.clone().all(|why| why.contains("calibration tokens")));
    assert_eq!(saw.count(), fallbacks);
    let config: Value = serde_json::from_str(report["config"].as_str().unwrap()).unwrap();
    assert_eq!(config["lowbit"]["fallback_layers"], report["fallbacks"]);
    assert_eq!(
        fallbacks,
        3 * super::store::LAYERS,
        "the last expert of each block"
    );
    let mut request = seen(&lonely());
    request.options.strict = true;
    let e = lonely().run(&request, &Cpu::single(), usize::MAX);
    assert_eq!(e.unwrap_err().code, Code::Fallback);
    let all = finish(&mut lonely(), "gptq", &Cpu::single());
    assert_eq!(all["fallbacks"].as_array().unwrap().len(), 0);
}
