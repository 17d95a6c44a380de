//! GGUF files as checkpoints: what was exported runs as before.
#![allow(clippy::print_stdout, reason = "the worst difference is worth seeing")]

mod support;

use lowbit::cpu::{Compute, Cpu, Isa};
use lowbit::model::config::Config;
use lowbit::tensor::Dtype;
use lowbit::{Code, Tensor};
use serde_json::{Value, json};
use support::gguf::{checkpoint, files, import, older};
use support::{Checkpoint, Sequence, ids, root, tensors};

/// Tiny checkpoints with what GGUF has no key for set as its loaders take it, and the first layer
/// that is kept: where some layers have no experts, GGUF knows only the others.
const FAMILIES: &[(&str, usize, &str)] = &[
    ("tiny-llama", 0, "{}"),
    ("tiny-llama-linear", 0, "{}"),
    ("tiny-mistral", 0, "{}"),
    ("tiny-mixtral", 0, "{}"),
    ("tiny-qwen2", 0, "{}"),
    ("tiny-qwen2-vl", 0, "{}"),
    (
        "tiny-qwen2-moe",
        1,
        r#"{"num_hidden_layers": 1, "mlp_only_layers": [], "layer_types": null}"#,
    ),
    ("tiny-qwen3", 0, "{}"),
    (
        "tiny-qwen3-moe",
        2,
        r#"{"num_hidden_layers": 1, "mlp_only_layers": [], "norm_topk_prob": true}"#,
    ),
    ("tiny-gemma2", 0, r#"{"query_pre_attn_scalar": 20}"#),
    ("tiny-gemma3", 0, "{}"),
    ("tiny-phi3", 0, "{}"),
    ("tiny-glm4", 0, "{}"),
    ("tiny-granite", 0, "{}"),
    ("tiny-olmo2", 0, "{}"),
    (
        "tiny-smollm3",
        0,
        r#"{"no_rope_layers": null, "no_rope_layer_interval": 4}"#,
    ),
    ("tiny-deepseek-v2", 0, r#"{"topk_method": "greedy"}"#),
    (
        "tiny-deepseek-v3",
        0,
        r#"{"rope_parameters": {"beta_fast": 32, "beta_slow": 1, "factor": 8.0, "mscale": 1.0,
            "mscale_all_dim": 1.0, "original_max_position_embeddings": 128,
            "rope_theta": 10000.0, "rope_type": "yarn"}}"#,
    ),
];

fn original(name: &str, first: usize, changes: &str) -> Checkpoint {
    let mut checkpoint = Checkpoint::open(name);
    let changes: Value = serde_json::from_str(changes).expect("changes");
    for (key, value) in changes.as_object().expect("an object") {
        checkpoint.source.config[key] = value.clone();
    }
    if first > 0 {
        let last = format!("model.layers.{first}.");
        checkpoint
            .tensors
            .retain(|n, _| n.starts_with(&last) || !n.starts_with("model.layers."));
        let tensors = std::mem::take(&mut checkpoint.tensors).into_values();
        for mut tensor in tensors {
            tensor.name = tensor.name.replace(&last, "model.layers.0.");
            checkpoint.add(tensor);
        }
        checkpoint.list();
    }
    checkpoint
}

fn prompt(name: &str) -> Vec<u32> {
    let path = root("test/fixtures").join(format!("{name}.safetensors"));
    let fixture: std::collections::BTreeMap<String, Tensor> = tensors(&path);
    ids(&fixture["tokens"])
}

fn logits(checkpoint: &Checkpoint, compute: Compute, tokens: &[u32]) -> Vec<f32> {
    let cpu = Cpu::new(Isa::detect(), 1).expect("a thread");
    let model = checkpoint.load(&cpu, compute).expect("a model");
    Sequence::new(&cpu, &model).logits(tokens)
}

