//! Times matrix products against their specification, memory bandwidth and peak arithmetic.
//!
//! `cargo run --release -p lowbit --features parallel --example bench_kernels -- [--json] [WORD…]`
//! runs the cases whose names contain every word. Each answer is checked before it is timed.

#![expect(clippy::print_stdout, reason = "it is what a bench does")]

mod simd_peak;

use lowbit::kernels::matmul::{Weight, gram, matmul};
use lowbit::matrix::{Codes, Floats, Integer, Scales, Values, Zero};
use lowbit::{Compute, Cpu, Dtype, Isa, QuantizedMatrix, TensorRef};
use serde_json::{Value, json};
use std::hint::black_box;
use std::time::Instant;

/// Outputs and inputs of the matrix.
const N: usize = 4096;

/// Copies of a weight, so that the last-level cache does not hold what memory should give.
const COPIES: usize = 8;

/// Seconds of each measurement.
const SECONDS: f64 = 0.3;

struct Roof {
    bandwidth: f64,
    flops: f64,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let json = words.iter().any(|w| w == "--json");
    let words: Vec<_> = words.iter().filter(|w| !w.starts_with("--")).collect();
    let isas: Vec<Isa> = Isa::ALL
        .iter()
        .map(|(_, i)| *i)
        .filter(|i| i.available())
        .collect();
    let mut results = vec![];
    for isa in isas.iter().rev().copied() {
        for threads in [1, 2] {
            let cpu = Cpu::new(isa, threads).expect("threads start");
            let prefix = format!("{} {threads}t", isa.name());
            let wanted = |name: &str| words.iter().all(|w| name.split(' ').any(|n| n == *w));
            if isa == Isa::Scalar && threads == 2 {
                continue;
            }
            let roof = measure_roof(&cpu);
            for case in cases() {
                let name = format!("{prefix} {}", case.0);
                if !wanted(&name) {
                    continue;
                }
                let result = run(&cpu, &name, &case.1, &roof);
                if !json {
                    println!("{}", line(&result));
                }
                results.push(result);
            }
        }
    }
    if json {
        println!("{}", json!(results));
    }
}

/// Names and what to run.
fn cases() -> Vec<(String, Case)> {
    let mut cases = vec![];
    for m in [1, 16, 256] {
        for (scheme, bits, group) in [("w4g128", 4, 128), ("w4g32", 4, 32), ("w8g128", 8, 128)] {
            for compute in [Compute::Int8, Compute::F32] {
                let kind = if m == 1 { "gemv" } else { "gemm" };
                let name = format!("{kind} {scheme} {} m{m}", compute.name());
                cases.push((
                    name,
                    Case::Packed {
                        m,
                        bits,
                        group,
                        compute,
                    },
                ));
            }
        }
        let kind = if m == 1 { "gemv" } else { "gemm" };
        cases.push((format!("{kind} bf16 f32 m{m}"), Case::Dense { m }));
    }
    cases.push(("gram f32 f32 m1024".into(), Case::Gram { m: 1024 }));
    cases
}

enum Case {
    Packed {
        m: usize,
        bits: u8,
        group: usize,
        compute: Compute,
    },
    Dense {
        m: usize,
    },
    Gram {
        m: usize,
    },
}

fn run(cpu: &Cpu, name: &str, case: &Case, roof: &Roof) -> Value {
    match *case {
        Case::Packed {
            m,
            bits,
            group,
            compute,
        } => {
            let w = Weight::packed(&random_matrix(bits, group), compute, cpu.isa);
            product(cpu, name, m, w.expect("the scheme fits"), roof)
        }
        Case::Dense { m } => {
            let bytes: Vec<u8> = noise(N * N)
                .flat_map(|v| (v.to_bits() as u16 | 0x3000).to_le_bytes())
                .collect();
            let bytes: Vec<u8> = bytes
                .iter()
                .enumerate()
                .map(|(i, b)| if i % 2 == 1 { b & 0xbf } else { *b })
                .collect();
            let tensor = TensorRef::new(Dtype::BF16, &[N, N], &bytes).expect("sizes agree");
            product(
                cpu,
                name,
                m,
                Weight::dense(tensor).expect("plain floats"),
                roof,
            )
        }
        Case::Gram { m } => {
            let n = N / 2;
            let x: Vec<f32> = noise(m * n).collect();
            let mut h = vec![0.0; n * n];
            let seconds = time(cpu, || gram(cpu, &x, n, black_box(&mut h)));
            report(cpu, name, seconds, 0.0, (m * n * (n + 1)) as f64, roof)
        }
    }
}

