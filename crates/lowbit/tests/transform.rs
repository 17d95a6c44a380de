//! Transforms on real and tiny checkpoints: the function stays, and searches choose well.
#![allow(clippy::print_stdout, reason = "losses are worth seeing")]

mod support;

use lowbit::cpu::{Compute, Cpu, Isa};
use lowbit::error::Code;
use lowbit::job::recipe::Rotate;
use lowbit::model::arch::ARCHS;
use lowbit::model::ops::Part;
use lowbit::session::random::Pcg32;
use lowbit::tensor::Dtype;
use lowbit::transform::{Rotation, fold, mappings};
use support::floats::{Floats, with_outliers};
use support::{Checkpoint, Sequence, root};

fn cpu() -> Cpu {
    Cpu::new(Isa::detect(), 2).expect("threads")
}

/// Every tiny checkpoint of the repository, and novels-4m.
fn checkpoints() -> Vec<(String, Checkpoint)> {
    let folders = std::fs::read_dir(root("models")).expect("models");
    let names = folders.map(|f| f.expect("a folder").file_name().into_string());
    let mut names: Vec<String> = names.map(|n| n.expect("a name")).collect();
    names.sort();
    let known = |c: &Checkpoint| {
        let kind = c.source.config["model_type"].as_str().unwrap_or_default();
        ARCHS.iter().any(|a| a.model_types.contains(&kind))
    };
    let open = |name: String| (name.clone(), Checkpoint::open(&name));
    names
        .into_iter()
        .filter(|n| root("models").join(n).join("config.json").exists())
        .map(open)
        .filter(|(_, c)| known(c))
        .collect()
}

fn logits(cpu: &Cpu, floats: &Floats) -> Vec<f32> {
    let model = floats.model();
    let vocabulary = model.config.vocabulary as u32;
    let count = model.config.context.min(48) as u32;
    let tokens: Vec<u32> = (0..count).map(|i| i * 7919 % vocabulary).collect();
    Sequence::new(cpu, &model).logits(&tokens)
}

/// Largest difference relative to the largest logit.
fn distance(found: &[f32], wanted: &[f32]) -> f32 {
    let largest = wanted.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let pairs = found.iter().zip(wanted);
    pairs.fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / largest
}

/// The same for the median token: one whose experts nearly tie may go to others when the router is
/// rounded.
fn typical(found: &[f32], wanted: &[f32], vocabulary: usize) -> f32 {
    let tokens = found.chunks(vocabulary).zip(wanted.chunks(vocabulary));
    let mut distances: Vec<f32> = tokens.map(|(a, b)| distance(a, b)).collect();
    distances.sort_by(f32::total_cmp);
    distances[distances.len() / 2]
}

/// Scales every mapping by factors between 1/4 and 4.
fn scale(floats: &mut Floats, stored: Dtype) {
    let mut random = Pcg32::new(5, 6);
    for layer in 0..floats.config.layers {
        for mapping in mappings(&floats.config, layer) {
            let n = floats.blocks[layer].matrix(mapping.consumers[0]).0.cols;
            let mut draw = |_| 2f64.powf(4.0 * random.next_f64() - 2.0) as f32;
            let scales: Vec<f32> = (0..n).map(&mut draw).collect();
            let offset = floats.config.arch().norm_offset;
            fold(&mut floats.blocks[layer], &mapping, &scales, stored, offset);
        }
    }
}

/// Rounding to bf16 costs little, unless it sends a token to another expert: then logits jump.
fn assert_rounded(original: &Floats, what: &str, loss: f32) {
    let limit = if original.config.experts.is_some() {
        1.0
    } else {
        0.05
    };
    assert!(loss <= limit, "{what} in bf16: {loss:e}");
}

