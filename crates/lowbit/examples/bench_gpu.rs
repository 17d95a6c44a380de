//! Prints int4 products at 4096 × 4096 on the best GPU adapter, in groups of 128:
//! `cargo run -p lowbit --release --features gpu --example bench_gpu`.
//!
//! The result is compared with dequantized rows before it is timed. Best of five; a measurement
//! repeats the product in one submit until it takes a fifth of a second, and includes one upload
//! of the inputs and one read-back of the outputs.

#![allow(clippy::print_stdout, reason = "a command line program")]

use lowbit::error::Result;
use lowbit::gpu::{Gpu, GpuOptions, GpuProduct, block_on};
use lowbit::matrix::{Codes, Floats, Integer, QuantizedMatrix, Scales, Values, Zero};
use lowbit::model::Stored;
use std::sync::Arc;
use std::time::Instant;

const SIZE: usize = 4096;
const GROUP: usize = 128;

fn main() -> Result<()> {
    let gpu = Arc::new(block_on(Gpu::request(&GpuOptions::default()))?);
    println!("{:?}", gpu.info());
    let matrix = matrix();
    for tokens in [1, 4, 16, 256] {
        measure(&gpu, &matrix, tokens)?;
    }
    Ok(())
}

fn matrix() -> QuantizedMatrix {
    let words = (0..SIZE * SIZE / 8).map(|i| (i as u32).wrapping_mul(2_654_435_761));
    let scales = (0..SIZE * SIZE / GROUP).map(|i| 0.01 + (i % 7) as f32 * 1e-3);
    QuantizedMatrix {
        rows: SIZE,
        cols: SIZE,
        inputs: None,
        values: Values::Integer(Integer {
            codes: Codes {
                bits: 4,
                row_words: SIZE / 8,
                words: words.collect(),
            },
            group: GROUP,
            scales: Scales::Flat(Floats::F32(scales.collect())),
            zero: Zero::Centre,
            group_of_col: None,
        }),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a program of its own may read the clock"
)]
fn measure(gpu: &Arc<Gpu>, matrix: &QuantizedMatrix, tokens: usize) -> Result<()> {
    let product = GpuProduct::new(Arc::clone(gpu), &Stored::Quantized(matrix.clone()), tokens)?;
    let x: Vec<f32> = (0..tokens * SIZE)
        .map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0)
        .collect();
    let y = block_on(product.run(&x, 1))?;
    check(matrix, &x, &y)?;
    let seconds = |repeats: usize| -> Result<f64> {
        let start = Instant::now();
        block_on(product.run(&x, repeats))?;
        Ok(start.elapsed().as_secs_f64())
    };
    let repeats = ((0.2 / seconds(1)?) as usize).clamp(1, 1000);
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        best = best.min(seconds(repeats)? / repeats as f64);
    }
    let weight_bytes = (SIZE * SIZE / 2 + SIZE * SIZE / GROUP * 4) as f64;
    let operations = 2.0 * (tokens * SIZE * SIZE) as f64;
    println!(
        "m = {tokens:>3}: {:.3} ms, {:.1} GB/s of weights, {:.1} GFLOPS",
        best * 1e3,
        weight_bytes / best / 1e9,
        operations / best / 1e9
    );
    Ok(())
}

fn check(matrix: &QuantizedMatrix, x: &[f32], y: &[f32]) -> Result<()> {
    let mut row = vec![0.0; SIZE];
    for r in (0..SIZE).step_by(61) {
        matrix.dequantize_row(r, &mut row)?;
        for (x, y) in x.chunks(SIZE).zip(y.chunks(SIZE)) {
            let products = x
                .iter()
                .zip(&row)
                .map(|(a, b)| f64::from(*a) * f64::from(*b));
            let (sum, size) = products.fold((0.0, 0.0), |(s, a), p| (s + p, a + p.abs()));
            let bound = 20.0 * f64::from(f32::EPSILON) * size;
            assert!(
                (f64::from(y[r]) - sum).abs() <= bound,
                "row {r}: {} for {sum}",
                y[r]
            );
        }
    }
    Ok(())
}
