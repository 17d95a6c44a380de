//! Models that embed or classify against transformers in f32, and what they refuse.
#![allow(clippy::print_stdout, reason = "the worst difference is worth seeing")]

mod support;

use lowbit::Code;
use lowbit::cpu::{Compute, Cpu, Isa};
use lowbit::model::config::Config;
use lowbit::model::encoder::Text;
use lowbit::model::head::Head;
use lowbit::model::load::Loader;
use lowbit::session::{Engine, Goal, Pool};
use serde_json::json;
use support::Checkpoint;
use support::configs::config;
use support::gguf;
use support::texts::Reference;

const CLASSIFY: &[&str] = &[
    "tiny-bert-classify",
    "tiny-roberta-classify",
    "tiny-distilbert-classify",
    "tiny-qwen3-classify",
];
const EMBED: &[(&str, Pool)] = &[("tiny-bert", Pool::Mean), ("tiny-qwen3-embed", Pool::Last)];

fn engine(name: &str, isa: Isa) -> Engine {
    let cpu = Cpu::new(isa, 2).expect("threads");
    let model = Checkpoint::open(name).load(&cpu, Compute::F32);
    Engine::new(model.expect("a model"), cpu, None)
}

#[test]
fn states_and_vectors_agree_with_transformers() {
    for (name, pool) in EMBED {
        let reference = Reference::read(name);
        for isa in [Isa::Scalar, Isa::detect()] {
            let engine = engine(name, isa);
            let run = |goal| {
                engine
                    .encode(&reference.tokens, &reference.texts, goal)
                    .unwrap()
            };
            let states = reference.worst("hidden", &run(Goal::States));
            let (pools, normalize) = (&[*pool][..], true);
            let vectors = run(Goal::Vectors { pools, normalize });
            let vectors = reference.worst("embeddings", &vectors);
            println!(
                "{name} {}: states {states:.1e} vectors {vectors:.1e}",
                isa.name()
            );
            assert!(
                states <= 1e-4 && vectors <= 1e-4,
                "{name}: {states:e} {vectors:e}"
            );
        }
    }
}

#[test]
fn labels_agree_with_transformers() {
    for name in CLASSIFY {
        let reference = Reference::read(name);
        for isa in [Isa::Scalar, Isa::detect()] {
            let engine = engine(name, isa);
            let found = engine.encode(&reference.tokens, &reference.texts, Goal::Labels);
            let worst = reference.worst("labels", &found.unwrap());
            println!("{name} {}: labels {worst:.1e}", isa.name());
            assert!(worst <= 1e-4, "{name}: {worst:e}");
        }
    }
}

#[test]
fn a_text_has_the_same_bits_alone_and_in_a_batch() {
    let (engine, reference) = (
        engine("tiny-bert", Isa::detect()),
        Reference::read("tiny-bert"),
    );
    let together = engine.encode(&reference.tokens, &reference.texts, Goal::States);
    let mut alone = Vec::new();
    let mut rest = &reference.tokens[..];
    for text in &reference.texts {
        let (own, behind) = rest.split_at(text.length);
        alone.extend(engine.encode(own, &[*text], Goal::States).unwrap());
        rest = behind;
    }
    assert_eq!(together.unwrap(), alone);
}

#[test]
fn the_second_text_of_a_pair_counts_as_one() {
    let (engine, reference) = (
        engine("tiny-bert-classify", Isa::detect()),
        Reference::read("tiny-bert-classify"),
    );
    let single: Vec<_> = reference
        .texts
        .iter()
        .map(|t| Text::single(t.length))
        .collect();
    let found = engine.encode(&reference.tokens, &single, Goal::Labels);
    assert!(reference.worst("labels", &found.unwrap()) > 1e-2);
}

#[test]
fn what_a_model_cannot_do_is_said() {
    let bert = engine("tiny-bert", Isa::detect());
    let texts = [Text::single(3)];
    let refused = |tokens: &[u32], texts: &[Text], goal| {
        let e = bert.encode(tokens, texts, goal).unwrap_err();
        (e.code, e.to_string())
    };
    let (code, text) = refused(&[2, 5, 3], &texts, Goal::Labels);
    assert!(
        code == Code::Unsupported && text.contains("no classification head"),
        "{text}"
    );
    let (code, text) = refused(&[2, 5, 80], &texts, Goal::States);
    assert!(code == Code::Option && text.contains("token 80"), "{text}");
    assert_eq!(refused(&[2, 5], &texts, Goal::States).0, Code::Option);
    assert_eq!(
        refused(&[], &[Text::single(0)], Goal::States).0,
        Code::Option
    );
    let long = vec![5; 41];
    let (code, text) = refused(&long, &[Text::single(41)], Goal::States);
    assert!(
        code == Code::Context && text.contains("41 tokens"),
        "{text}"
    );
    let mut hidden = vec![0.0; 48];
    let e = lowbit::model::forward::logits(&bert.cpu, &bert.model, &hidden).unwrap_err();
    assert_eq!(e.code, Code::Unsupported, "{e}");
    lowbit::model::forward::final_norm(&bert.cpu, &bert.model, &mut hidden);
    assert_eq!(hidden, [0.0; 48]);
}

#[test]
fn names_have_the_prefix_of_the_base_model_or_not() {
    let loader = |name: &str| Loader::new(&Checkpoint::open(name).source).unwrap();
    for (name, bare) in [
        ("tiny-bert", true),
        ("tiny-bert-classify", false),
        ("tiny-qwen3-embed", true),
        ("tiny-qwen3", false),
    ] {
        assert_eq!(loader(name).config().bare, bare, "{name}");
    }
    let heads = ["tiny-bert", "tiny-qwen3-classify", "tiny-qwen3-embed"];
    assert!(heads.iter().all(|name| loader(name).head() == Head::None));
    let mut checkpoint = Checkpoint::open("tiny-bert-classify");
    checkpoint.tensors.remove("classifier.bias");
    checkpoint.list();
    let e = Loader::new(&checkpoint.source).unwrap_err();
    assert_eq!(e.code, Code::MissingTensor, "{e}");
    assert!(e.what.contains("classifier.bias"), "{e}");
}