/// The largest difference over the largest value.
fn off(found: &[f32], wanted: &[f32]) -> f32 {
    assert_eq!(found.len(), wanted.len());
    let largest = wanted.iter().fold(0.0f32, |a, v| a.max(v.abs()));
    let worst = found.iter().zip(wanted).map(|(a, b)| (a - b).abs());
    worst.fold(0.0f32, |a, d| if d.is_nan() { f32::NAN } else { a.max(d) }) / largest
}

#[test]
fn every_family_comes_back_as_it_was() {
    for (name, first, changes) in FAMILIES {
        let original = original(name, *first, changes);
        let files = files(&original, "F32", u64::MAX);
        let import = import(&files, 1000, None).expect("an import");
        let back = checkpoint(&files, &import);
        let mut wanted = Config::from_json(&original.source.config).expect("a config");
        let mut found = Config::from_json(&back.source.config).expect("a config");
        // Mistral is a Llama to GGUF; which floats the file once held it does not say.
        for config in [&mut wanted, &mut found] {
            config.dtype = None;
            config.model_type = config.model_type.replace("mistral", "llama");
        }
        // Kinds of scaling may be written in two ways that mean the same frequencies.
        found.rope_scaling = wanted.rope_scaling.clone();
        assert_eq!(found, wanted, "{name}");
        let tokens = prompt(name);
        let worst = off(
            &logits(&back, Compute::F32, &tokens),
            &logits(&original, Compute::F32, &tokens),
        );
        println!("{name}: {worst:.1e}");
        assert!(worst <= 1e-6, "{name}: {worst:e} off");
    }
}

/// The names under which floats lie in both.
#[test]
fn floats_are_bit_for_bit_those_of_the_checkpoint() {
    for (name, first, changes) in FAMILIES {
        let original = original(name, *first, changes);
        let files = files(&original, "F32", u64::MAX);
        let back = checkpoint(&files, &import(&files, 1 << 20, None).expect("an import"));
        for (name, tensor) in &original.tensors {
            // A tied head, a table that is computed again, the tower that sees.
            let Some(found) = back.tensors.get(name) else {
                assert!(
                    name == "lm_head.weight"
                        || name.ends_with("inv_freq")
                        || name.starts_with("visual."),
                    "{name}"
                );
                continue;
            };
            let floats = |t: &Tensor| t.view().and_then(|t| t.to_f32()).expect("floats");
            let norm = name.ends_with("norm.weight");
            let pairs = floats(found).into_iter().zip(floats(tensor));
            let same = |(a, b): (f32, f32)| a == b || norm && (a - b).abs() <= 1e-7;
            assert_eq!(found.shape, tensor.shape, "{name}");
            assert!(pairs.into_iter().all(same), "{name}");
        }
    }
}

#[test]
fn latent_attention_is_read_in_one_matrix_and_in_halves() {
    for (name, _, changes) in FAMILIES.iter().filter(|(n, ..)| n.contains("deepseek")) {
        let original = original(name, 0, changes);
        let now = files(&original, "F32", u64::MAX);
        let back = checkpoint(&now, &import(&now, 1 << 20, None).expect("halves"));
        let before = older(&now, &original);
        let old = checkpoint(
            &before,
            &import(&before, 1 << 20, None).expect("one matrix"),
        );
        assert_eq!(back.source.config, old.source.config, "{name}");
        assert!(back.tensors == old.tensors, "{name}");
        // In files of their own; rows of these widths stay floats.
        let many = files(&original, "Q8_0", 1600);
        let place = import(&many, 1 << 20, Some(Dtype::BF16)).expect("parts");
        let apart = |t: &&lowbit::gguf::import::Place| t.second.is_some_and(|s| s.file != t.file);
        assert!(place.tensors.iter().any(|t| apart(&t)), "{name}");
        let wanted = logits(&original, Compute::F32, &prompt(name));
        let worst = off(
            &logits(&checkpoint(&many, &place), Compute::F32, &prompt(name)),
            &wanted,
        );
        assert!(worst < 1e-3, "{name}: {worst}");
        // A half alone is none.
        let mut lost = now.clone();
        let at = lost[0]
            .1
            .windows(8)
            .position(|w| w == b"attn_v_b")
            .expect("a name");
        lost[0].1[at..at + 8].copy_from_slice(b"attn_x_b");
        assert_eq!(
            import(&lost, 1 << 20, None).unwrap_err().code,
            Code::MissingTensor
        );
    }
}

