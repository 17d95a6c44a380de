//! Products on each instruction set against `scalar.rs`.

use super::{Weight, gemm_sub, gram, matmul};
use crate::cpu::{Compute, Cpu, Isa};
use crate::kernels::conformance::{assert_close, everywhere, relative};
use crate::kernels::shapes::{GROUPS, Random, products};
use crate::matrix::{Codes, Floats, Integer, QuantizedMatrix, Scales, Values, Zero};
use crate::pack::{words_from_codes, words_len};
use crate::tensor::{Dtype, TensorRef, bytes_from_f32};

/// Σ|x·w| for each output, from the weight's rows.
fn magnitudes(x: &[f32], w: &Weight) -> Vec<f64> {
    let (rows, cols) = (w.rows(), w.cols());
    let mut out = vec![0.0; x.len() / cols * rows];
    let mut row = vec![0.0; cols];
    for r in 0..rows {
        w.row(r, &mut row).unwrap();
        for (m, x) in x.chunks_exact(cols).enumerate() {
            let products = x
                .iter()
                .zip(&row)
                .map(|(a, b)| (f64::from(*a) * f64::from(*b)).abs());
            out[m * rows + r] = products.sum();
        }
    }
    out
}

/// The product on `isa` with one and with two threads, which must agree, as must each row alone.
pub(super) fn product(isa: Isa, x: &[f32], w: &Weight, what: &str) -> Vec<f32> {
    let (rows, cols) = (w.rows(), w.cols());
    let mut y = vec![f32::NAN; x.len() / cols * rows];
    matmul(&Cpu::with_isa(isa), x, w, &mut y);
    let mut again = vec![f32::NAN; y.len()];
    matmul(&Cpu::new(isa, 2).unwrap(), x, w, &mut again);
    assert_eq!(y, again, "{what}: two threads");
    for (m, x) in x.chunks_exact(cols).enumerate() {
        let mut alone = vec![f32::NAN; rows];
        matmul(&Cpu::with_isa(isa), x, w, &mut alone);
        assert_eq!(alone, y[m * rows..][..rows], "{what}: row {m} alone");
    }
    y
}

pub(super) fn check_f32(isa: Isa, x: &[f32], w: &Weight, what: &str) {
    let found = product(isa, x, w, what);
    let wanted = product(Isa::Scalar, x, w, what);
    let magnitudes = magnitudes(x, w);
    assert_close(what, &found, &wanted, |i| {
        relative(w.cols()) * magnitudes[i]
    });
}

/// Dense matrices of every stored type.
fn dense(isa: Isa) {
    let mut random = Random(1);
    for (m, rows, cols) in products() {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            let bytes = bytes_from_f32(dtype, &random.values(rows * cols)).unwrap();
            let tensor = TensorRef::new(dtype, &[rows, cols], &bytes).map(Weight::dense);
            let x = random.values(m * cols);
            check_f32(
                isa,
                &x,
                &tensor.unwrap().unwrap(),
                &format!("{dtype:?} {m}×{rows}×{cols}"),
            );
        }
    }
}

/// Scales with the edges of f16 among them.
fn scales(random: &mut Random, n: usize) -> Vec<f32> {
    let edges = [0.0, 6e-8, 65504.0, 1e-5];
    let usual = |r: &mut Random| 0.01 + r.signed().abs();
    (0..n)
        .map(|i| {
            if i % 11 == 10 {
                edges[i / 11 % 4]
            } else {
                usual(random)
            }
        })
        .collect()
}

/// A matrix of random codes; `kind` chooses the zeros, `shuffled` the order of columns.
fn quantized(
    random: &mut Random,
    (rows, groups, group): (usize, usize, usize),
    bits: u8,
    kind: usize,
    shuffled: bool,
) -> QuantizedMatrix {
    let cols = groups * group;
    let codes: Vec<u8> = (0..rows * cols)
        .map(|_| (random.bits() >> (32 - u32::from(bits))) as u8)
        .collect();
    let dtype = [Dtype::F16, Dtype::BF16, Dtype::F32][kind % 3];
    let values = scales(random, rows * groups);
    let floats = Floats::from_f32(dtype, &values).unwrap();
    let small: Vec<f32> = (0..rows * groups).map(|_| random.signed()).collect();
    let small = Floats::from_f32(dtype, &small).unwrap();
    let zero = match kind {
        0 => Zero::Centre,
        1 => Zero::Int(
            (0..rows * groups)
                .map(|_| (random.bits() >> (32 - u32::from(bits))) as u8)
                .collect(),
        ),
        2 => Zero::Min(small),
        _ => Zero::Float(small),
    };
    let values = Values::Integer(Integer {
        codes: Codes {
            bits,
            row_words: words_len(cols, bits),
            words: codes
                .chunks(cols)
                .flat_map(|c| words_from_codes(c, bits))
                .collect(),
        },
        group,
        scales: Scales::Flat(floats),
        zero,
        group_of_col: shuffled.then(|| (0..cols).map(|j| (j % groups) as u32).collect()),
    });
    QuantizedMatrix {
        rows,
        cols,
        values,
        inputs: None,
    }
}

