//! Times what calibration spends its time on, beside the f32 peak of the same machine: one decoder
//! block of a Llama of 1.1 billion parameters over 512 tokens, and `X·Xᵀ` of its inputs.
//!
//! `cargo run --release -p lowbit --features parallel --example bench_block`
#![expect(clippy::print_stdout, reason = "it is what a bench does")]
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

#[allow(dead_code, reason = "the other bench also reads memory")]
#[path = "bench_kernels/simd_peak.rs"]
mod simd_peak;

use lowbit::kernels::matmul::{Weight, gram};
use lowbit::model::config::Config;
use lowbit::model::forward::{LayerCache, Scratch, run_block};
use lowbit::model::{Block, Stored, weights};
use lowbit::tensor::{Tensor, bytes_from_f32};
use lowbit::{Cpu, Dtype, Isa};
use std::hint::black_box;
use std::time::Instant;

const TOKENS: usize = 512;
const RUNS: usize = 7;

fn main() {
    let config = Config::from_json(&serde_json::json!({
        "model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632,
        "num_hidden_layers": 22, "num_attention_heads": 32, "num_key_value_heads": 4,
        "vocab_size": 32000, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5,
    }))
    .expect("a right config");
    let block = block(&config);
    for threads in [1, 2] {
        let cpu = Cpu::new(Isa::detect(), threads).expect("threads start");
        let operations = simd_peak::multiply_adds(cpu.isa).0 * threads as f64;
        let peak = operations
            / best(|| {
                cpu.run(threads, true, |_| {
                    black_box(simd_peak::multiply_adds(cpu.isa));
                });
            });
        println!(
            "{} {threads}t: peak {:.1} GFLOPS",
            cpu.isa.name(),
            peak / 1e9
        );
        let show = |name: &str, operations: f64, seconds: f64| {
            let rate = operations / seconds;
            let share = 100.0 * rate / peak;
            println!(
                "  {name:24} {:8.1} GFLOPS, {share:3.0} % of peak",
                rate / 1e9
            );
        };
        let mut scratch = Scratch::new(&config);
        let mut hidden: Vec<f32> = noise(TOKENS * config.hidden).collect();
        let start = hidden.clone();
        let seconds = best(|| {
            hidden.copy_from_slice(&start);
            let mut cache = LayerCache::default();
            run_block(&cpu, &mut scratch, &block, &mut cache, &mut hidden, None)
                .expect("there is no tap that could fail");
        });
        show("block, 512 tokens", block_operations(&config), seconds);
        for n in [config.hidden, config.intermediate] {
            let x: Vec<f32> = noise(TOKENS * n).collect();
            let mut h = vec![0.0; n * n];
            let seconds = best(|| gram(&cpu, &x, n, black_box(&mut h)));
            // Half of the products: the result is symmetric.
            let operations = (TOKENS * n * (n + 1)) as f64;
            show(&format!("X·Xᵀ, width {n}"), operations, seconds);
        }
    }
}

/// Multiplications and additions of linears and of causal attention.
fn block_operations(config: &Config) -> f64 {
    let linears = weights::linears(config, 0);
    let weights: usize = linears.iter().map(|l| l.rows * l.cols).sum();
    let pairs = TOKENS * (TOKENS + 1) / 2;
    (2 * TOKENS * weights + 4 * pairs * config.heads * config.head_dim) as f64
}

fn block(config: &Config) -> Block<Weight> {
    let tensors = weights::block_tensors(config, 0).into_iter().map(|needed| {
        let values: Vec<f32> = noise(needed.shape.iter().product())
            .map(|v| v * 0.02)
            .collect();
        Tensor {
            name: needed.name,
            dtype: Dtype::BF16,
            bytes: bytes_from_f32(Dtype::BF16, &values).expect("floats"),
            shape: needed.shape,
        }
    });
    let block = weights::block(config, 0, tensors.collect()).expect("all tensors are there");
    let placed = block.map(|stored| match stored {
        Stored::Dense(tensor) => Weight::dense(tensor.view()?),
        Stored::Quantized(_) => unreachable!("the tensors are floats"),
    });
    placed.expect("floats")
}

/// The best of several runs, which is what noise from other processes leaves standing.
fn best(mut work: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let before = Instant::now();
        work();
        best = best.min(before.elapsed().as_secs_f64());
    }
    best
}

/// A reproducible stream in −1..1.
fn noise(n: usize) -> impl Iterator<Item = f32> {
    let mut state = 1u32;
    (0..n).map(move |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state as i32 as f32 / 2_147_483_648.0
    })
}
