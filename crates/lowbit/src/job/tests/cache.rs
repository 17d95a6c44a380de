//! Scales of the KV cache: whose they are, where they stand, who is refused.

use super::finish;
use super::propagation::{block, output, tensor};
use super::recipes;
use super::store::{SET, Store, noise};
use crate::cpu::Cpu;
use crate::error::{Code, Error};
use crate::job::{Plan, Request};
use crate::kernels::matmul::Weight;
use crate::kv_cache::{self, Rounding};
use crate::layout;
use crate::model::forward::{LayerCache, Scratch, embed_from, run_block};
use crate::tensor::{Dtype, Tensor, round_to};
use serde_json::json;
use std::sync::Arc;

/// The largest key and value of each head in each block, run as the output has it or as the source.
fn largest(store: &Store, plan: &Plan, written: bool) -> Vec<[Vec<f32>; 2]> {
    let embedding = tensor(store, "model.embed_tokens.weight");
    let embedding = Weight::dense(embedding.view().unwrap()).unwrap();
    let mut hidden = embed_from(&embedding, &Store::tokens()).unwrap();
    let (heads, dim) = (plan.model.kv_heads, plan.model.head_dim);
    let blocks = (0..plan.model.layers).map(|i| block(store, plan, i, written));
    let mut all = Vec::new();
    for block in blocks {
        let mut of_block = [vec![0.0f32; heads], vec![0.0f32; heads]];
        for sample in hidden.chunks_mut(SET.length * plan.model.hidden) {
            let mut scratch = Scratch::new(&plan.model);
            let mut cache = LayerCache::default();
            run_block(
                &Cpu::single(),
                &mut scratch,
                &block,
                &mut cache,
                sample,
                None,
            )
            .unwrap();
            for (side, most) in [cache.keys, cache.values].iter().zip(&mut of_block) {
                for (i, value) in side.iter().enumerate() {
                    let head = &mut most[i / dim % heads];
                    *head = head.max(value.abs());
                }
            }
        }
        all.push(of_block);
    }
    all
}

fn floats(store: &Store, plan: &Plan, name: &str) -> Vec<f32> {
    let bytes = output(store, plan, name).to_vec();
    let tensor = Tensor {
        name: name.into(),
        dtype: Dtype::BF16,
        shape: vec![bytes.len() / 2],
        bytes,
    };
    tensor.view().unwrap().to_f32().unwrap()
}

#[test]
fn scales_are_those_of_the_quantized_model_block_by_block() {
    for (recipe, heads) in [("cache+rtn", false), ("cache+gptq", true)] {
        let mut store = Store::new();
        let report = finish(&mut store, recipe, &Cpu::single());
        let plan = Plan::new(&store.request(recipe)).unwrap();
        let (ours, source) = (largest(&store, &plan, true), largest(&store, &plan, false));
        assert_eq!(
            report["kvCache"]["scheme"],
            if heads { "fp8-head" } else { "fp8" }
        );
        for (i, of_block) in ours.iter().enumerate() {
            let sides = ["k_scale", "v_scale"].iter().zip(["keys", "values"]);
            for ((name, key), largest) in sides.zip(of_block) {
                let name = format!("model.layers.{i}.self_attn.{name}");
                let found = floats(&store, &plan, &name);
                let all = [largest.iter().fold(0.0f32, |a, v| a.max(*v))];
                let each = if heads { &largest[..] } else { &all };
                let wanted: Vec<f32> = (each.iter())
                    .map(|v| round_to(Dtype::BF16, v / 448.0))
                    .collect();
                assert_eq!(found, wanted, "{recipe}, {name}");
                let reported = &report["kvCache"]["blocks"][i];
                assert_eq!(reported["block"], i);
                assert_eq!(reported[key], json!(wanted), "{recipe}, {name}");
            }
        }
        assert_ne!(
            ours, source,
            "the quantized model is the one that is looked at"
        );
    }
}

#[test]
fn nothing_else_changes_and_the_config_says_so() {
    let mut plain = Store::new();
    finish(&mut plain, "rtn", &Cpu::single());
    let mut cached = Store::new();
    let report = finish(&mut cached, "cache+rtn", &Cpu::single());
    let before = Plan::new(&plain.request("rtn")).unwrap();
    let after = Plan::new(&cached.request("cache+rtn")).unwrap();
    for name in before.copies.iter().flatten() {
        let (was, is) = (output(&plain, &before, name), output(&cached, &after, name));
        assert_eq!(was, is, "{name}");
    }
    for layer in &before.layers {
        for planned in before.outputs_of(layer) {
            let was = output(&plain, &before, &planned.name);
            assert_eq!(
                was,
                output(&cached, &after, &planned.name),
                "{}",
                planned.name
            );
        }
    }
    assert!(
        report["layers"][0]["inputMax"].is_null(),
        "no input is looked at for it"
    );
    let config: serde_json::Value =
        serde_json::from_str(report["config"].as_str().unwrap()).unwrap();
    let read = layout::detect(&config).unwrap().unwrap();
    assert_eq!(read.cache, Some(kv_cache::find("fp8").unwrap()));
    assert!(before.config["quantization_config"]["kv_cache_scheme"].is_null());
}

