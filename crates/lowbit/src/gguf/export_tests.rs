//! Names, changes, keys and vocabularies of checkpoints.

use super::codec::decode;
use super::export::{Plan, Request, Source, plan};
use super::imatrix::{Entry, Imatrix};

use super::mix::Mix;
use super::mix_choose::Overrides;
use super::rotary::rope_factors;
use super::vocabulary::Files;
use crate::Cpu;
use crate::error::{Code, Result};
use crate::tensor::{Dtype, TensorRef};
use serde_json::{Value, json};

fn config(model_type: &str) -> Value {
    json!({
        "model_type": model_type, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "vocab_size": 6,
        "rope_theta": 5000.0, "sliding_window": 128, "moe_intermediate_size": 32,
        "eos_token_id": [1, 2],
    })
}

pub(super) fn tokenizer() -> Value {
    json!({
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
        "added_tokens": [
            {"id": 3, "content": "<s>", "special": true},
            {"id": 4, "content": "tool", "special": false},
        ],
        "pre_tokenizer": {"type": "ByteLevel", "use_regex": true},
        "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}]},
    })
}

pub(super) fn files<'a>(
    tokenizer: &'a Value,
    config: Option<&'a Value>,
    model: &'a Value,
) -> Files<'a> {
    Files {
        tokenizer: Some(tokenizer),
        config,
        model,
        template: Some("{{ x }}"),
        pre: None,
    }
}

fn source(name: &str, shape: &[usize]) -> Source {
    Source {
        name: name.into(),
        dtype: Dtype::F32,
        shape: shape.to_vec(),
    }
}

/// A dense model of two layers, or one with experts.
fn sources(experts: usize) -> Vec<Source> {
    let mut out = vec![
        source("model.embed_tokens.weight", &[6, 64]),
        source("model.norm.weight", &[64]),
    ];
    for layer in 0..2 {
        let mut add = |module: &str, shape: &[usize]| {
            out.push(source(
                &format!("model.layers.{layer}.{module}.weight"),
                shape,
            ));
        };
        add("input_layernorm", &[64]);
        add("self_attn.q_proj", &[64, 64]);
        add("self_attn.k_proj", &[32, 64]);
        add("self_attn.v_proj", &[32, 64]);
        add("self_attn.o_proj", &[64, 64]);
        add("post_attention_layernorm", &[64]);
        if experts == 0 {
            add("mlp.gate_proj", &[96, 64]);
            add("mlp.up_proj", &[96, 64]);
            add("mlp.down_proj", &[64, 96]);
            continue;
        }
        add("mlp.gate", &[experts, 64]);
        for e in 0..experts {
            add(&format!("mlp.experts.{e}.gate_proj"), &[32, 64]);
            add(&format!("mlp.experts.{e}.up_proj"), &[32, 64]);
            add(&format!("mlp.experts.{e}.down_proj"), &[64, 32]);
        }
    }
    out
}

fn planned(
    model: &Value,
    sources: &[Source],
    mix: &str,
    imatrix: Option<&Imatrix>,
) -> Result<Plan> {
    let tokenizer = tokenizer();
    plan(&Request {
        name: "test",
        tensors: sources,
        files: files(&tokenizer, None, model),
        mix: Mix::by_name(mix).unwrap(),
        pooling: &[],
        overrides: &Overrides::default(),
        imatrix: imatrix.map(|m| (m, "m.gguf")),
    })
}

#[test]
fn a_llama_has_its_names_keys_and_order() {
    let plan = planned(&config("llama"), &sources(0), "Q8_0", None).unwrap();
    let names: Vec<_> = plan
        .outputs
        .iter()
        .map(|o| o.planned.name.as_str())
        .collect();
    assert_eq!(names[0], "token_embd.weight");
    assert_eq!(
        (names.len(), names[names.len() - 1]),
        (20, "output_norm.weight")
    );
    assert!(names.contains(&"blk.1.ffn_norm.weight"));
    let m = &plan.metadata;
    assert_eq!(m.string("general.architecture").unwrap(), Some("llama"));
    assert_eq!(m.index("llama.block_count").unwrap(), Some(2));
    assert_eq!(m.index("llama.rope.dimension_count").unwrap(), Some(16));
    assert_eq!(m.float("llama.rope.freq_base").unwrap(), Some(5000.0));
    assert_eq!(m.index("general.file_type").unwrap(), Some(7));
    // A window has no key in this family.
    assert!(plan.warnings.len() == 1 && plan.warnings[0].contains("sliding_window is 128"));
}