#[test]
fn blocks_run_as_their_floats_do() {
    let tokens: Vec<u32> = (5..37).collect();
    for name in ["novels-4m", "tiny-llama", "tiny-qwen3", "tiny-mixtral"] {
        let original = original(name, 0, "{}");
        for mix in [
            "Q8_0", "Q4_0", "Q5_1", "Q4_K_M", "Q2_K", "Q3_K_M", "Q5_K_M", "Q6_K", "IQ4_XS",
            "IQ4_NL", "TQ2_0",
        ] {
            let files = files(&original, mix, u64::MAX);
            let blocks = checkpoint(&files, &import(&files, 1 << 16, None).expect("blocks"));
            let floats = import(&files, 1 << 16, Some(Dtype::F32)).expect("floats");
            assert!(
                floats
                    .tensors
                    .iter()
                    .all(|t| !matches!(t.dtype, Dtype::Blocks(_)))
            );
            let wanted = logits(&checkpoint(&files, &floats), Compute::F32, &tokens);
            let worst = off(&logits(&blocks, Compute::F32, &tokens), &wanted);
            assert!(worst <= 1e-5, "{name} {mix}: {worst:e} off in f32");
            // Inputs of 8 bits per group are as far off as they are in every other format.
            let rounded = off(&logits(&blocks, Compute::Int8, &tokens), &wanted);
            println!("{name} {mix}: f32 {worst:.1e}, int8 {rounded:.1e}");
            assert!(rounded <= 0.06, "{name} {mix}: {rounded:e} off in int8");
        }
    }
}

#[test]
fn several_files_are_one_model() {
    let original = original("tiny-llama", 0, "{}");
    let one = files(&original, "Q8_0", u64::MAX);
    let mut many = files(&original, "Q8_0", 50_000);
    assert!(many.len() > 3, "{}", many.len());
    let wanted = checkpoint(&one, &import(&one, 4096, None).expect("one")).tensors;
    let found = checkpoint(&many, &import(&many, 4096, None).expect("many")).tensors;
    assert!(wanted == found);
    // Whichever file is named.
    many.rotate_left(2);
    let import = import(&many, 100, None).expect("from the third");
    many.rotate_right(2);
    assert!(checkpoint(&many, &import).tensors == wanted);
}

#[test]
fn what_is_not_a_model_is_refused() {
    let original = original("tiny-llama", 0, "{}");
    let many = files(&original, "Q8_0", 50_000);
    let code = |files: &[(String, Vec<u8>)]| import(files, 1 << 16, None).unwrap_err().code;
    let mut renamed = many.clone();
    renamed[0].0 = "model.gguf".into();
    assert_eq!(code(&renamed), Code::Index);
    let mut twice = many.clone();
    twice[1].1 = many[0].1.clone();
    assert_eq!(code(&twice), Code::Index);
    let cut = &many[0].1[..many[0].1.len() - 40];
    assert_eq!(code(&[(many[0].0.clone(), cut.to_vec())]), Code::Truncated);
}

#[test]
fn the_vocabulary_comes_back() {
    let original = original("tiny-llama", 0, "{}");
    let files = files(&original, "Q8_0", u64::MAX);
    let import = import(&files, 1 << 20, None).expect("an import");
    let text = |name: &str| &import.texts.iter().find(|(n, _)| *n == name).expect(name).1;
    assert!(import.problems.is_empty());
    let model = &text("tokenizer.json")["model"];
    assert_eq!(model["vocab"]["t7"], json!(7));
    assert_eq!(
        model["vocab"].as_object().map(serde_json::Map::len),
        Some(131)
    );
    assert_eq!(text("generation_config.json")["eos_token_id"], json!([1]));
    assert_eq!(import.mix, Some("Q8_0"));
}