fn refusal(edit: impl Fn(&mut Request)) -> Error {
    let mut request = Store::new().request("cache+rtn");
    edit(&mut request);
    Plan::new(&request).unwrap_err()
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let e = refusal(|r| r.calibration = None);
    assert_eq!(e.code, Code::Dataset);
    assert_eq!(
        e.to_string(),
        "kvCache fp8 needs calibration text; give some, or leave kvCache out"
    );
    let e = refusal(|r| r.options.format = "gptq".into());
    assert_eq!(e.code, Code::Option);
    assert!(e.to_string().contains("format gptq has no place"), "{e}");
    let e = refusal(|r| r.options.kv_cache = Some("fp4".into()));
    assert_eq!(
        (e.code, &*e.remedy),
        (Code::Option, "did you mean \"fp8\"?")
    );
    let e = refusal(|r| {
        r.options.method = "hqq".into();
        r.options.scheme = "w4g32-float".into();
    });
    assert!(e.to_string().contains("format hqq has no place"), "{e}");
}

#[test]
fn integers_and_scale_types_are_as_asked() {
    let plan = |edit: &dyn Fn(&mut Request)| {
        let mut request = Store::new().request("cache+rtn");
        edit(&mut request);
        Plan::new(&request).unwrap()
    };
    let scheme = |plan: &Plan| plan.config["quantization_config"]["kv_cache_scheme"].clone();
    let int8 = plan(&|r| r.options.kv_cache = Some("int8-head".into()));
    assert_eq!(scheme(&int8)["type"], "int");
    assert_eq!(scheme(&int8)["strategy"], "attn_head");
    let wide = plan(&|r| r.options.scale_dtype = Some("F32".into()));
    let bytes = |plan: &Plan| {
        plan.files
            .place("model.layers.2.self_attn.v_scale")
            .unwrap()
            .bytes
    };
    assert_eq!((bytes(&int8), bytes(&wide)), (4, 4));
    let none = plan(&|r| r.options.kv_cache = None);
    assert!(
        none.files
            .place("model.layers.2.self_attn.v_scale")
            .is_none()
    );
    assert!(none.streams() && !wide.streams());
    assert!(
        recipes::ALL.contains(&"cache+rtn"),
        "killed and resumed with the others"
    );
}

#[test]
fn a_cache_that_rounds_holds_and_attends_to_what_rounding_gives() {
    let store = Store::new();
    let plan = Plan::new(&store.request("rtn")).unwrap();
    let block = block(&store, &plan, 0, false);
    let (dim, tokens) = (plan.model.head_dim, 6);
    let run = |rounding: Option<&Arc<Rounding>>, steps: usize| {
        let mut hidden = noise(7, tokens * plan.model.hidden);
        let mut cache = LayerCache {
            rounding: rounding.cloned(),
            ..LayerCache::default()
        };
        let mut scratch = Scratch::new(&plan.model);
        for piece in hidden.chunks_mut(tokens / steps * plan.model.hidden) {
            run_block(
                &Cpu::single(),
                &mut scratch,
                &block,
                &mut cache,
                piece,
                None,
            )
            .unwrap();
        }
        (cache, hidden)
    };
    let (plain, exact) = run(None, 1);
    for cache in [kv_cache::KV_CACHES[0], kv_cache::KV_CACHES[1]] {
        let rounding = Arc::new(Rounding::uncalibrated(cache, dim));
        let (held, hidden) = run(Some(&rounding), 1);
        let (mut keys, mut values) = (plain.keys.clone(), plain.values.clone());
        rounding.keys(&mut keys);
        rounding.values(&mut values);
        assert_eq!(
            (&held.keys, &held.values),
            (&keys, &values),
            "{}",
            cache.name
        );
        assert_ne!(
            hidden, exact,
            "{}: attention reads what is held",
            cache.name
        );
        let far = hidden.iter().zip(&exact).map(|(a, b)| (a - b).abs());
        assert!(
            far.fold(0.0, f32::max) < 0.1,
            "{}: and that is near",
            cache.name
        );
        let (again, stepwise) = run(Some(&rounding), 3);
        assert_eq!(
            again.keys, held.keys,
            "{}: steps change nothing",
            cache.name
        );
        assert_eq!(stepwise, hidden, "{}", cache.name);
    }
}
