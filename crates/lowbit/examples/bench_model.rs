//! Tokens per second of a checkpoint in `models/`, and of attention alone.
//!
//! `cargo run -p lowbit --release --features parallel --example bench_model -- novels-4m 2`
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench prints and reads the clock"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use lowbit::cpu::{Compute, Cpu, Isa};
use lowbit::kernels::attention::{Heads, Input, Rule, attention};
use std::time::Instant;
use support::{Checkpoint, Sequence};

fn main() {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_else(|| "novels-4m".into());
    let threads = args.next().and_then(|n| n.parse().ok()).unwrap_or(1);
    let isa = args.next().map_or(Isa::detect(), |n| {
        Isa::parse(&n).expect("an instruction set")
    });
    let cpu = Cpu::new(isa, threads).expect("threads");
    let model = Checkpoint::open(&name)
        .load(&cpu, Compute::F32)
        .expect("a model");
    println!("{name}, f32, {cpu:?}");

    let vocabulary = model.config.vocabulary as u32;
    let prompt: Vec<u32> = (0..512).map(|i| i * 7 % vocabulary).collect();
    let seconds = best(5, || {
        Sequence::new(&cpu, &model).hidden(&prompt);
    });
    println!(
        "prefill 512 tokens, without head: {:.0} tokens/s",
        512.0 / seconds
    );

    let mut sequence = Sequence::new(&cpu, &model);
    let mut token = sequence.next(&prompt[..256]);
    let start = Instant::now();
    for _ in 0..128 {
        token = sequence.next(&[token]);
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "decode at 256 to 384 tokens: {:.0} tokens/s",
        128.0 / seconds
    );

    for (m, n) in [(512, 512), (1, 512), (1, 4096)] {
        bench_attention(&cpu, m, n);
    }
}

fn bench_attention(cpu: &Cpu, m: usize, n: usize) {
    let heads = Heads {
        queries: 4,
        keys: 2,
        dim: 64,
    };
    let values = |len: usize| (0..len).map(|i| (i % 17) as f32 / 17.0).collect::<Vec<_>>();
    let q = values(m * heads.queries * heads.dim);
    let cached = values(n * heads.keys * heads.dim);
    let mut out = vec![0.0; q.len()];
    let seconds = best(20, || {
        let input = Input {
            q: &q,
            keys: &cached,
            values: &cached,
            heads,
            rule: Rule::plain(heads.dim),
        };
        attention(cpu, input, &mut out);
    });
    let products = 2 * q.len() * if m == 1 { n } else { n / 2 };
    println!(
        "attention {m} of {n}, {heads:?}: {:.1} us, {:.1} GMAC/s",
        seconds * 1e6,
        products as f64 / seconds / 1e9
    );
}

fn best(times: usize, mut run: impl FnMut()) -> f64 {
    let one = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..times).map(one).fold(f64::INFINITY, f64::min)
}
