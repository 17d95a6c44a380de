//! Configs and checkpoints that must be refused, with their codes and what the message names.

mod support;

use lowbit::Code;
use lowbit::model::arch::ARCHS;
use lowbit::model::config::{Config, RopeScaling};
use lowbit::model::head::Head;
use lowbit::model::load::Loader;
use lowbit::model::weights;
use serde_json::{Value, json};
use support::Checkpoint;

fn llama() -> Value {
    json!({
        "model_type": "llama", "hidden_size": 96, "intermediate_size": 160,
        "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 3,
        "vocab_size": 131, "max_position_embeddings": 2048,
    })
}

fn with(mut config: Value, changes: &Value) -> Value {
    for (key, value) in changes.as_object().expect("an object") {
        config[key] = value.clone();
    }
    config
}

fn refused(changes: &Value) -> (Code, String) {
    let e = Config::from_json(&with(llama(), changes)).expect_err("a refusal");
    (e.code, e.to_string())
}

fn out_of_range() -> Vec<(Value, &'static str)> {
    vec![
        (
            json!({ "num_hidden_layers": 1_000_000_000 }),
            "num_hidden_layers is 1000000000",
        ),
        (json!({ "num_hidden_layers": 0 }), "num_hidden_layers is 0"),
        (
            json!({ "num_hidden_layers": -1 }),
            "num_hidden_layers is -1",
        ),
        (
            json!({ "num_attention_heads": 7, "num_key_value_heads": null }),
            "a divisor of hidden",
        ),
        (
            json!({ "num_key_value_heads": 4 }),
            "a divisor of num_attention_heads, 6",
        ),
        (
            json!({ "num_key_value_heads": 12 }),
            "an integer from 1 to 6",
        ),
        (json!({ "head_dim": 15 }), "head_dim is 15"),
        (json!({ "hidden_size": "96" }), "hidden_size is \"96\""),
        (json!({ "hidden_size": 96.5 }), "hidden_size is 96.5"),
        (json!({ "hidden_size": null }), "hidden_size is missing"),
        (
            json!({ "vocab_size": u64::MAX }),
            "vocab_size is 18446744073709551615",
        ),
        (
            json!({ "vocab_size": "9".repeat(300) }),
            "vocab_size is \"999",
        ),
        (json!({ "rope_theta": 1e300 }), "rope_theta is 1e+300"),
        (json!({ "rope_theta": "NaN" }), "rope_theta is \"NaN\""),
        (json!({ "rms_norm_eps": -1.0 }), "rms_norm_eps is -1.0"),
        (
            json!({ "tie_word_embeddings": 1 }),
            "tie_word_embeddings is 1",
        ),
        (json!({ "rope_scaling": [1] }), "rope_scaling is [1]"),
        (
            json!({ "rope_scaling": { "type": "linear" } }),
            "rope_scaling.factor is missing",
        ),
        (
            json!({ "rope_scaling": { "type": "linear", "factor": 0 } }),
            "rope_scaling.factor is 0",
        ),
        (json!({ "hidden_act": true }), "hidden_act is true"),
    ]
}

#[test]
fn values_out_of_range_are_named_with_what_is_allowed() {
    for (changes, wanted) in out_of_range() {
        let (code, text) = refused(&changes);
        assert_eq!(code, Code::Config, "{text}");
        assert!(text.contains(wanted), "{text:?} should say {wanted:?}");
        assert!(text.len() < 200, "{text}");
    }
    assert_eq!(
        Config::from_json(&json!([])).unwrap_err().code,
        Code::Config
    );
}

#[test]
fn features_that_nothing_computes_are_unsupported_by_name() {
    let cases = [
        (json!({ "hidden_act": "gelu" }), "gelu"),
        (
            json!({ "rope_scaling": { "rope_type": "ntk", "factor": 2.0 } }),
            "ntk",
        ),
        (
            json!({ "model_type": "deepseek_v2", "topk_method": "noaux" }),
            "noaux",
        ),
        (
            json!({ "rope_parameters": { "rope_type": "dynamic" } }),
            "dynamic",
        ),
        (
            json!({ "partial_rotary_factor": 0.5 }),
            "partial_rotary_factor",
        ),
        (
            json!({ "layer_types": ["full_attention", "sliding_attention"] }),
            "sliding_attention",
        ),
        (
            json!({ "model_type": "gemma3_text", "layer_types": ["full_attention", "chunked"] }),
            "chunked",
        ),
        (
            json!({ "model_type": "smollm3", "use_sliding_window": true, "sliding_window": 8 }),
            "layer_types",
        ),
        (
            json!({ "model_type": "gemma2", "hidden_activation": "gelu" }),
            "gelu_pytorch_tanh",
        ),
    ];
    for (changes, wanted) in cases {
        let (code, text) = refused(&changes);
        assert_eq!(code, Code::Unsupported, "{text}");
        assert!(text.contains(wanted), "{text:?} should say {wanted:?}");
    }
}