#[test]
fn queries_and_keys_of_a_llama_are_reordered() {
    let plan = planned(&config("llama"), &sources(0), "F32", None).unwrap();
    let cpu = Cpu::single();
    let rows = |name: &str, height: usize| {
        let output = plan
            .outputs
            .iter()
            .find(|o| o.planned.name == name)
            .unwrap();
        let values: Vec<u8> = (0..height * 64)
            .flat_map(|i| ((i / 64) as f32).to_le_bytes())
            .collect();
        let shape = [height, 64];
        let tensor = TensorRef::new(Dtype::F32, &shape, &values).unwrap();
        let blocks = output.encode(0, &tensor, &cpu).unwrap();
        let half = [height / 2, 64];
        let parts = values.chunks(values.len() / 2).flat_map(|part| {
            let rows = TensorRef::new(Dtype::F32, &half, part).unwrap();
            output.encode(0, &rows, &cpu).unwrap()
        });
        assert_eq!(
            (output.granule() / 16, parts.collect::<Vec<_>>()),
            (usize::from(name.contains("_k")), blocks.clone())
        );
        let mut out = vec![0.0; height * 64];
        decode(output.planned.ty, &blocks, &mut out).unwrap();
        let first = |values: &[f32]| values.chunks(64).map(|row| row[0]).collect::<Vec<_>>();
        let mut back = Vec::new();
        output.decode(&blocks, &mut back).unwrap();
        let back = first(&back);
        assert!(
            back.iter().enumerate().all(|(i, v)| *v == i as f32),
            "{back:?}"
        );
        first(&out)
    };
    let k = rows("blk.0.attn_k.weight", 32);
    assert_eq!(k[..6], [0.0, 8.0, 1.0, 9.0, 2.0, 10.0]);
    assert_eq!(k[16..20], [16.0, 24.0, 17.0, 25.0]);
    assert_eq!(rows("blk.0.attn_v.weight", 32)[..3], [0.0, 1.0, 2.0]);
}

#[test]
fn experts_are_stacked_and_must_be_complete() {
    let mut model = config("qwen3_moe");
    model["num_experts"] = json!(3);
    let refused = planned(&model, &sources(3), "Q4_0", None).unwrap_err();
    assert_eq!(refused.code, Code::Unsupported);
    assert!(refused.what.contains("norm_topk_prob is missing"));
    model["norm_topk_prob"] = json!(true);
    let plan = planned(&model, &sources(3), "Q4_0", None).unwrap();
    let down = plan
        .outputs
        .iter()
        .find(|o| o.planned.name == "blk.1.ffn_down_exps.weight")
        .unwrap();
    assert_eq!(down.planned.shape, [3, 64, 32]);
    assert_eq!(
        down.sources[2],
        "model.layers.1.mlp.experts.2.down_proj.weight"
    );
    let router = plan
        .outputs
        .iter()
        .find(|o| o.planned.name == "blk.0.ffn_gate_inp.weight")
        .unwrap();
    assert_eq!(router.planned.ty.name, "F32");
    assert_eq!(
        plan.metadata.index("qwen3moe.expert_count").unwrap(),
        Some(3)
    );
    let fewer: Vec<_> = sources(3)
        .into_iter()
        .filter(|s| !s.name.contains("layers.1.mlp.experts.1.up"))
        .collect();
    assert_eq!(
        planned(&model, &fewer, "Q4_0", None).unwrap_err().code,
        Code::MissingTensor
    );
}

#[test]
fn a_matrix_of_the_wrong_model_is_refused_and_a_missing_one_reported() {
    let mut imatrix = Imatrix::default();
    let entry = |n: usize| Entry {
        sums: vec![1.0; n],
        counts: vec![1.0],
    };
    imatrix
        .entries
        .insert("blk.0.attn_q.weight".into(), entry(64));
    let plan = planned(&config("llama"), &sources(0), "Q4_0", Some(&imatrix)).unwrap();
    let missing = plan
        .warnings
        .iter()
        .filter(|w| w.contains("not in the importance"))
        .count();
    assert_eq!(missing, 13);
    assert_eq!(
        plan.metadata.string("quantize.imatrix.file").unwrap(),
        Some("m.gguf")
    );
    imatrix
        .entries
        .insert("blk.0.attn_k.weight".into(), entry(65));
    let error = planned(&config("llama"), &sources(0), "Q4_0", Some(&imatrix)).unwrap_err();
    assert_eq!(error.code, Code::Imatrix);
}

#[test]
fn rows_that_no_block_fills_are_reported() {
    let plan = planned(&config("qwen3"), &sources(0), "Q4_K_M", None).unwrap();
    assert!(
        plan.warnings
            .iter()
            .any(|w| w.contains("Q5_0 instead of Q4_K"))
    );
}

#[test]
fn layers_behind_the_last_one_stay_behind() {
    let mut more = sources(0);
    more.push(source("model.layers.2.eh_proj.weight", &[64, 128]));
    let mut model = config("qwen3");
    let error = planned(&model, &more, "F16", None).unwrap_err();
    assert_eq!(error.code, Code::Name);
    model["num_nextn_predict_layers"] = json!(1);
    let plan = planned(&model, &more, "F16", None).unwrap();
    assert_eq!(plan.outputs.len(), 20);
    assert!(plan.warnings.iter().any(|w| w.starts_with("1 tensors")));
}

#[test]
fn rotary_scaling() {
    let mut model = config("llama");
    assert_eq!(rope_factors(&model).unwrap(), None);
    model["head_dim"] = json!(128);
    model["rope_theta"] = json!(500_000.0);
    model["rope_scaling"] = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
    let factors = rope_factors(&model).unwrap().unwrap();
    assert_eq!((factors.len(), factors[0], factors[63]), (64, 1.0, 8.0));
    // Pair 32 turns once in 2π · 500000^(1/2) = 4443 places, between 2048 and 8192.
    let t = (8192.0 / (2.0 * std::f64::consts::PI * 500_000f64.sqrt()) - 1.0) / 3.0;
    let between = 1.0 / ((1.0 - t) / 8.0 + t);
    assert!(
        (f64::from(factors[32]) - between).abs() < 1e-5,
        "{}",
        factors[32]
    );
    model["rope_scaling"] = json!({"type": "dynamic", "factor": 2.0});
    let error = planned(&model, &sources(0), "F16", None).unwrap_err();
    assert_eq!(error.code, Code::Unsupported);
}
