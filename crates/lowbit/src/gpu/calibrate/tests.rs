//! What calibration gets from a device, against the CPU and cut differently.

use super::Calibrator;
use crate::cpu::{Compute, Cpu, Isa};
use crate::error::Code;
use crate::gpu::testing::{assert_within, device};
use crate::gpu::{Gpu, GpuOptions};
use crate::kernels::matmul::{Weight, matmul};
use crate::kernels::testing::random;
use crate::matrix::Inputs;
use crate::model::accelerator::{Accelerator, Output};
use crate::model::ops::Part;
use crate::round::gptq::GptqOptions;
use crate::round::observer::Observer;
use crate::round::{self, RoundOptions, Weights};
use crate::scheme::Scheme;
use crate::tensor::{Dtype, TensorRef, bytes_from_f32};
use std::sync::Arc;

fn gpu(name: &str) -> Option<Arc<Gpu>> {
    device(name, &GpuOptions::default()).map(Arc::new)
}

/// A matrix in each form that a block may hold: floats, codes, codes for rounded inputs.
fn weights(rows: usize, cols: usize) -> Vec<Weight> {
    let values = random(3, rows * cols, 0.05);
    let dense = |dtype| {
        let bytes = bytes_from_f32(dtype, &values).unwrap();
        Weight::dense(TensorRef::new(dtype, &[rows, cols], &bytes).unwrap()).unwrap()
    };
    let packed = |scheme: &str| {
        let scheme: Scheme = scheme.parse().unwrap();
        let weights = Weights {
            values: &values,
            rows,
            cols,
            importance: None,
        };
        let options = RoundOptions {
            observer: Observer::MinMax,
            scale_dtype: Dtype::F16,
            gptq: GptqOptions::default(),
        };
        let mut matrix = round::rtn::round(weights, &scheme, &options, &Cpu::single()).unwrap();
        matrix.inputs = Inputs::of(&scheme);
        Weight::packed(&matrix, Compute::F32, Isa::Scalar).unwrap()
    };
    vec![
        dense(Dtype::BF16),
        packed("w4g32-asym"),
        packed("w8a8"),
        dense(Dtype::F32),
    ]
}

/// All products of one input, on a device with bindings of at most `limit` bytes.
fn products(gpu: &Arc<Gpu>, limit: Option<u64>, weights: &[Weight], x: &[f32]) -> Vec<Vec<f32>> {
    let block = Calibrator::new(Arc::clone(gpu), limit)
        .unwrap()
        .block()
        .unwrap();
    let tokens = x.len() / weights[0].cols();
    let mut ys: Vec<_> = (weights.iter().map(|w| vec![0.0; tokens * w.rows()])).collect();
    let parts = [Part::Q, Part::K, Part::V, Part::O];
    let outputs = parts.iter().zip(weights).zip(&mut ys);
    let mut outputs: Vec<_> = outputs
        .map(|((part, weight), y)| Output {
            part: *part,
            weight,
            y,
        })
        .collect();
    block.run(&Cpu::single(), x, &mut outputs).unwrap();
    ys
}

#[test]
fn products_are_the_cpus_and_do_not_depend_on_the_cut() {
    let Some(gpu) = gpu("products for calibration") else {
        return;
    };
    let (rows, cols, tokens) = (70, 96, 41);
    let weights = weights(rows, cols);
    let x = random(5, tokens * cols, 1.0);
    let whole = products(&gpu, None, &weights, &x);
    // Some tokens, and some rows of a matrix, at a time.
    let cut = products(&gpu, Some(8 << 10), &weights, &x);
    assert_eq!(whole, cut);
    for (weight, found) in weights.iter().zip(&whole) {
        let mut wanted = vec![0.0; tokens * rows];
        matmul(&Cpu::with_isa(Isa::Scalar), &x, weight, &mut wanted);
        // Weights are below .05, their sum over the inputs below 2.
        let bound = vec![15.0 * f32::EPSILON * 2.0; wanted.len()];
        assert_within("product for calibration", found, &wanted, &bound);
    }
}

fn moments(gpu: &Arc<Gpu>, limit: Option<u64>, n: usize, calls: &[&[f32]]) -> Vec<u8> {
    let calibrator = Calibrator::new(Arc::clone(gpu), limit).unwrap();
    let mut moments = calibrator.moments(n).unwrap();
    let mut all = Vec::new();
    for _ in 0..2 {
        // The second round shows that sums start from zero again.
        all.clear();
        for x in calls {
            moments.add(x).unwrap();
        }
        moments
            .take(&mut |sums| {
                let rows = sums.bytes.chunks(4 * sums.stride).enumerate();
                rows.for_each(|(r, row)| {
                    all.extend_from_slice(&row[..4 * (sums.first_row + r + 1)]);
                });
            })
            .unwrap();
    }
    all
}

#[test]
fn second_moments_do_not_depend_on_the_cut() {
    let Some(gpu) = gpu("second moments for calibration") else {
        return;
    };
    let n = 150;
    let x = random(6, 700 * n, 1.0);
    let calls = [&x[..600 * n], &x[600 * n..]];
    let whole = moments(&gpu, None, n, &calls);
    assert_eq!(whole.len(), 4 * n * (n + 1) / 2);
    // 256 tokens at a time; one tile, then two, in a binding each.
    let cut = moments(&gpu, Some(4 * 256 * 160), n, &calls);
    assert_eq!(whole, cut);
    let e = moments_of_width(&gpu, 4 * 64 * 64, n);
    assert_eq!(e.code, Code::Unsupported, "{e}");
}

fn moments_of_width(gpu: &Arc<Gpu>, limit: u64, n: usize) -> crate::error::Error {
    let calibrator = Calibrator::new(Arc::clone(gpu), Some(limit)).unwrap();
    calibrator.moments(n).unwrap_err()
}

#[test]
fn a_lost_device_is_said_by_everything() {
    let Some(gpu) = gpu("calibration on a lost device") else {
        return;
    };
    let calibrator = Calibrator::new(Arc::clone(&gpu), None).unwrap();
    let block = calibrator.block().unwrap();
    let mut moments = calibrator.moments(8).unwrap();
    gpu.destroy();
    let weight = &weights(8, 32)[0];
    let (x, mut y) = (vec![1.0; 32], vec![0.0; 8]);
    let mut outputs = [Output {
        part: Part::Q,
        weight,
        y: &mut y,
    }];
    let e = block.run(&Cpu::single(), &x, &mut outputs).unwrap_err();
    assert_eq!(e.code, Code::DeviceLost, "{e}");
    let added = moments.add(&x).and_then(|()| moments.take(&mut |_| {}));
    assert_eq!(added.unwrap_err().code, Code::DeviceLost);
    assert_eq!(calibrator.block().unwrap_err().code, Code::DeviceLost);
}