#[test]
fn every_architecture_has_a_checkpoint_and_keeps_its_function_when_scaled() {
    let (cpu, all) = (cpu(), checkpoints());
    for arch in ARCHS {
        let serves = |(_, c): &&(String, Checkpoint)| {
            let kind = c.source.config["model_type"].as_str();
            kind.is_some_and(|k| arch.model_types.contains(&k))
        };
        assert!(
            all.iter().any(|c| serves(&c)),
            "{} has no checkpoint",
            arch.name
        );
    }
    for (name, checkpoint) in &all {
        let original = Floats::open(checkpoint);
        let wanted = logits(&cpu, &original);
        let changed = |stored| {
            let mut floats = original.clone();
            scale(&mut floats, stored);
            if stored != Dtype::F32 {
                floats.store_as(stored);
            }
            logits(&cpu, &floats)
        };
        let exact = distance(&changed(Dtype::F32), &wanted);
        let rounded = typical(&changed(Dtype::BF16), &wanted, original.config.vocabulary);
        println!("{name} scaled: {exact:.1e} in f32, {rounded:.1e} stored in bf16");
        assert!(exact <= 1e-4, "{name}: {exact:e}");
        assert_rounded(&original, name, rounded);
    }
}

#[test]
fn every_architecture_keeps_its_function_when_rotated_or_says_why_not() {
    let cpu = cpu();
    let options = |r1, r2, random| Rotate { r1, r2, random };
    for (name, checkpoint) in checkpoints() {
        let original = Floats::open(&checkpoint);
        let wanted = logits(&cpu, &original);
        for (what, rotate) in [
            ("r1", options(true, false, false)),
            ("r2", options(false, true, false)),
            ("r1 and r2 with signs", options(true, true, true)),
        ] {
            let rotation = match Rotation::new(&original.config, &rotate, 7) {
                Ok(rotation) => rotation,
                Err(e) => {
                    println!("{name} {what}: {e}");
                    assert_eq!(e.code, Code::Unsupported, "{name}");
                    continue;
                }
            };
            let mut floats = original.clone();
            rotation.embedding_rows(&cpu, &mut floats.embed.values);
            for (layer, block) in floats.blocks.iter_mut().enumerate() {
                rotation.fuse_block(&cpu, layer, block);
            }
            rotation.head_rows(&cpu, &mut floats.head.values, &original.norm);
            if rotation.changes_head() {
                floats.norm.fill(1.0);
            }
            let output = |f: &Floats| f.blocks[0].matrix(Part::O).0.clone();
            assert_ne!(
                output(&floats),
                output(&original),
                "{name} {what} does nothing"
            );
            let exact = distance(&logits(&cpu, &floats), &wanted);
            floats.store_as(Dtype::BF16);
            let stored = logits(&cpu, &floats);
            let rounded = typical(&stored, &wanted, original.config.vocabulary);
            println!("{name} {what}: {exact:.1e} in f32, {rounded:.1e} stored in bf16");
            assert!(exact <= 1e-4, "{name} {what}: {exact:e}");
            assert_rounded(&original, &format!("{name} {what}"), rounded);
        }
    }
}

#[test]
fn grouped_queries_and_head_norms_have_no_mapping() {
    for (name, checkpoint) in checkpoints() {
        let floats = Floats::open(&checkpoint);
        let config = &floats.config;
        let all = mappings(config, 0);
        // Values that come from a narrow vector are put together, not projected.
        let grouped = config.heads != config.kv_heads || config.latent.is_some();
        let has = |part| all.iter().any(|m| m.consumers.contains(&part));
        assert_eq!(has(Part::O), !grouped, "{name}");
        for mapping in &all {
            for part in &mapping.consumers {
                let times = all.iter().filter(|m| m.consumers.contains(part)).count();
                assert_eq!(times, 1, "{name}: {part:?} is scaled once");
            }
        }
    }
}

#[test]
fn outliers_leave_novels_bit_for_bit_the_same_function() {
    let cpu = cpu();
    let source = Checkpoint::open("novels-4m");
    let floats = Floats::open(&source);
    let changed = with_outliers(&source, &floats, 16.0);
    let load = |c: &Checkpoint| c.load(&cpu, Compute::F32).expect("a model");
    let tokens = &support::eval_tokens()[..512];
    let (before, after) = (load(&source), load(&changed));
    let wanted = Sequence::new(&cpu, &before).logits(tokens);
    assert_eq!(Sequence::new(&cpu, &after).logits(tokens), wanted);
    let different = source
        .tensors
        .iter()
        .filter(|(n, t)| changed.tensors[*n] != **t);
    assert_eq!(
        different.count(),
        4 * 7,
        "two norms and five linears of each block"
    );
}