#[test]
fn old_names_of_norms_are_read() {
    let reference = Reference::read("tiny-bert-classify");
    let mut old = Checkpoint::open("tiny-bert-classify");
    let named = |name: &String| name.contains("LayerNorm");
    let names: Vec<_> = old.tensors.keys().filter(|n| named(n)).cloned().collect();
    for name in names {
        let mut tensor = old.tensors.remove(&name).expect("it was listed");
        tensor.name = name.replace(".weight", ".gamma").replace(".bias", ".beta");
        old.add(tensor);
    }
    old.list();
    let cpu = Cpu::single();
    let engine = Engine::new(old.load(&cpu, Compute::F32).expect("a model"), cpu, None);
    let found = engine.encode(&reference.tokens, &reference.texts, Goal::Labels);
    assert!(reference.worst("labels", &found.unwrap()) <= 1e-4);
}

#[test]
fn configs_of_encoders_are_checked() {
    let bert = config("bert", &json!({ "hidden_act": "gelu_new" })).unwrap();
    let encoder = bert.encoder.unwrap();
    assert_eq!(
        (encoder.positions, encoder.first, encoder.types),
        (2048, 0, 2)
    );
    assert_eq!((bert.norm_eps, bert.context, bert.labels), (1e-12, 2048, 0));
    let roberta = config("roberta", &json!({ "pad_token_id": 1 })).unwrap();
    assert_eq!((roberta.context, roberta.encoder.unwrap().first), (2046, 2));
    for (changes, code, wanted) in [
        (
            json!({ "hidden_act": "mish" }),
            Code::Unsupported,
            "hidden_act \"mish\"",
        ),
        (
            json!({ "position_embedding_type": "relative_key" }),
            Code::Unsupported,
            "position_embedding_type",
        ),
        (
            json!({ "is_decoder": true }),
            Code::Unsupported,
            "is_decoder",
        ),
        (
            json!({ "layer_norm_eps": -1 }),
            Code::Config,
            "layer_norm_eps is -1",
        ),
        (
            json!({ "type_vocab_size": 0 }),
            Code::Config,
            "type_vocab_size is 0",
        ),
    ] {
        let e = config("bert", &changes).unwrap_err();
        assert!(e.code == code && e.to_string().contains(wanted), "{e}");
    }
    let e = config("roberta", &json!({ "pad_token_id": 2047 })).unwrap_err();
    assert!(e.to_string().contains("pad_token_id is 2047"), "{e}");
    let classes = json!({ "architectures": ["BertForSequenceClassification"] });
    assert_eq!(config("bert", &classes).unwrap().labels, 2);
    let distilbert = json!({ "model_type": "distilbert", "dim": 8, "n_heads": 2, "n_layers": 1,
        "hidden_dim": 12, "activation": "relu", "vocab_size": 5, "max_position_embeddings": 9 });
    let found = Config::from_json(&distilbert).unwrap();
    assert_eq!((found.hidden, found.intermediate, found.layers), (8, 12, 1));
}

/// What a checkpoint gives, and what it gives as a GGUF file.
fn both_ways(original: &Checkpoint, name: &str, goal: Goal<'_>) -> (Checkpoint, [Vec<f32>; 2]) {
    let files = gguf::files(original, "F32", u64::MAX);
    let import = gguf::import(&files, 1 << 20, None).expect("an import");
    let back = gguf::checkpoint(&files, &import);
    let reference = Reference::read(name);
    let lengths = reference.texts.iter().map(|t| Text::single(t.length));
    let texts: Vec<_> = lengths.collect();
    let given = [original, &back].map(|checkpoint| {
        let cpu = Cpu::new(Isa::detect(), 1).expect("a thread");
        let model = checkpoint.load(&cpu, Compute::F32).expect("a model");
        let engine = Engine::new(model, cpu, None);
        engine
            .encode(&reference.tokens, &texts, goal)
            .expect("values")
    });
    let pairs = given[0].iter().zip(&given[1]);
    let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
    println!("{name}: {worst:.1e}");
    assert!(worst <= 1e-6, "{name}: {worst:e}");
    (back, given)
}

#[test]
fn encoders_come_back_from_gguf() {
    for name in ["tiny-bert", "tiny-qwen3-embed", "tiny-roberta-classify"] {
        let mut original = Checkpoint::open(name);
        // A head without its class has no use, and every GELU is the same there.
        original
            .tensors
            .retain(|n, _| !n.starts_with("classifier."));
        original.list();
        if name.contains("roberta") {
            original.source.config["architectures"] = json!(["XLMRobertaModel"]);
            original.source.config["hidden_act"] = json!("gelu");
        }
        let (_, [wanted, found]) = both_ways(&original, name, Goal::States);
        assert_eq!(found.len(), wanted.len());
    }
}

#[test]
fn classes_come_back_from_gguf() {
    for name in ["tiny-bert-classify", "tiny-roberta-classify"] {
        let mut original = Checkpoint::open(name);
        original.source.config["hidden_act"] = json!("gelu");
        let (back, [wanted, found]) = both_ways(&original, name, Goal::Labels);
        assert_eq!(found.len(), wanted.len());
        let [was, is] = [&original, &back].map(|c| &c.source.config);
        assert_eq!(is["id2label"], was["id2label"]);
    }
}
