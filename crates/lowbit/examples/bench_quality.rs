//! What rounding without calibration text costs on novels-4m, beside what the reference tools reach
//! (models/novels-4m/README.md): mean KL(original ‖ rounded) over data/eval.txt, f32 compute, f32
//! scales.
//!
//! `cargo run -p lowbit --release --features parallel --example bench_quality -- [threads] [filter]`
#![allow(clippy::print_stdout, reason = "a bench prints")]

#[path = "../tests/support/mod.rs"]
mod support;

use lowbit::cpu::{Compute, Cpu, Isa};
use lowbit::evaluate::score_window;
use lowbit::model::config::Config;
use lowbit::model::weights;
use lowbit::round::gptq::GptqOptions;
use lowbit::round::observer::Observer;
use lowbit::round::{RoundOptions, Weights, hqq, rtn};
use lowbit::tensor::bytes_from_f32;
use lowbit::{Dtype, Scheme, Tensor};
use support::{Checkpoint, Sequence, eval_tokens};

/// Method, scheme, observer, and the mean KL of the tool that defines it, if it is in the table.
const ROWS: &[(&str, &str, &str, Option<f64>)] = &[
    ("rtn", "w4g128", "minmax", Some(0.010_968)),
    ("rtn", "w4g128", "mse", Some(0.009_345)),
    ("rtn", "w4g128-asym", "mse", Some(0.008_148)),
    ("rtn", "w3g128", "mse", Some(0.039_928)),
    ("rtn", "w8", "minmax", None),
    ("rtn", "fp8", "minmax", None),
    ("rtn", "nf4", "minmax", Some(0.007_511)),
    ("rtn", "nf4-dq", "minmax", None),
    ("rtn", "fp4", "minmax", Some(0.013_355)),
    ("rtn", "nvfp4", "minmax", None),
    ("rtn", "mxfp4", "minmax", None),
    ("hqq", "w4g64-float", "minmax", Some(0.006_731)),
    ("hqq", "w4g128-float", "minmax", Some(0.008_494)),
    ("hqq", "w3g128-float", "minmax", Some(0.039_092)),
    ("hqq", "w4g64-asym", "minmax", Some(0.006_731)),
    ("hqq", "w4g128-asym", "minmax", Some(0.008_494)),
    ("hqq", "w3g128-asym", "minmax", Some(0.039_092)),
];

/// Every linear rounded, as the floats that it stands for.
fn rounded(cpu: &Cpu, method: &str, scheme: &str, observer: &str) -> Checkpoint {
    let scheme: Scheme = scheme.parse().expect("a scheme");
    let mut checkpoint = Checkpoint::open("novels-4m");
    let config = Config::from_json(&checkpoint.source.config).expect("a config");
    let options = RoundOptions {
        observer: Observer::parse(observer).expect("an observer"),
        scale_dtype: Dtype::F32,
        gptq: GptqOptions::default(),
    };
    for linear in (0..config.layers).flat_map(|layer| weights::linears(&config, layer)) {
        let source = &checkpoint.tensors[&linear.weight];
        let values = source.view().and_then(|t| t.to_f32()).expect("floats");
        let (rows, cols) = (linear.rows, linear.cols);
        let weights = Weights {
            values: &values,
            rows,
            cols,
            importance: None,
        };
        let round = if method == "hqq" {
            hqq::round
        } else {
            rtn::round
        };
        let matrix = round(weights, &scheme, &options, cpu).expect("codes");
        let mut values = vec![0.0; rows * cols];
        for (row, out) in values.chunks_mut(cols).enumerate() {
            matrix.dequantize_row(row, out).expect("a row");
        }
        checkpoint.add(Tensor {
            name: linear.weight,
            dtype: Dtype::F32,
            shape: vec![rows, cols],
            bytes: bytes_from_f32(Dtype::F32, &values).expect("bytes"),
        });
    }
    checkpoint.list();
    checkpoint
}

fn main() {
    let mut args = std::env::args().skip(1);
    let threads = args.next().and_then(|n| n.parse().ok()).unwrap_or(1);
    let filter = args.next().unwrap_or_default();
    let cpu = Cpu::new(Isa::detect(), threads).expect("threads");
    let tokens = eval_tokens();
    let original = Checkpoint::open("novels-4m");
    let original = original.load(&cpu, Compute::F32).expect("a model");
    let reference: Vec<Vec<f32>> = tokens
        .chunks_exact(512)
        .map(|window| Sequence::new(&cpu, &original).logits(window))
        .collect();
    println!("method scheme observer           mean KL    the tool's  ratio");
    for (method, scheme, observer, peer) in ROWS {
        let name = format!("{method} {scheme} {observer}");
        if !name.contains(&filter) {
            continue;
        }
        let model = rounded(&cpu, method, scheme, observer);
        let model = model.load(&cpu, Compute::F32).expect("a model");
        let (mut divergence, mut positions) = (0.0, 0);
        for (window, reference) in tokens.chunks_exact(512).zip(&reference) {
            let logits = Sequence::new(&cpu, &model).logits(window);
            let scores = score_window(&logits, Some(reference), window, model.config.vocabulary);
            let scores = scores.expect("finite logits");
            divergence += scores.kl.iter().map(|k| f64::from(*k)).sum::<f64>();
            positions += scores.positions;
        }
        let kl = divergence / f64::from(positions as u32);
        match peer {
            Some(peer) => println!("{name:30} {kl:.6}   {peer:.6}   {:.3}", kl / peer),
            None => println!("{name:30} {kl:.6}"),
        }
    }
}
