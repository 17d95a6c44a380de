//! Products with many tokens against the specification, in every type of float.

use super::DenseRows;
use crate::cpu::{Cpu, Isa};
use crate::gpu::testing::{Bench, assert_within};
use crate::gpu::{align, bytes_from_f32 as plain};
use crate::kernels::matmul::{Weight, matmul};
use crate::kernels::testing::random;
use crate::tensor::{Dtype, TensorRef, bytes_from_f32, f32_from};

/// What must stay as it is.
const SENTINEL: f32 = -12345.5;
/// Outputs before and behind those that are asked for.
const BEFORE: usize = 3;
const BEHIND: usize = 4;

/// `(log₂ cols + 8) · ε · Σ|x·w|`.
fn bounds(w: &[f32], x: &[f32], cols: usize) -> Vec<f32> {
    let c = ((cols as f32).log2() + 8.0) * f32::EPSILON;
    let size = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(a, b)| (a * b).abs()).sum::<f32>();
    x.chunks(cols)
        .flat_map(|x| w.chunks(cols).map(move |w| c * size(x, w)))
        .collect()
}

fn check(bench: &Bench, dtype: Dtype, rows: usize, cols: usize, tokens: usize) {
    let gpu = &bench.gpu;
    let mut values = random((rows * cols) as u64, rows * cols, 0.05);
    values[0] = 3.0e-6; // below the normal range of f16
    let bytes = bytes_from_f32(dtype, &values).unwrap();
    f32_from(dtype, &bytes, &mut values).unwrap();
    let weight = Weight::dense(TensorRef::new(dtype, &[rows, cols], &bytes).unwrap()).unwrap();
    let x = random(tokens as u64, tokens * cols, 1.0);
    let mut wanted = vec![0.0; tokens * rows];
    matmul(&Cpu::with_isa(Isa::Scalar), &x, &weight, &mut wanted);

    let (value, kind) = match dtype {
        Dtype::F16 => (2, 1),
        Dtype::BF16 => (2, 2),
        _ => (4, 0),
    };
    let mut padded = vec![0u8; rows * align(cols) * value];
    for (r, row) in padded.chunks_mut(align(cols) * value).enumerate() {
        weight.row_bytes(r, &mut row[..cols * value]);
    }
    let weights = gpu.upload("weights", &padded).unwrap();
    let all = BEFORE + rows + BEHIND;
    let part = DenseRows::new(gpu, weights, kind, [BEFORE, rows, all, cols]).unwrap();
    let input = bench.input(&x, cols, align(cols));
    // One token more than the kernel is told of.
    let guarded = plain(&vec![SENTINEL; (tokens + 1) * all]);
    let output = gpu.upload("outputs", &guarded).unwrap();
    let now = bench.now(tokens, 0, 0);
    let found = bench.bytes(&output, |pass| {
        let product = part.product(gpu, &now, [&input, &output]);
        product.record(pass, tokens as u32);
    });
    let found: Vec<f32> = crate::gpu::f32_from_bytes(&found);
    let (mut inside, mut outside) = (Vec::new(), Vec::<f32>::new());
    for (t, row) in found[..(tokens + 1) * all].chunks(all).enumerate() {
        let kept = if t < tokens {
            BEFORE..BEFORE + rows
        } else {
            0..0
        };
        outside.extend(row[..kept.start].iter().chain(&row[kept.end..]));
        inside.extend_from_slice(&row[kept]);
    }
    assert!(outside.iter().all(|v| *v == SENTINEL), "a stray write");
    let name = format!("many {} {rows}×{cols} m={tokens}", dtype.name());
    assert_within(&name, &inside, &wanted, &bounds(&values, &x, cols));
}

#[test]
fn many_tokens_are_within_the_bound() {
    let Some(bench) = Bench::new("matmul of many tokens") else {
        return;
    };
    let dtypes = [Dtype::F32, Dtype::F16, Dtype::BF16];
    for (i, (rows, cols, tokens)) in [
        (1, 1, 1),
        (5, 33, 2),
        (63, 15, 130),
        (64, 64, 64),
        (65, 257, 63),
        (129, 128, 65),
        (66, 272, 7),
        (3, 4096, 5),
    ]
    .into_iter()
    .enumerate()
    {
        check(&bench, dtypes[i % 3], rows, cols, tokens);
        check(&bench, dtypes[(i + 1) % 3], rows, cols, tokens);
    }
}
