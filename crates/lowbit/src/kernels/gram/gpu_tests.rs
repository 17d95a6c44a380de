//! Second moments against the specification.

use super::GramRows;
use crate::gpu::testing::{Bench, assert_within};
use crate::gpu::{align, bytes_from_f32, f32_from_bytes};
use crate::kernels::matmul::scalar;
use crate::kernels::testing::random;

/// What must stay as it is.
const SENTINEL: f32 = -12345.5;

/// The sums before, tile for tile: values in the lower triangle, sentinels in tiles that lie above
/// the diagonal and in one more row.
fn before(rows: &GramRows, values: &[f32], n: usize) -> Vec<f32> {
    let mut all = vec![SENTINEL; (rows.rows + 1) * rows.stride];
    for (r, row) in all.chunks_mut(rows.stride).enumerate().take(rows.rows) {
        let i = rows.first_row + r;
        let tiles = (i / super::SIDE + 1) * super::SIDE;
        row[..tiles].fill(0.0);
        row[..=i].copy_from_slice(&values[i * n..=i * n + i]);
    }
    all
}

fn check(bench: &Bench, n: usize, tokens: usize, first: usize) {
    let gpu = &bench.gpu;
    let x = random((n * tokens) as u64, n * tokens, 1.0);
    let start = random(7, n * n, 1.0);
    let mut wanted = start.clone();
    scalar::gram(&x, n, &mut wanted);
    let mut size = vec![0.0; n * n];
    let absolute: Vec<f32> = x.iter().map(|v| v.abs()).collect();
    scalar::gram(&absolute, n, &mut size);

    let mut rows = GramRows::new(gpu, first, n - first, n).unwrap();
    let all = before(&rows, &start, n);
    rows.sums = gpu.upload("sums", &bytes_from_f32(&all)).unwrap();
    let input = bench.input(&x, n, align(n));
    let now = bench.now(tokens, 0, 0);
    let found = bench.bytes(&rows.sums, |pass| {
        rows.add(gpu, &now, &input).record(pass, 1);
    });
    let found = f32_from_bytes(&found);
    let c = ((tokens as f32).log2() + 8.0) * f32::EPSILON;
    let (mut got, mut want, mut bound) = (Vec::new(), Vec::new(), Vec::new());
    for (r, (row, earlier)) in (found.chunks(rows.stride))
        .zip(all.chunks(rows.stride))
        .enumerate()
    {
        let i = first + r;
        for (j, (v, earlier)) in row.iter().zip(earlier).enumerate() {
            if *earlier == SENTINEL {
                assert_eq!(*v, SENTINEL, "a stray write to {i}, {j}");
            } else if j <= i {
                got.push(*v);
                want.push(wanted[i * n + j]);
                bound.push(c * (size[i * n + j] + 1.0));
            }
        }
    }
    let name = format!("gram n={n} m={tokens} from row {first}");
    assert_within(&name, &got, &want, &bound);
}

#[test]
fn second_moments_are_within_the_bound() {
    let Some(bench) = Bench::new("second moments") else {
        return;
    };
    for (n, tokens, first) in [
        (1, 1, 0),
        (31, 15, 0),
        (64, 16, 0),
        (65, 17, 0),
        (63, 255, 0),
        (130, 257, 0),
        (130, 33, 64),
        (200, 600, 128),
    ] {
        check(&bench, n, tokens, first);
    }
}