#[test]
fn an_unknown_model_type_names_the_known_ones() {
    let (code, text) = refused(&json!({ "model_type": "qwen4" }));
    assert_eq!(code, Code::UnknownArchitecture);
    for arch in ARCHS {
        assert!(text.contains(arch.model_types[0]), "{text}");
    }
    assert_eq!(refused(&json!({ "model_type": null })).0, Code::Config);
}

#[test]
fn both_versions_of_transformers_say_the_same() {
    let scaling = json!({ "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 256 });
    let old = with(
        llama(),
        &json!({ "rope_theta": 5e5, "rope_scaling": scaling, "torch_dtype": "bfloat16" }),
    );
    let parameters = with(scaling, &json!({ "rope_theta": 500_000 }));
    let new = with(
        llama(),
        &json!({ "rope_parameters": parameters, "dtype": "bfloat16" }),
    );
    let old = Config::from_json(&old).unwrap();
    assert_eq!(old, Config::from_json(&new).unwrap());
    assert_eq!(old.rope_theta, 5e5);
    assert!(matches!(
        old.rope_scaling,
        RopeScaling::Llama3 {
            original: 256.0,
            ..
        }
    ));
    let plain = Config::from_json(&llama()).unwrap();
    assert_eq!(
        (plain.head_dim, plain.rope_theta, plain.norm_eps),
        (16, 1e4, 1e-6)
    );
}

fn loading(name: &str, change: impl FnOnce(&mut Checkpoint)) -> (Code, String) {
    let mut checkpoint = Checkpoint::open(name);
    change(&mut checkpoint);
    let e = Loader::new(&checkpoint.source).expect_err("a refusal");
    (e.code, e.to_string())
}

#[test]
fn checkpoints_that_lack_or_bend_a_tensor_are_refused_before_reading() {
    let name = "model.layers.1.mlp.down_proj.bias";
    let (code, text) = loading("tiny-llama", |c| {
        c.source.tensors.retain(|t| t.name != name);
    });
    assert_eq!(code, Code::MissingTensor);
    assert!(text.contains(name), "{text}");

    let (code, text) = loading("tiny-llama", |c| {
        let bent = c.source.tensors.iter_mut().find(|t| t.name == name);
        bent.expect("the bias").shape = vec![95];
    });
    assert_eq!(code, Code::Shape);
    assert!(text.contains("[95]") && text.contains("[96]"), "{text}");

    let (code, text) = loading("tiny-llama", |c| c.source.config["vocab_size"] = 130.into());
    assert_eq!(code, Code::Config);
    assert!(text.contains("130") && text.contains("131"), "{text}");

    let (code, _) = loading("tiny-llama", |c| {
        c.source.tensors[0].dtype = lowbit::Dtype::I8;
    });
    assert_eq!(code, Code::Dtype);
}

#[test]
fn the_head_is_its_own_tensor_or_the_embedding() {
    let head = |name: &str| Loader::new(&Checkpoint::open(name).source).unwrap().head();
    assert_eq!(head("tiny-qwen3"), Head::Own("lm_head"));
    assert_eq!(head("novels-4m"), Head::Tied);
    let (code, text) = loading("tiny-qwen3", |c| {
        c.source.tensors.retain(|t| t.name != "lm_head.weight");
    });
    assert_eq!(code, Code::MissingTensor);
    assert!(text.contains("tie_word_embeddings"), "{text}");
}

#[test]
fn a_block_is_made_of_the_tensors_that_it_lists() {
    let checkpoint = Checkpoint::open("tiny-llama");
    let config = Config::from_json(&checkpoint.source.config).unwrap();
    let needed = weights::block_tensors(&config, 1);
    let tensors = needed
        .iter()
        .map(|n| checkpoint.tensors[&n.name].clone())
        .collect();
    let block = weights::block(&config, 1, tensors).unwrap();
    for linear in weights::linears(&config, 1) {
        let (_, bias) = block.matrix(linear.part);
        assert_eq!(bias.map(<[f32]>::len), Some(linear.rows));
        assert!(linear.quantizable && linear.module.starts_with("model.layers.1."));
        assert_eq!(
            checkpoint.tensors[&linear.weight].shape,
            [linear.rows, linear.cols]
        );
    }
}
