//! What quantization costs on novels-4m, against what llm-compressor 0.14 reaches
//! (models/novels-4m) and against itself.

mod support;

use lowbit::cpu::{Cpu, Isa};
use lowbit::job::request::Options;
use serde::Deserialize;
use support::Checkpoint;
use support::quantize::{cost_of, quantize};

/// Mean KL of llm-compressor's GPTQ w4g128 and the noise that is allowed.
const KL_MAX: f64 = 1.03 * 0.004_966;
/// Its perplexity likewise.
const PERPLEXITY_MAX: f64 = 1.001 * 46.128;

#[test]
fn gptq_costs_no_more_than_with_llm_compressor() {
    let cpu = Cpu::new(Isa::detect(), 2).expect("threads");
    let source = Checkpoint::open("novels-4m");
    let (written, _) = quantize(&source, &cpu, Options::default());
    let (perplexity, kl) = cost_of(&cpu, &source, &written);
    println!("perplexity {perplexity:.3}, mean KL {kl:.6}");
    assert!(kl <= KL_MAX, "mean KL {kl}, at most {KL_MAX}");
    assert!(
        perplexity <= PERPLEXITY_MAX,
        "{perplexity}, at most {PERPLEXITY_MAX}"
    );
}

#[test]
fn schemes_by_budget_cost_less_than_one_for_all() {
    let cpu = Cpu::new(Isa::detect(), 2).expect("threads");
    let source = Checkpoint::open("novels-4m");
    let uniform = |scheme: &str| {
        let options = Options {
            scheme: scheme.into(),
            ..Options::default()
        };
        let (written, report) = quantize(&source, &cpu, options);
        let bits = report["bitsPerWeight"].as_f64().expect("a number");
        (bits, cost_of(&cpu, &source, &written).1)
    };
    let budget = |target: f64| {
        let options = Options {
            target_bpw: Some(target),
            ..Options::default()
        };
        let (_, survey) = quantize(&source, &cpu, options);
        let options = Options::deserialize(&survey["options"]).expect("options");
        let (written, report) = quantize(&source, &cpu, options);
        let bits = report["bitsPerWeight"].as_f64().expect("a number");
        let kl = cost_of(&cpu, &source, &written).1;
        println!(
            "{target}: {bits:.4} bits, KL {kl:.6}, expected {}",
            survey["expectedKl"]
        );
        (bits, kl)
    };
    let (w3, w4) = (uniform("w3g128"), uniform("w4g128"));
    println!("w3g128 {w3:?}, w4g128 {w4:?}");
    let (bits, kl) = budget(w4.0);
    assert!(
        bits <= w4.0 && kl < w4.1,
        "{bits} bits: {kl}, one scheme {}",
        w4.1
    );
    let (bits, kl) = budget(3.5);
    let line = w3.1 + (w4.1 - w3.1) * (bits - w3.0) / (w4.0 - w3.0);
    assert!(
        bits <= 3.5 && kl < line,
        "{bits} bits: {kl}, the line {line}"
    );
}
