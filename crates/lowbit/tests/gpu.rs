//! Whole models on the GPU against the CPU and against transformers.

#![cfg(feature = "gpu")]

#[path = "support/on_gpu.rs"]
mod on_gpu;
mod support;

use lowbit::Tensor;
use lowbit::error::Code;
use lowbit::gpu::block_on;
use lowbit::gpu::{Counts, GpuOptions};
use lowbit::session::{Output, Want, top};
use on_gpu::{Both, Front, device};
use std::sync::Arc;
use support::{Sequence, ids, root, tensors};

/// Worst absolute difference of logits between GPU and CPU, whose own order of sums differs.
const LOGIT_BOUND: f32 = 2e-4;

fn worst(found: &[f32], wanted: &[f32]) -> f32 {
    assert_eq!(found.len(), wanted.len());
    let differences = found.iter().zip(wanted).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |w, d| if d > w || d.is_nan() { d } else { w })
}

fn prompt(fixture: &str, key: &str) -> (Vec<u32>, Tensor) {
    let mut all = tensors(&root("test/fixtures").join(format!("{fixture}.safetensors")));
    let tokens = ids(&all[&format!("{key}tokens")]);
    (tokens, all.remove(&format!("{key}logits")).expect("logits"))
}

#[test]
fn logits_are_those_of_transformers() {
    let Some(gpu) = device("GPU logits of dense models", &GpuOptions::default()) else {
        return;
    };
    for (name, fixture, key) in [
        ("novels-4m", "novels-4m-reference", "prompt_0."),
        ("tiny-llama", "tiny-llama", ""),
        ("tiny-llama-linear", "tiny-llama-linear", ""),
        ("tiny-mistral", "tiny-mistral", ""),
        ("tiny-qwen2", "tiny-qwen2", ""),
        ("tiny-qwen3", "tiny-qwen3", ""),
    ] {
        let (tokens, wanted) = prompt(fixture, key);
        let wanted = wanted.view().and_then(|t| t.to_f32()).expect("floats");
        let both = Both::load(name, Arc::clone(&gpu), false, 0);
        let whole = Front::new(&both, 1024).logits(&tokens, Want::All);
        let mut sequence = Front::new(&both, 1024);
        let pieces = [&tokens[..3], &tokens[3..4], &tokens[4..]];
        let pieces: Vec<f32> = pieces
            .iter()
            .flat_map(|p| sequence.logits(p, Want::All))
            .collect();
        let worst = worst(&whole, &wanted).max(worst(&pieces, &wanted));
        println!("{name} on the GPU: worst {worst:.2e}");
        assert!(worst <= LOGIT_BOUND, "{name}: {worst:e} off");
    }
}

#[test]
fn quantized_logits_are_those_of_the_cpu() {
    for (max_binding, border) in [(None, 0), (Some(160 << 10), 1)] {
        let options = GpuOptions { max_binding };
        let Some(gpu) = device("GPU logits of a quantized model", &options) else {
            return;
        };
        let both = Both::load("novels-4m", gpu, true, border);
        let (mut tokens, _) = prompt("novels-4m-reference", "prompt_0.");
        while tokens.len() < 140 {
            tokens.extend_from_within(..tokens.len().min(140 - tokens.len()));
        }
        let wanted = Sequence::new(&both.cpu, &both.model).logits(&tokens);
        // Several chunks, and a cache that grows between them.
        let mut sequence = Front::new(&both, 320);
        let found = sequence.logits(&tokens, Want::All);
        let difference = worst(&found, &wanted);
        println!("quantized, bindings {max_binding:?}, border {border}: worst {difference:.2e}");
        assert!(difference <= LOGIT_BOUND, "{difference:e} off");
        let last = Front::new(&both, 320).logits(&tokens, Want::Last);
        assert!(
            worst(
                &last,
                &wanted[wanted.len() - both.model.config.vocabulary..]
            ) <= LOGIT_BOUND
        );
    }
}

