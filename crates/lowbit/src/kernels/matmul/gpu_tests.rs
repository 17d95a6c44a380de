//! Products on the GPU against the specification, in both forms of every kind of matrix.

use super::*;
use crate::cpu::{Compute, Cpu, Isa};
use crate::error::Code;
use crate::gpu::testing::{Bench, assert_within, device};
use crate::gpu::{GpuOptions, align};
use crate::kernels::matmul::{Weight, matmul};
use crate::kernels::testing::random;
use crate::matrix::{Codes, Floats, Integer, QuantizedMatrix, Scales, Values, Zero};
use crate::model::Stored;
use crate::pack::{words_from_codes, words_len};
use crate::tensor::{Dtype, Tensor, bytes_from_f32};

/// Codes of a prime period, so that swapped blocks cannot cancel out.
fn quantized(rows: usize, cols: usize, bits: u8, group: usize, zero: bool) -> QuantizedMatrix {
    let code = |i: usize| ((i * 7 + i / 251) % 251 % (1 << bits)) as u8;
    let codes: Vec<u8> = (0..rows * cols).map(code).collect();
    let groups = rows * (cols / group);
    let dtype = [Dtype::F32, Dtype::F16, Dtype::BF16][rows % 3];
    let mut scales = random(rows as u64, groups, 0.02);
    scales[0] = 0.0;
    if groups > 2 {
        scales[1] = 6.0e-8; // the smallest of f16
        scales[2] = 65504.0; // the largest of f16
    }
    let zeros = (0..groups).map(|g| (g * 5 % (1 << bits)) as u8).collect();
    QuantizedMatrix {
        rows,
        cols,
        inputs: None,
        values: Values::Integer(Integer {
            codes: Codes {
                bits,
                row_words: words_len(cols, bits),
                words: codes
                    .chunks(cols)
                    .flat_map(|c| words_from_codes(c, bits))
                    .collect(),
            },
            group,
            scales: Scales::Flat(Floats::from_f32(dtype, &scales).unwrap()),
            zero: if zero { Zero::Int(zeros) } else { Zero::Centre },
            group_of_col: None,
        }),
    }
}

fn permuted(mut m: QuantizedMatrix) -> QuantizedMatrix {
    let Values::Integer(integer) = &mut m.values else {
        unreachable!()
    };
    let groups = (m.cols / integer.group) as u32;
    integer.group_of_col = Some((0..m.cols as u32).map(|j| j % groups).collect());
    m
}

fn dense(rows: usize, cols: usize, dtype: Dtype) -> Tensor {
    let mut values = random((rows * cols) as u64, rows * cols, 0.05);
    values[0] = 3.0e-6; // below the normal range of f16
    Tensor {
        name: "w".into(),
        dtype,
        shape: vec![rows, cols],
        bytes: bytes_from_f32(dtype, &values).unwrap(),
    }
}

fn weight_row(stored: &Stored, row: usize, out: &mut [f32]) {
    match stored {
        Stored::Quantized(m) => m.dequantize_row(row, out).unwrap(),
        Stored::Dense(t) => {
            let all = t.view().unwrap().to_f32().unwrap();
            out.copy_from_slice(&all[row * out.len()..][..out.len()]);
        }
    }
}

/// `(log₂ cols + 8) · ε · (Σ|x·w| + |bias| + |what is added to|)`.
fn bounds(stored: &Stored, x: &[f32], cols: usize, rows: usize) -> Vec<f32> {
    let c = ((cols as f32).log2() + 8.0) * f32::EPSILON;
    let mut w = vec![0.0; cols];
    let mut bounds = vec![0.0; x.len() / cols * rows];
    for r in 0..rows {
        weight_row(stored, r, &mut w);
        for (t, x) in x.chunks(cols).enumerate() {
            let size: f32 = x.iter().zip(&w).map(|(a, b)| (a * b).abs()).sum();
            bounds[t * rows + r] = c * (size + 2.0);
        }
    }
    bounds
}