/// Checks the first and the last row against the specification, then times the product.
fn product(cpu: &Cpu, name: &str, m: usize, w: Weight, roof: &Roof) -> Value {
    let m = if cpu.isa == Isa::Scalar { m.min(1) } else { m };
    let x: Vec<f32> = noise(m * N).collect();
    let mut y = vec![0.0; m * N];
    matmul(cpu, &x, &w, &mut y);
    for row in [0, m - 1] {
        let mut wanted = vec![0.0; N];
        matmul(
            &Cpu::with_isa(Isa::Scalar),
            &x[row * N..][..N],
            &w,
            &mut wanted,
        );
        let size = wanted.iter().fold(0.0f32, |a, v| a.max(v.abs()));
        let found = &y[row * N..][..N];
        let error = found
            .iter()
            .zip(&wanted)
            .fold(0.0f32, |a, (f, w)| a.max((f - w).abs()));
        assert!(
            error <= 1e-5 * size,
            "{name}: row {row} is off by {error} of {size}"
        );
    }
    let bytes = w.bytes() as f64;
    let copies = if m == 1 { vec![w; COPIES] } else { vec![w] };
    let mut next = 0;
    let seconds = time(cpu, || {
        matmul(
            cpu,
            black_box(&x),
            &copies[next % copies.len()],
            black_box(&mut y),
        );
        next += 1;
    });
    report(cpu, name, seconds, bytes, 2.0 * (m * N * N) as f64, roof)
}

fn report(cpu: &Cpu, name: &str, seconds: f64, bytes: f64, operations: f64, roof: &Roof) -> Value {
    let (rate, flops) = (bytes / seconds / 1e9, operations / seconds / 1e9);
    json!({
        "name": name, "isa": cpu.isa.name(), "threads": cpu.threads(), "milliseconds": seconds * 1e3,
        "gigabytesPerSecond": rate, "gigaflops": flops,
        "ofBandwidth": rate / roof.bandwidth, "ofPeak": flops / roof.flops,
        "bandwidth": roof.bandwidth, "peakGigaflops": roof.flops,
    })
}

fn line(result: &Value) -> String {
    let number = |key: &str| result[key].as_f64().unwrap_or(0.0);
    format!(
        "{:34} {:9.3} ms {:7.2} GB/s ({:3.0} % of memory) {:8.1} GFLOPS ({:3.0} % of f32 peak)",
        result["name"].as_str().unwrap_or_default(),
        number("milliseconds"),
        number("gigabytesPerSecond"),
        number("ofBandwidth") * 100.0,
        number("gigaflops"),
        number("ofPeak") * 100.0,
    )
}

/// The best of several runs, which is what noise from other processes leaves standing.
#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn time(cpu: &Cpu, mut work: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    let started = Instant::now();
    let least = if cpu.isa == Isa::Scalar { 1 } else { 5 };
    for turn in 0.. {
        let before = Instant::now();
        work();
        best = best.min(before.elapsed().as_secs_f64());
        if turn >= least && started.elapsed().as_secs_f64() > SECONDS {
            break;
        }
    }
    best
}

fn measure_roof(cpu: &Cpu) -> Roof {
    let threads = cpu.threads();
    let words = vec![1u64; (64 << 20) / 8 * threads];
    let share = words.len() / threads;
    let seconds = time(cpu, || {
        cpu.run(threads, true, |i| {
            black_box(simd_peak::read(&words[i * share..][..share]));
        });
    });
    let operations = simd_peak::multiply_adds(cpu.isa).0 * threads as f64;
    let peak = time(cpu, || {
        cpu.run(threads, true, |_| {
            black_box(simd_peak::multiply_adds(cpu.isa));
        });
    });
    Roof {
        bandwidth: (words.len() * 8) as f64 / seconds / 1e9,
        flops: operations / peak / 1e9,
    }
}

/// A reproducible stream in −1..1.
fn noise(n: usize) -> impl Iterator<Item = f32> {
    let mut state = 1u32;
    (0..n).map(move |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state as i32 as f32 / 2_147_483_648.0
    })
}

fn random_matrix(bits: u8, group: usize) -> QuantizedMatrix {
    let row_words = N * usize::from(bits) / 32;
    let words = noise(N * row_words)
        .map(|v| ((v * 2_147_483_648.0) as i32 as u32).rotate_left(13) ^ v.to_bits())
        .collect();
    let scales: Vec<f32> = noise(N * N / group).map(|v| 0.01 + v.abs()).collect();
    let scales = Floats::from_f32(Dtype::F16, &scales).expect("f16 holds scales");
    QuantizedMatrix {
        rows: N,
        cols: N,
        inputs: None,
        values: Values::Integer(Integer {
            codes: Codes {
                bits,
                row_words,
                words,
            },
            group,
            scales: Scales::Flat(scales),
            zero: Zero::Centre,
            group_of_col: None,
        }),
    }
}
