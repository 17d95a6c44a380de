//! Weights, inputs and their Hessian for the tests of rounders.

use super::RoundOptions;
use super::factor::{Factor, Factored, Factoring};
use super::gptq::{Extra, GptqOptions, Order, Quality, Rounding};
use super::hessian::Hessian;
use super::observer::Observer;
use crate::cpu::Cpu;
use crate::kernels::matmul::Weight;
use crate::matrix::QuantizedMatrix;
use crate::tensor::{Dtype, TensorRef};

/// Seeded values in −1..1.
pub(super) fn noise(seed: u32, len: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Inputs whose columns are correlated and differ in size; columns in `dead` are zero.
pub(super) fn inputs(tokens: usize, n: usize, dead: &[usize]) -> Vec<f32> {
    let raw = noise(7, tokens * n);
    let mut x = vec![0.0f32; tokens * n];
    for t in 0..tokens {
        for j in 0..n {
            let shared = raw[t * n + j / 4 * 4];
            let size = 0.2 + (j * 37 % 11) as f32 / 5.0;
            if !dead.contains(&j) {
                x[t * n + j] = size * (0.6 * shared + 0.4 * raw[t * n + j]);
            }
        }
    }
    x
}

pub(super) fn options(order: Order) -> RoundOptions {
    RoundOptions {
        observer: Observer::MinMax,
        scale_dtype: Dtype::F32,
        gptq: GptqOptions {
            order,
            refine: 0,
            ..GptqOptions::default()
        },
    }
}

pub(super) fn hessian(cpu: &Cpu, x: &[f32], n: usize) -> Hessian {
    let mut h = Hessian::new(n);
    x.chunks(100 * n).for_each(|part| h.add(cpu, part));
    h.finish(cpu);
    h
}

pub(super) fn factor(cpu: &Cpu, h: &Hessian, order: Order) -> Factor {
    finished(cpu, h, Factoring::new(h, order, 0.01))
}

pub(super) fn finished(cpu: &Cpu, h: &Hessian, mut factoring: Factoring) -> Factor {
    loop {
        match factoring.step(cpu, h) {
            None => {}
            Some(Factored::Ready(f)) => return f,
            Some(Factored::Failed(why)) => panic!("{why}"),
        }
    }
}

pub(super) fn gptq(
    cpu: &Cpu,
    w: &[f32],
    shape: (usize, usize),
    scheme: &str,
    (h, order): (&Hessian, Order),
) -> (QuantizedMatrix, Quality) {
    let f = factor(cpu, h, order);
    gptq_with(
        cpu,
        w,
        shape,
        (scheme, options(order), Extra::default()),
        &f,
    )
}

/// The weights `[rows, cols]` as a job hands them over.
pub(super) fn weight(w: &[f32], rows: usize, cols: usize) -> Weight {
    let bytes: Vec<u8> = w.iter().flat_map(|v| v.to_le_bytes()).collect();
    let shape = [rows, cols];
    Weight::dense(TensorRef::new(Dtype::F32, &shape, &bytes).unwrap()).unwrap()
}

/// GPTQ with all that it can be told.
pub(super) fn gptq_with(
    cpu: &Cpu,
    w: &[f32],
    (rows, cols): (usize, usize),
    (scheme, options, extra): (&str, RoundOptions, Extra),
    f: &Factor,
) -> (QuantizedMatrix, Quality) {
    let mut r = Rounding::new(rows, cols, scheme.parse().unwrap(), options, extra).unwrap();
    let weight = weight(w, rows, cols);
    while !r.step(cpu, &weight, f) {}
    r.finish(f).unwrap()
}

pub(super) fn dense(m: &QuantizedMatrix) -> Vec<f32> {
    let mut out = vec![0.0; m.rows * m.cols];
    for (r, row) in out.chunks_mut(m.cols).enumerate() {
        m.dequantize_row(r, row).unwrap();
    }
    out
}

/// H of the inputs, f64.
pub(super) fn exact_hessian(x: &[f32], n: usize) -> Vec<f64> {
    let mut h = vec![0.0f64; n * n];
    for row in x.chunks(n) {
        for i in 0..n {
            for j in 0..n {
                h[i * n + j] += f64::from(row[i]) * f64::from(row[j]);
            }
        }
    }
    let scale = 2.0 / (x.len() / n) as f64;
    for v in &mut h {
        *v *= scale;
    }
    h
}

/// Inverse by Gauss and Jordan.
pub(super) fn inverse(a: &[f64], n: usize) -> Vec<f64> {
    let mut m = a.to_vec();
    let mut inv: Vec<f64> = (0..n * n)
        .map(|p| f64::from(u8::from(p / n == p % n)))
        .collect();
    for k in 0..n {
        let pivot = m[k * n + k];
        for j in 0..n {
            m[k * n + j] /= pivot;
            inv[k * n + j] /= pivot;
        }
        for i in (0..n).filter(|i| *i != k) {
            let f = m[i * n + k];
            for j in 0..n {
                m[i * n + j] -= f * m[k * n + j];
                inv[i * n + j] -= f * inv[k * n + j];
            }
        }
    }
    inv
}

/// `Σ (w − q)ᵀ·H·(w − q)` without damping.
pub(super) fn output_error(w: &[f32], q: &[f32], h: &[f64], n: usize) -> f64 {
    let mut sum = 0.0;
    for (w, q) in w.chunks(n).zip(q.chunks(n)) {
        let d: Vec<f64> = w.iter().zip(q).map(|(a, b)| f64::from(a - b)).collect();
        for i in 0..n {
            sum += d[i] * (0..n).map(|j| h[i * n + j] * d[j]).sum::<f64>();
        }
    }
    sum
}
