//! Time of GGUF encoders on one thread: `bench_gguf FOLDER [TYPE…]`.
//!
//! Writes the rows, the importance and the blocks of each type into the folder, and prints one JSON
//! line per type and kind, so that another encoder can be timed on the same rows in the same run
//! and its bytes compared (`bench/peers/ggml_encode.py`).
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program that measures time and prints it"
)]

use lowbit::gguf::{Importance, Type, encode};
use lowbit::{Cpu, Isa};
use std::path::Path;
use std::time::Instant;

const ROWS: usize = 256;
const COLS: usize = 4096;
const REPEATS: usize = 5;

/// Heavy-tailed values with a deviation of about 0.02, the same in every run.
fn rows() -> Vec<f32> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..ROWS * COLS)
        .map(|_| {
            let sum: f64 = (0..4).map(|_| next()).sum::<f64>() - 2.0;
            (sum * 0.03 / (0.3 + next())) as f32
        })
        .collect()
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::write(folder.join(name), bytes)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or("bench_gguf FOLDER [TYPE…]")?;
    let folder = Path::new(&folder);
    let mut names: Vec<String> = args.collect();
    if names.is_empty() {
        names = [
            "Q4_K", "Q5_K", "Q6_K", "Q3_K", "Q2_K", "IQ4_XS", "Q4_0", "Q8_0",
        ]
        .map(String::from)
        .to_vec();
    }
    let values = rows();
    let weights: Vec<f32> = (0..COLS).map(|j| 0.01 + (j * 7 % 13) as f32).collect();
    let le = |v: &[f32]| -> Vec<u8> { v.iter().flat_map(|x| x.to_le_bytes()).collect() };
    write(folder, "rows.f32", &le(&values))?;
    write(folder, "importance.f32", &le(&weights))?;
    let importance = Importance::new(weights)?;
    for name in &names {
        let ty = Type::by_name(name)?;
        for (kind, importance) in [("plain", None), ("weighted", Some(&importance))] {
            for (_, isa) in Isa::ALL.iter().filter(|(_, isa)| isa.available()) {
                let cpu = Cpu::with_isa(*isa);
                let mut best = f64::INFINITY;
                let mut blocks = Vec::new();
                for _ in 0..REPEATS {
                    let start = Instant::now();
                    blocks = encode(ty, &values, COLS, importance, &cpu)?;
                    best = best.min(start.elapsed().as_secs_f64());
                }
                write(folder, &format!("{}.{kind}", ty.name), &blocks)?;
                let rate = values.len() as f64 / best / 1e6;
                println!(
                    "{{\"type\":\"{}\",\"kind\":\"{kind}\",\"isa\":\"{}\",\"cols\":{COLS},\"mvalues_per_s\":{rate:.2}}}",
                    ty.name,
                    isa.name()
                );
            }
        }
    }
    Ok(())
}
