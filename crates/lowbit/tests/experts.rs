//! Mixtures of experts: what calibration sees, and which tensors the family asks for.

mod support;

use lowbit::Code;
use lowbit::cpu::{Compute, Cpu};
use lowbit::error::Error;
use lowbit::model::config::Config;
use lowbit::model::forward::{LayerCache, Scratch, Watch, embed, watch_block};
use lowbit::model::load::Loader;
use lowbit::model::ops::{Op, Part};
use lowbit::model::weights;
use serde_json::json;
use support::Checkpoint;

const MIXTURES: &[&str] = &["tiny-mixtral", "tiny-qwen3-moe", "tiny-deepseek-v2"];

/// Block 0 over 20 tokens: hidden state after it, and each call of the tap.
fn watched(
    name: &str,
    all: Option<bool>,
    until: Option<Part>,
) -> (Vec<f32>, Vec<(Vec<Part>, usize)>) {
    let cpu = Cpu::new(lowbit::Isa::detect(), 2).expect("threads");
    let model = Checkpoint::open(name)
        .load(&cpu, Compute::F32)
        .expect("a model");
    let tokens: Vec<u32> = (2..22).collect();
    let mut hidden = embed(&model, &tokens).expect("tokens of the vocabulary");
    let mut calls = Vec::new();
    let block = &model.blocks[0];
    let mut tap = |parts: &[Part], x: &[f32]| {
        calls.push((parts.to_vec(), x.len() / block.matrix(parts[0]).0.cols()));
        Ok(())
    };
    let watch = all.map(|all_experts| Watch {
        tap: &mut tap,
        all_experts,
        until,
    });
    let (mut scratch, mut cache) = (Scratch::new(&model.config), LayerCache::default());
    watch_block(&cpu, &mut scratch, block, &mut cache, &mut hidden, watch).expect("no failing tap");
    (hidden, calls)
}

#[test]
fn every_expert_sees_every_token_and_the_output_stays() {
    for name in MIXTURES {
        let (plain, _) = watched(name, None, None);
        let (all, calls) = watched(name, Some(true), None);
        let worst = plain.iter().zip(&all).map(|(a, b)| (a - b).abs());
        let worst = worst.fold(0.0, f32::max);
        assert!(worst <= 1e-5, "{name}: {worst:e}");
        assert!(calls.iter().all(|(_, tokens)| *tokens == 20), "{calls:?}");

        let config = Config::from_json(&Checkpoint::open(name).source.config).unwrap();
        let ops = config.ops(0);
        let wanted: Vec<_> = ops.iter().flat_map(|op| op.inputs(&config, true)).collect();
        let found: Vec<_> = calls.into_iter().map(|(parts, _)| parts).collect();
        assert_eq!(found, wanted, "{name}");
        let mixture = ops.iter().find(|op| matches!(op, Op::Experts { .. }));
        let count = config.experts.unwrap().count;
        let groups = mixture.unwrap().inputs(&config, true);
        assert_eq!(
            groups.len(),
            1 + count,
            "one for router, gates and ups, one for each down"
        );
        assert_eq!(groups[0].len(), 1 + 2 * count);
    }
}

#[test]
fn routed_experts_see_their_own_tokens() {
    for name in MIXTURES {
        let (plain, _) = watched(name, None, None);
        let (same, calls) = watched(name, Some(false), None);
        assert_eq!(plain, same, "{name}");
        let config = Config::from_json(&Checkpoint::open(name).source.config).unwrap();
        let per_token = config.experts.unwrap().per_token;
        for part in [Part::ExpertGate, Part::ExpertDown] {
            let seen = calls
                .iter()
                .filter(|(parts, _)| parts[0].expert().is_some_and(|e| parts[0] == part(e)));
            let total: usize = seen.map(|(_, tokens)| tokens).sum();
            assert_eq!(total, 20 * per_token, "{name}");
        }
    }
}

#[test]
fn a_pass_ends_after_the_last_wanted_input() {
    for all in [true, false] {
        let (_, calls) = watched("tiny-mixtral", Some(all), Some(Part::O));
        let parts: Vec<_> = calls.iter().map(|(parts, _)| parts[0]).collect();
        assert_eq!(parts, [Part::Q, Part::O]);
        let (_, calls) = watched("tiny-mixtral", Some(all), Some(Part::Router));
        assert_eq!(calls.last().unwrap().0[0], Part::Router);
        let (_, calls) = watched("tiny-mixtral", Some(all), Some(Part::ExpertDown(1)));
        assert_eq!(calls.last().unwrap().0[0], Part::ExpertDown(1));
    }
}

#[test]
fn routers_stay_as_stored() {
    for name in MIXTURES {
        let config = Config::from_json(&Checkpoint::open(name).source.config).unwrap();
        let linears = weights::linears(&config, 0);
        let kept: Vec<_> = linears.iter().filter(|l| !l.quantizable).collect();
        assert_eq!(kept.len(), 1, "{kept:?}");
        assert_eq!(kept[0].part, Part::Router);
    }
}

fn refused(changes: impl FnOnce(&mut Checkpoint)) -> Error {
    let mut checkpoint = Checkpoint::open("tiny-qwen3-moe");
    changes(&mut checkpoint);
    Loader::new(&checkpoint.source).expect_err("a refusal")
}

#[test]
fn what_a_mixture_cannot_be_is_refused_by_name() {
    for (key, value, wanted) in [
        ("num_local_experts", json!(0), "num_local_experts is 0"),
        (
            "num_local_experts",
            json!(1_000_000),
            "num_local_experts is 1000000",
        ),
        ("num_experts_per_tok", json!(7), "an integer from 1 to 6"),
        (
            "moe_intermediate_size",
            json!(-1),
            "moe_intermediate_size is -1",
        ),
        (
            "mlp_only_layers",
            json!("none"),
            "mlp_only_layers is \"none\"",
        ),
        ("mlp_only_layers", json!([0.5]), "a list of integers"),
        ("decoder_sparse_step", json!(0), "decoder_sparse_step is 0"),
        ("norm_topk_prob", json!(1), "norm_topk_prob is 1"),
    ] {
        let e = refused(|c| c.source.config[key] = value);
        assert_eq!(e.code, Code::Config, "{e}");
        assert!(e.to_string().contains(wanted), "{e} should say {wanted:?}");
    }
    let e = refused(|c| {
        let first = &mut c.source.tensors.iter_mut();
        let one = first.find(|t| t.name.ends_with("0.mlp.experts.0.gate_proj.weight"));
        let one = one.expect("an expert");
        one.name = "model.layers.0.mlp.experts.gate_up_proj".into();
        one.shape = vec![6, 80, 64];
    });
    assert_eq!(e.code, Code::Unsupported, "{e}");
    assert!(e.to_string().contains("experts.gate_up_proj"), "{e}");
}

#[test]
fn a_config_without_the_sizes_means_the_familys_own() {
    let mut json = Checkpoint::open("tiny-qwen3-moe").source.config;
    let map = json.as_object_mut().unwrap();
    for key in [
        "num_local_experts",
        "num_experts_per_tok",
        "moe_intermediate_size",
    ] {
        map.remove(key);
    }
    map.insert("decoder_sparse_step".into(), json!(2));
    let config = Config::from_json(&json).unwrap();
    let experts = config.experts.unwrap();
    assert_eq!(
        (experts.count, experts.per_token, experts.width),
        (128, 8, 768)
    );
    assert!(!experts.renormalise);
    let sparse: Vec<_> = config.blocks.iter().map(|b| b.sparse).collect();
    assert_eq!(
        sparse,
        [false, false, false],
        "block 1 is named, the others are even"
    );
}
