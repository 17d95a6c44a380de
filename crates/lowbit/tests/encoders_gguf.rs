//! Models that embed or classify, to GGUF and back.
#![allow(clippy::print_stdout, reason = "the worst difference is worth seeing")]

mod support;

use lowbit::cpu::{Compute, Cpu, Isa};
use lowbit::model::config::Config;
use lowbit::model::encoder::Text;
use lowbit::session::{Engine, Goal};
use serde_json::json;
use support::Checkpoint;
use support::gguf;
use support::texts::Reference;

fn through_gguf(original: &Checkpoint) -> Checkpoint {
    let files = gguf::files(original, "F32", u64::MAX);
    let import = gguf::import(&files, 1 << 20, None).expect("an import");
    gguf::checkpoint(&files, &import)
}

fn encoded(checkpoint: &Checkpoint, reference: &Reference, goal: Goal<'_>) -> Vec<f32> {
    let cpu = Cpu::new(Isa::detect(), 1).expect("a thread");
    let model = checkpoint.load(&cpu, Compute::F32).expect("a model");
    let texts = reference.texts.iter().map(|t| Text::single(t.length));
    let texts: Vec<_> = texts.collect();
    let engine = Engine::new(model, cpu, None);
    let encoded = engine.encode(&reference.tokens, &texts, goal);
    encoded.expect("an encoding")
}

fn assert_alike(name: &str, found: &[f32], wanted: &[f32]) {
    assert_eq!(found.len(), wanted.len(), "{name}");
    let worst = found.iter().zip(wanted).map(|(a, b)| (a - b).abs());
    let worst = worst.fold(0.0f32, f32::max);
    println!("{name}: {worst:.1e}");
    assert!(worst <= 1e-6, "{name}: {worst:e}");
}

#[test]
fn states_come_back() {
    for name in ["tiny-bert", "tiny-qwen3-embed", "tiny-roberta-classify"] {
        let mut original = Checkpoint::open(name);
        // A head without its class has no use, and every GELU is the same there.
        let tensors = &mut original.tensors;
        tensors.retain(|n, _| !n.starts_with("classifier."));
        original.list();
        if name.contains("roberta") {
            original.source.config["architectures"] = json!(["XLMRobertaModel"]);
            original.source.config["hidden_act"] = json!("gelu");
        }
        let back = through_gguf(&original);
        let reference = Reference::read(name);
        let states = |checkpoint| encoded(checkpoint, &reference, Goal::States);
        assert_alike(name, &states(&back), &states(&original));
    }
}

#[test]
fn classes_come_back() {
    for name in ["tiny-bert-classify", "tiny-roberta-classify"] {
        let mut original = Checkpoint::open(name);
        original.source.config["hidden_act"] = json!("gelu");
        let back = through_gguf(&original);
        let reference = Reference::read(name);
        let labels = |checkpoint| encoded(checkpoint, &reference, Goal::Labels);
        let wanted = labels(&original);
        assert_alike(name, &labels(&back), &wanted);
        let config = Config::from_json(&back.source.config).expect("a config");
        assert!(config.labels > 0 && config.labels == wanted.len() / reference.texts.len());
        let names = |c: &Checkpoint| c.source.config["id2label"].clone();
        assert_eq!(names(&back), names(&original));
    }
}
