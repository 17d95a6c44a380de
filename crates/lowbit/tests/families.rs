//! What is particular to families: windows, rotation, constants, and values that they refuse.

mod support;

use lowbit::Code;
use lowbit::model::config::{Config, RopeScaling, Turning};
use lowbit::model::ops::{Op, Part};
use lowbit::model::weights;
use serde_json::{Value, json};
use support::Checkpoint;
use support::configs::config;

#[test]
fn yarn_stretches_as_transformers_does() {
    let yarn = json!({ "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512 });
    let config = config("qwen2", &json!({ "rope_scaling": yarn })).unwrap();
    let RopeScaling::Yarn {
        attention, score, ..
    } = config.rope_scaling
    else {
        panic!("{:?}", config.rope_scaling);
    };
    // 0.1 ln 4 + 1; scores are DeepSeek's to widen.
    assert!(
        (attention - 1.138_629_436_111_989).abs() < 1e-12,
        "{attention}"
    );
    assert_eq!((score, config.factors.attention), (1.0, 0.25));
    let v3 = Config::from_json(&Checkpoint::open("tiny-deepseek-v3").source.config).unwrap();
    assert_eq!(v3.factors.attention, 0.275_749_48);
}

#[test]
fn attention_through_a_narrow_vector_has_its_own_sizes() {
    let v2 = Config::from_json(&Checkpoint::open("tiny-deepseek-v2").source.config).unwrap();
    assert_eq!((v2.head_dim, v2.rotary, v2.kv_heads), (20, 8, 3));
    let missing = config("deepseek_v3", &json!({})).unwrap();
    let latent = missing.latent.unwrap();
    assert_eq!(latent.query_rank, Some(1536));
    assert_eq!(
        (latent.kv_rank, latent.nope, latent.rope, latent.value),
        (512, 128, 64, 128)
    );
    let sparse: Vec<_> = missing.blocks.iter().map(|b| b.sparse).collect();
    assert_eq!(sparse, [false, false, false, true]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn values_that_a_family_cannot_have_are_named() {
    let cases = [
        (
            "gemma2",
            json!({ "layer_types": ["full_attention"] }),
            "a list of 4 strings",
        ),
        (
            "gemma2",
            json!({ "attn_logit_softcapping": 0 }),
            "attn_logit_softcapping is 0",
        ),
        (
            "gemma2",
            json!({ "query_pre_attn_scalar": "x" }),
            "query_pre_attn_scalar is \"x\"",
        ),
        (
            "gemma3_text",
            json!({ "sliding_window_pattern": 0 }),
            "sliding_window_pattern is 0",
        ),
        (
            "gemma3_text",
            json!({ "rope_local_base_freq": -1 }),
            "rope_local_base_freq is -1",
        ),
        (
            "granite",
            json!({ "logits_scaling": 0 }),
            "logits_scaling is 0",
        ),
        (
            "glm4",
            json!({ "partial_rotary_factor": 0.05 }),
            "partial_rotary_factor is 0.05",
        ),
        (
            "glm4",
            json!({ "partial_rotary_factor": 2 }),
            "partial_rotary_factor is 2",
        ),
        (
            "smollm3",
            json!({ "no_rope_layers": [1, 0] }),
            "4 numbers, each 0 or 1",
        ),
        (
            "smollm3",
            json!({ "no_rope_layer_interval": 0 }),
            "no_rope_layer_interval is 0",
        ),
        (
            "phi3",
            json!({ "rope_scaling": { "type": "longrope", "short_factor": [1.0], "long_factor": [1.0] } }),
            "8 numbers, one per frequency",
        ),
        (
            "phi3",
            json!({ "rope_scaling": { "type": "longrope", "long_factor": "x" } }),
            "long_factor is \"x\"",
        ),
        (
            "mistral",
            json!({ "sliding_window": -4 }),
            "sliding_window is -4",
        ),
        (
            "deepseek_v2",
            json!({ "v_head_dim": 999 }),
            "v_head_dim is 999",
        ),
        (
            "deepseek_v2",
            json!({ "qk_rope_head_dim": 7 }),
            "qk_rope_head_dim is 7",
        ),
        (
            "deepseek_v3",
            json!({ "n_group": 7 }),
            "a divisor of the 256 experts",
        ),
        (
            "deepseek_v3",
            json!({ "n_group": 8, "topk_group": 9 }),
            "topk_group is 9",
        ),
        (
            "deepseek_v3",
            json!({ "kv_lora_rank": 0 }),
            "kv_lora_rank is 0",
        ),
    ];
    for (model_type, changes, wanted) in cases {
        let e = config(model_type, &changes).expect_err("a refusal");
        assert_eq!(e.code, Code::Config, "{e}");
        assert!(e.to_string().contains(wanted), "{e} should say {wanted:?}");
    }
}

#[test]
fn both_versions_of_transformers_say_the_same_of_gemma() {
    let old = json!({ "rope_theta": 5e5, "rope_local_base_freq": 2e4,
        "rope_scaling": { "rope_type": "linear", "factor": 8.0 } });
    let new = json!({ "rope_parameters": {
        "full_attention": { "rope_theta": 5e5, "rope_type": "linear", "factor": 8.0 },
        "sliding_attention": { "rope_theta": 2e4, "rope_type": "default" } } });
    let old = config("gemma3_text", &old).unwrap();
    assert_eq!(old, config("gemma3_text", &new).unwrap());
    assert_eq!((old.rope_theta, old.local_theta), (5e5, Some(2e4)));
    assert_eq!(old.rope_scaling, RopeScaling::Linear { factor: 8.0 });
    let plain = config("gemma3_text", &json!({})).unwrap();
    assert_eq!((plain.rope_theta, plain.local_theta), (1e6, Some(1e4)));
    assert!(plain.tied && plain.arch().norm_offset == 1.0);
}

#[test]
fn a_part_of_a_head_is_rotated_where_the_family_says_so() {
    let part = json!({ "partial_rotary_factor": 0.5 });
    assert_eq!(config("phi3", &part).unwrap().rotary, 8);
    assert_eq!(config("phi3", &json!({})).unwrap().rotary, 16);
    assert_eq!(config("glm4", &json!({})).unwrap().rotary, 8);
    let inside =
        json!({ "rope_parameters": { "rope_type": "default", "partial_rotary_factor": 0.75 } });
    assert_eq!(config("glm4", &inside).unwrap().rotary, 12);
    let turning = |changes: &Value| -> Vec<_> {
        let config = config("smollm3", changes).unwrap();
        config
            .blocks
            .iter()
            .map(|b| b.turning != Turning::Never)
            .collect()
    };
    assert_eq!(turning(&json!({})), [true, true, true, false]);
    assert_eq!(
        turning(&json!({ "no_rope_layers": [0, 1, 1, 0] })),
        [false, true, true, false]
    );
}

#[test]
fn a_model_stretched_by_longrope_runs_up_to_its_original_context() {
    let factors = vec![1.0; 8];
    let rope = json!({ "type": "longrope", "short_factor": factors, "long_factor": factors });
    let changes = json!({ "original_max_position_embeddings": 512, "rope_scaling": rope });
    let config = config("phi3", &changes).unwrap();
    assert_eq!(config.context, 512);
    let RopeScaling::Long { attention, .. } = config.rope_scaling else {
        panic!("{:?}", config.rope_scaling);
    };
    // √(1 + ln 4 / ln 512)
    assert!(
        (attention - 1.105_541_596_785_133_6).abs() < 1e-12,
        "{attention}"
    );
}

#[test]
fn a_language_model_beside_a_vision_tower_has_its_values_inside_or_outside() {
    let text = json!({ "hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 9,
        "max_position_embeddings": 77, "tie_word_embeddings": true });
    let inside = config(
        "qwen2_vl",
        &json!({ "text_config": text, "dtype": "bfloat16" }),
    )
    .unwrap();
    assert_eq!((inside.hidden, inside.context, inside.tied), (32, 77, true));
    assert_eq!(inside.dtype, Some(lowbit::Dtype::BF16));
    let rope = json!({ "type": "mrope", "mrope_section": [2, 3, 3] });
    let outside = config("qwen2_vl", &json!({ "rope_scaling": rope })).unwrap();
    assert_eq!(
        (outside.hidden, outside.rope_scaling),
        (96, RopeScaling::None)
    );
    let e = config("llama", &json!({ "rope_scaling": rope })).unwrap_err();
    assert_eq!(e.code, Code::Unsupported, "{e}");
    let e = config("qwen3_vl", &json!({ "text_config": { "hidden_size": 0 } })).unwrap_err();
    assert!(
        e.to_string().contains("text_config.hidden_size is 0"),
        "{e}"
    );
    let e = config("qwen3_vl", &json!({ "text_config": [] })).unwrap_err();
    assert_eq!(e.code, Code::Config, "{e}");
}

/// Norms are held as what values are multiplied with.
#[test]
fn norms_of_gemma_are_one_more_than_what_is_stored() {
    let checkpoint = Checkpoint::open("tiny-gemma3");
    let config = Config::from_json(&checkpoint.source.config).unwrap();
    let needed = weights::block_tensors(&config, 1);
    let tensors = needed.iter().map(|n| checkpoint.tensors[&n.name].clone());
    let block = weights::block(&config, 1, tensors.collect()).unwrap();
    for (part, module) in [
        (Part::InputNorm, "input_layernorm"),
        (Part::MlpNorm, "post_feedforward_layernorm"),
        (Part::QNorm, "self_attn.q_norm"),
    ] {
        let stored = &checkpoint.tensors[&format!("model.layers.1.{module}.weight")];
        let stored = stored.view().and_then(|t| t.to_f32()).unwrap();
        let wanted: Vec<_> = stored.iter().map(|w| w + 1.0).collect();
        assert_eq!(block.vector(part), wanted);
    }
}

#[test]
fn embeddings_are_scaled_in_the_first_block_only() {
    for name in ["tiny-gemma2", "tiny-granite"] {
        let config = Config::from_json(&Checkpoint::open(name).source.config).unwrap();
        let scales = |layer| {
            let ops = config.ops(layer);
            ops.first()
                .copied()
                .is_some_and(|op| matches!(op, Op::Scale { .. }))
        };
        assert_eq!([scales(0), scales(1)], [true, false], "{name}");
    }
}