/// Greedy on the CPU, its tokens fed to the GPU, the GPU's candidates compared at every step.
#[test]
fn forced_decoding_agrees_token_by_token() {
    let Some(gpu) = device("forced decoding", &GpuOptions::default()) else {
        return;
    };
    for quantize in [false, true] {
        let both = Both::load("novels-4m", Arc::clone(&gpu), quantize, 2);
        let (tokens, _) = prompt("novels-4m-reference", "prompt_1.");
        let mut cpu = Sequence::new(&both.cpu, &both.model);
        let mut sequence = Front::new(&both, 1024);
        sequence.run(&tokens[..tokens.len() - 1], Want::Nothing);
        let mut next = cpu.next(&tokens);
        let mut last = tokens[tokens.len() - 1];
        let before = both.gpu.counts();
        for step in 0..64 {
            let Output::Top(top) = sequence.run(&[last], Want::Top(40)) else {
                unreachable!()
            };
            assert_eq!(top.ids.len(), 40);
            assert_eq!(top.ids[0], next, "step {step}, quantized {quantize}");
            last = next;
            next = cpu.next(&[last]);
        }
        let counts = both.gpu.counts();
        let per_run = Counts {
            submits: counts.submits - before.submits,
            readbacks: counts.readbacks - before.readbacks,
        };
        assert_eq!(
            per_run,
            Counts {
                submits: 64,
                readbacks: 64
            }
        );
    }
}

#[test]
fn candidates_are_those_of_the_logits() {
    let Some(gpu) = device("GPU candidates", &GpuOptions::default()) else {
        return;
    };
    let both = Both::load("tiny-llama", gpu, false, 0);
    let tokens = [1, 5, 9, 2, 7];
    let logits = Front::new(&both, 16).logits(&tokens, Want::Last);
    for k in [1, 5, 128, 200] {
        let Output::Top(found) = Front::new(&both, 16).run(&tokens, Want::Top(k)) else {
            unreachable!()
        };
        let wanted = top::select(&logits, k).expect("finite logits");
        assert_eq!((&found.ids, &found.logits), (&wanted.ids, &wanted.logits));
        assert!((found.log_sum - wanted.log_sum).abs() <= 1e-5);
    }
}

#[test]
fn truncating_a_cache_takes_tokens_back() {
    let Some(gpu) = device("truncated GPU cache", &GpuOptions::default()) else {
        return;
    };
    let both = Both::load("tiny-qwen3", gpu, false, 0);
    let mut sequence = Front::new(&both, 32);
    let first = sequence.logits(&[3, 1, 4, 1, 5], Want::Last);
    sequence.logits(&[9, 2, 6], Want::Last);
    sequence.cache.truncate(4);
    let again = sequence.logits(&[5], Want::Last);
    assert!(worst(&again, &first) <= LOGIT_BOUND);
    assert_eq!(sequence.cache.len(), 5);
}

#[test]
fn what_does_not_fit_is_refused() {
    let options = GpuOptions {
        max_binding: Some(1 << 17),
    };
    let Some(gpu) = device("GPU context", &options) else {
        return;
    };
    let both = Both::load("novels-4m", gpu, false, 3);
    let e = both
        .gpu
        .new_cache(1000)
        .expect_err("256 positions fit into a binding");
    assert_eq!(e.code, Code::Context);
    let mut cache = both.gpu.new_cache(4).expect("room");
    let hidden = vec![0.5; 5 * both.model.config.hidden];
    let e = block_on(both.gpu.forward(&mut cache, &hidden, Want::Nothing)).expect_err("5 of 4");
    assert_eq!(e.code, Code::Context);
    assert_eq!(cache.len(), 0);
}

#[test]
fn a_pass_may_move_between_threads() {
    fn send<T: Send>(value: T) -> T {
        value
    }
    let Some(gpu) = device("GPU futures", &GpuOptions::default()) else {
        return;
    };
    let both = Both::load("tiny-llama", gpu, false, 0);
    let mut cache = both.gpu.new_cache(8).expect("room");
    let hidden = vec![0.1; both.model.config.hidden];
    let pass = send(both.gpu.forward(&mut cache, &hidden, Want::Top(1)));
    assert!(matches!(block_on(pass), Ok(Output::Top(_))));
}
