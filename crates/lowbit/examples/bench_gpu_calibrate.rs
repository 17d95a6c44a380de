//! Prints calibration's sums on the best GPU adapter against all cores of this machine, in one run:
//! `cargo run -p lowbit --release --features gpu,parallel --example bench_gpu_calibrate`.
//!
//! Inputs of 512 tokens, as a sample has by default: a product with a bf16 matrix and the second
//! moments of the inputs. A GPU's time includes the way there and back. Results are compared before
//! they are timed; best of five. A software adapter is refused: its figures are about nothing.

#![allow(clippy::print_stdout, reason = "a command line program")]

use lowbit::cpu::{Cpu, Isa};
use lowbit::error::{Code, Error, Result};
use lowbit::gpu::{Calibrator, Gpu, GpuOptions, block_on};
use lowbit::kernels::matmul::{Weight, gram, matmul};
use lowbit::model::accelerator::{Accelerator, Output};
use lowbit::model::ops::Part;
use lowbit::tensor::{Dtype, TensorRef, bytes_from_f32};
use std::sync::Arc;
use std::time::Instant;

const TOKENS: usize = 512;
/// Samples that are added up before second moments are read back.
const SAMPLES: usize = 32;
const WIDTHS: &[usize] = &[2048, 4096];

fn main() -> Result<()> {
    let gpu = Arc::new(block_on(Gpu::request(&GpuOptions::default()))?);
    let calibrator = Calibrator::new(gpu, None)?;
    println!("{}", calibrator.adapter().identity());
    if calibrator.adapter().software {
        return Err(Error::new(
            Code::NoDevice,
            "the adapter is a program, not a chip",
        ));
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = Cpu::new(Isa::detect(), threads)?;
    println!("{cpu:?}");
    for width in WIDTHS {
        let x: Vec<f32> = (0..TOKENS * width)
            .map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0)
            .collect();
        product(&cpu, &calibrator, *width, &x)?;
        moments(&cpu, &calibrator, *width, &x)?;
    }
    Ok(())
}

fn product(cpu: &Cpu, calibrator: &Calibrator, width: usize, x: &[f32]) -> Result<()> {
    let values: Vec<f32> = (0..width * width)
        .map(|i| (i * 53 % 97) as f32 / 970.0 - 0.05)
        .collect();
    let bytes = bytes_from_f32(Dtype::BF16, &values)?;
    let weight = Weight::dense(TensorRef::new(Dtype::BF16, &[width, width], &bytes)?)?;
    let block = calibrator.block()?;
    let (mut found, mut wanted) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    let on_gpu = best(|| {
        let outputs = &mut [Output {
            part: Part::Q,
            weight: &weight,
            y: &mut found,
        }];
        block.run(cpu, x, outputs)
    })?;
    let on_cpu = best(|| {
        matmul(cpu, x, &weight, &mut wanted);
        Ok(())
    })?;
    compare(&found, &wanted);
    let operations = 2.0 * (TOKENS * width * width) as f64;
    report("product", width, operations, on_gpu, on_cpu);
    Ok(())
}

fn moments(cpu: &Cpu, calibrator: &Calibrator, width: usize, x: &[f32]) -> Result<()> {
    let mut found = vec![0.0f32; width * width];
    let mut sums = calibrator.moments(width)?;
    let on_gpu = best(|| {
        found.fill(0.0);
        for _ in 0..SAMPLES {
            sums.add(x)?;
        }
        sums.take(&mut |band| {
            let rows = band.bytes.chunks_exact(4 * band.stride).enumerate();
            for (r, row) in rows {
                let i = band.first_row + r;
                let words = row.as_chunks::<4>().0;
                for (to, word) in found[i * width..=i * width + i].iter_mut().zip(words) {
                    *to = f32::from_le_bytes(*word);
                }
            }
        })
    })?;
    let mut wanted = vec![0.0f32; width * width];
    let on_cpu = best(|| {
        wanted.fill(0.0);
        for _ in 0..SAMPLES {
            gram(cpu, x, width, &mut wanted);
        }
        Ok(())
    })?;
    compare(&found, &wanted);
    // Half of the products, as the sums are symmetric.
    let operations = (SAMPLES * TOKENS * width * width) as f64;
    report("second moments", width, operations, on_gpu, on_cpu);
    Ok(())
}

/// Equal up to rounding, relative to the largest.
fn compare(found: &[f32], wanted: &[f32]) {
    let largest = wanted.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    for (i, (f, w)) in found.iter().zip(wanted).enumerate() {
        assert!((f - w).abs() <= 1e-5 * largest, "{i}: {f} for {w}");
    }
}

fn report(what: &str, width: usize, operations: f64, on_gpu: f64, on_cpu: f64) {
    println!(
        "{what} {width}: GPU {:.2} ms ({:.0} GFLOPS), CPU {:.2} ms ({:.0} GFLOPS), {:.1} times",
        on_gpu * 1e3,
        operations / on_gpu / 1e9,
        on_cpu * 1e3,
        operations / on_cpu / 1e9,
        on_cpu / on_gpu
    );
}

#[expect(
    clippy::disallowed_methods,
    reason = "a program of its own may read the clock"
)]
fn best(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    run()?;
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}
