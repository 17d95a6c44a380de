//! Bits, perplexity and mean KL of recipes on novels-4m, each given as JSON of the job's options.
//!
//! `cargo run -p lowbit --release --features parallel --example bench_quality -- '{"scheme":"w3g128"}'`
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench prints and reads the clock"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use lowbit::cpu::{Cpu, Isa};
use lowbit::job::request::Options;
use serde::Deserialize;
use std::time::Instant;
use support::Checkpoint;
use support::quantize::{cost_of, quantize};

fn main() {
    let cpu = Cpu::new(Isa::detect(), 2).expect("threads");
    let source = Checkpoint::open("novels-4m");
    for text in std::env::args().skip(1) {
        let options: Options = serde_json::from_str(&text).expect("options as JSON");
        let start = Instant::now();
        let (mut written, mut report) = quantize(&source, &cpu, options);
        if report["kind"] == "sensitivity" {
            println!("{:#}", report["table"]);
            let options = Options::deserialize(&report["options"]).expect("options");
            println!("{}", serde_json::json!(options.layers));
            (written, report) = quantize(&source, &cpu, options);
        }
        let seconds = start.elapsed().as_secs_f64();
        let (perplexity, kl) = cost_of(&cpu, &source, &written);
        let bits = &report["bitsPerWeight"];
        println!("{text}\n  {bits} bits, perplexity {perplexity:.4}, KL {kl:.6}, {seconds:.1} s");
        for key in ["fallbacks", "warnings"] {
            println!("  {key}: {}", report[key]);
        }
    }
}