/// Both forms on a device, with bias and accumulation, against the scalar f32 mode.
fn check(bench: &Bench, name: &str, stored: &Stored, tokens: usize) {
    let cpu = Cpu::with_isa(Isa::Scalar);
    let weight = match stored {
        Stored::Dense(t) => Weight::dense(t.view().unwrap()).unwrap(),
        Stored::Quantized(m) => Weight::packed(m, Compute::F32, Isa::Scalar).unwrap(),
    };
    let (rows, cols) = (weight.rows(), weight.cols());
    let x = random(tokens as u64, tokens * cols, 1.0);
    let before = random(4, tokens * rows, 1.0);
    let bias = random(5, rows, 1.0);
    let mut wanted = vec![0.0; tokens * rows];
    matmul(&cpu, &x, &weight, &mut wanted);
    let added = before.iter().zip(bias.iter().cycle());
    for (y, (b, c)) in wanted.iter_mut().zip(added) {
        *y = ((f64::from(*y) + f64::from(*c)) + f64::from(*b)) as f32;
    }
    let matrix = Matrix::upload(&bench.gpu, stored, Some(&bias)).unwrap();
    let input = bench.input(&x, cols, align(cols));
    let now = bench.now(tokens, 0, 0);
    for form in [0, 1] {
        let stride = align(rows);
        let output = bench.guarded(&before, rows, stride);
        let io = Io {
            from: &input,
            from_stride: align(cols),
            to: &output,
            to_stride: stride,
            accumulate: true,
        };
        let gathered = |width: usize| bench.gpu.storage("gathered", (tokens * width * 4) as u64);
        let product = Product::new(&bench.gpu, &matrix, &now, io, gathered).unwrap();
        let found = bench.run(&output, rows, stride, |p| {
            product.forced(p, tokens as u32, form);
        });
        let name = format!(
            "{name} {rows}×{cols} m={tokens} {}",
            ["vector", "matrix"][form]
        );
        assert_within(&name, &found, &wanted, &bounds(stored, &x, cols, rows));
    }
}

/// Rows, columns and group, paired rather than crossed; −1, 0, +1 around tiles and blocks.
const SHAPES: &[(usize, usize, usize)] = &[
    (1, 1, 1),
    (2, 7, 7),
    (3, 8, 8),
    (7, 31, 31),
    (9, 32, 32),
    (31, 33, 11),
    (33, 64, 16),
    (63, 127, 127),
    (64, 128, 128),
    (65, 256, 64),
    (129, 96, 24),
    (257, 384, 128),
    (8, 4096, 128),
];

#[test]
fn codes_are_within_the_bound() {
    let Some(bench) = Bench::new("matmul of codes") else {
        return;
    };
    for (i, (rows, cols, group)) in SHAPES.iter().enumerate() {
        let bits = [4, 8, 3, 2][i % 4];
        let tokens = [1, 2, 5, 33][i % 4 / 2 * 2 + i % 2];
        for (bits, zero) in [(4, i % 2 == 0), (bits, i % 2 == 1)] {
            let m = quantized(*rows, *cols, bits, *group, zero);
            let name = format!("w{bits}g{group}{}", if zero { "-asym" } else { "" });
            check(&bench, &name, &Stored::Quantized(m), tokens);
        }
    }
}

#[test]
fn permuted_inputs_are_within_the_bound() {
    let Some(bench) = Bench::new("matmul of permuted codes") else {
        return;
    };
    for (cols, group) in [(128, 32), (96, 12), (256, 128)] {
        let m = permuted(quantized(17, cols, 4, group, true));
        check(
            &bench,
            &format!("permuted w4g{group}"),
            &Stored::Quantized(m),
            3,
        );
    }
}

#[test]
fn floats_are_within_the_bound() {
    let Some(bench) = Bench::new("matmul of floats") else {
        return;
    };
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        for (rows, cols, tokens) in [(1, 1, 1), (5, 33, 2), (65, 257, 33), (129, 128, 5)] {
            let t = dense(rows, cols, dtype);
            check(&bench, dtype.name(), &Stored::Dense(t), tokens);
        }
    }
}

#[test]
fn matrices_are_cut_at_the_binding_limit() {
    let options = GpuOptions {
        max_binding: Some(1 << 14),
    };
    let Some(gpu) = device("matmul in parts", &options) else {
        return;
    };
    let bench = Bench { gpu };
    let m = quantized(200, 256, 4, 64, true);
    let matrix = Matrix::upload(&bench.gpu, &Stored::Quantized(m.clone()), None).unwrap();
    assert_eq!(matrix.parts.len(), 2);
    check(&bench, "cut w4g64", &Stored::Quantized(m), 5);
    check(
        &bench,
        "cut bf16",
        &Stored::Dense(dense(99, 256, Dtype::BF16)),
        2,
    );
    let wide = Stored::Dense(dense(1, 5000, Dtype::F32));
    let e = Matrix::upload(&bench.gpu, &wide, None).unwrap_err();
    assert_eq!(e.code, Code::Unsupported);
}
