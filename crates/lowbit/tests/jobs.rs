//! The quantization of every checkpoint of the repository, with calibration and without.
#![allow(clippy::print_stdout, reason = "losses are worth seeing")]

mod support;

use lowbit::cpu::{Compute, Cpu, Isa};
use lowbit::job::request::{Calibration, Options};
use lowbit::model::config::Config;
use support::quantize::{request, run};
use support::{Checkpoint, Sequence, root};

/// Runs a job on 4 × 32 tokens; what it wrote, and its report.
fn quantized(source: &Checkpoint, options: Options, cpu: &Cpu) -> (Checkpoint, serde_json::Value) {
    let (samples, length) = (4, 32);
    let mut request = request(source, options);
    request.calibration = Some(Calibration { samples, length });
    let config = Config::from_json(&source.source.config).expect("a config");
    let tokens = (0..(samples * length) as u32).map(|i| i * 7919 % config.vocabulary as u32);
    run(source, cpu, &request, tokens.collect())
}

/// Names of `models/tiny-*`.
fn tiny() -> Vec<String> {
    let folders = std::fs::read_dir(root("models")).expect("models");
    let names = folders.map(|f| f.expect("a folder").file_name().into_string());
    let mut names: Vec<_> = names.map(|n| n.expect("a name")).collect();
    names.retain(|n| n.starts_with("tiny-"));
    names.sort();
    names
}

#[test]
fn every_family_is_quantized_and_runs() {
    let cpu = Cpu::new(Isa::detect(), 2).expect("threads");
    for name in tiny() {
        let checkpoint = Checkpoint::open(&name);
        let logits = |c: &Checkpoint| {
            let model = c.load(&cpu, Compute::F32).expect("a model");
            let (tokens, mut run) = ((2..40).collect::<Vec<u32>>(), Sequence::new(&cpu, &model));
            match model.head {
                Some(_) => run.logits(&tokens),
                // What embeds or classifies has no logits.
                None => run.hidden(&tokens),
            }
        };
        let wanted = logits(&checkpoint);
        let largest = wanted.iter().fold(0.0f32, |m, l| m.max(l.abs()));
        for method in ["rtn", "gptq"] {
            let options = Options {
                method: method.into(),
                scheme: "w8".into(),
                ..Options::default()
            };
            let (written, report) = quantized(&checkpoint, options, &cpu);
            let pairs = logits(&written).into_iter().zip(&wanted);
            let worst = pairs.fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / largest;
            println!("{name} {method}: {worst:.1e}");
            // Eight bits move logits little, unless they send a token to another expert.
            let mixture = checkpoint
                .source
                .config
                .get("num_experts_per_tok")
                .is_some();
            assert!(
                worst <= if mixture { 1.0 } else { 0.1 },
                "{name} {method}: {worst:e}"
            );

            let layers = report["layers"].as_array().expect("layers");
            let packed = written
                .tensors
                .keys()
                .filter(|n| n.ends_with("weight_packed") || n.ends_with("weight_scale"));
            assert!(
                !layers.is_empty() && packed.count() >= layers.len(),
                "{name}"
            );
            // What no row knows is copied, and named for loaders that would take it for quantized.
            for (module, tensor) in checkpoint.tensors.iter().filter(|(n, _)| n.contains("vis")) {
                assert_eq!(
                    written.tensors[module].bytes, tensor.bytes,
                    "{name} {module}"
                );
                let named = module
                    .strip_suffix(".weight")
                    .filter(|_| tensor.shape.len() == 2);
                let ignored = &written.source.config["quantization_config"]["ignore"];
                let listed = |m| ignored.as_array().expect("a list").iter().any(|i| i == m);
                assert!(named.is_none_or(listed), "{name}: {module} in {ignored}");
            }
        }
    }
}