/// Runs `check(inputs, matrix, description)` over groups, bits and zeros.
fn for_quantized(kinds: usize, check: impl Fn(&[f32], &QuantizedMatrix, &str)) {
    let mut random = Random(2);
    let mut turn = 0;
    for shape in GROUPS.into_iter().chain([(2048, 44, 128)]) {
        for bits in [2, 3, 4, 8] {
            for kind in 0..kinds {
                turn += 1;
                let matrix = quantized(&mut random, shape, bits, kind, turn % 2 == 0);
                let m = if shape.0 > 1000 {
                    1
                } else {
                    [1, 2, 3, 4, 6, 7, 13, 25][turn % 8]
                };
                let x = random.values(m * matrix.cols);
                check(
                    &x,
                    &matrix,
                    &format!("{bits} bits, zero {kind}, m {m}, {shape:?}"),
                );
                if shape.0 > 1000 {
                    return;
                }
            }
        }
    }
}

/// Packed matrices in f32 mode.
fn packed_f32(isa: Isa) {
    for_quantized(4, |x, matrix, what| {
        let w = Weight::packed(matrix, Compute::F32, isa).unwrap();
        check_f32(isa, x, &w, what);
    });
}

/// Packed matrices in int8 mode: equal bits.
fn packed_int8(isa: Isa) {
    for_quantized(3, |x, matrix, what| {
        let w = Weight::packed(matrix, Compute::Int8, isa).unwrap();
        let found = product(isa, x, &w, what);
        assert_eq!(found, product(Isa::Scalar, x, &w, what), "{what}");
    });
}

/// Codes and inputs at their extremes, where a saturating instruction would show.
fn extremes_int8(isa: Isa) {
    for (bits, code) in [(4, 0u8), (4, 15), (8, 0), (8, 255)] {
        for sign in [1.0, -1.0] {
            let mut matrix = quantized(&mut Random(3), (40, 2, 128), bits, 0, false);
            if let Values::Integer(m) = &mut matrix.values {
                m.codes.words =
                    vec![if bits == 4 { 0x1111_1111 } else { 0x0101_0101 }; m.codes.words.len()];
                m.codes.words.iter_mut().for_each(|w| *w *= u32::from(code));
            }
            let w = Weight::packed(&matrix, Compute::Int8, isa).unwrap();
            let x = vec![sign; 3 * 256];
            let what = format!("{bits} bits, all {code}, inputs {sign}");
            assert_eq!(
                product(isa, &x, &w, &what),
                product(Isa::Scalar, &x, &w, &what),
                "{what}"
            );
        }
    }
}

/// `xᵀ · x`, added to what is there; the upper triangle stays.
fn gram_case(isa: Isa) {
    let mut random = Random(4);
    for (samples, n) in [
        (1, 1),
        (2, 3),
        (7, 16),
        (33, 17),
        (257, 31),
        (600, 33),
        (129, 129),
        (513, 65),
    ] {
        let x = random.values(samples * n);
        let before = random.values(n * n);
        let mut wanted = before.clone();
        gram(&Cpu::with_isa(Isa::Scalar), &x, n, &mut wanted);
        let mut found = before.clone();
        gram(&Cpu::new(isa, 2).unwrap(), &x, n, &mut found);
        let absolute: Vec<f32> = x.iter().map(|v| v.abs()).collect();
        let mut magnitude = before.iter().map(|v| v.abs()).collect::<Vec<_>>();
        gram(&Cpu::with_isa(Isa::Scalar), &absolute, n, &mut magnitude);
        assert_close(&format!("gram {samples}×{n}"), &found, &wanted, |i| {
            if i % n > i / n {
                0.0
            } else {
                relative(samples) * f64::from(magnitude[i])
            }
        });
        let mut single = before;
        gram(&Cpu::with_isa(isa), &x, n, &mut single);
        assert_eq!(found, single, "gram {samples}×{n}: one thread");
    }
}

/// `c −= a · b` inside a wider matrix, whose other columns stay.
fn gemm_sub_case(isa: Isa) {
    let mut random = Random(5);
    for (m, k, n) in [
        (1, 1, 1),
        (3, 2, 7),
        (16, 128, 33),
        (31, 129, 16),
        (130, 300, 50),
    ] {
        let stride = n + 5;
        let (a, b) = (random.values(m * k), random.values(k * n));
        let before = random.values(m * stride);
        let (mut wanted, mut found) = (before.clone(), before);
        gemm_sub(&Cpu::with_isa(Isa::Scalar), &a, &b, n, &mut wanted, stride);
        gemm_sub(&Cpu::new(isa, 2).unwrap(), &a, &b, n, &mut found, stride);
        let bound = relative(k) * (k as f64 + 1.0);
        assert_close(&format!("gemm_sub {m}×{k}×{n}"), &found, &wanted, |i| {
            if i % stride < n { bound } else { 0.0 }
        });
    }
}

#[test]
fn dense_products_conform() {
    everywhere(dense);
}

#[test]
fn packed_products_conform() {
    everywhere(packed_f32);
}

#[test]
fn int8_products_equal_their_specification() {
    everywhere(packed_int8);
    everywhere(extremes_int8);
}

#[test]
fn gram_conforms() {
    everywhere(gram_case);
}

#[test]
fn gemm_sub_conforms() {
    everywhere(gemm_sub_case);
}
