//! Pruning against its definitions, and SparseGPT against the paper's loop in f64.

use super::gptq::Order;
use super::prune::{Criterion, Pruning, SparseGpt, by_magnitude, by_wanda};
use super::testing::{
    exact_hessian, factor, hessian, inputs, inverse, noise, output_error, weight,
};
use crate::cpu::{Cpu, Isa};
use crate::error::Code;

fn pruning(method: &str, sparsity: f64, pattern: Option<(usize, usize)>) -> Pruning {
    Pruning::new(method, sparsity, pattern).unwrap()
}

#[test]
fn options_are_checked() {
    let what = |method: &str, sparsity, pattern| {
        let error = Pruning::new(method, sparsity, pattern).unwrap_err();
        assert_eq!(error.code, Code::Option);
        error.what
    };
    assert_eq!(what("wand", 0.5, None), "unknown pruning method \"wand\"");
    assert_eq!(what("wanda", 1.0, None), "sparsity is 1");
    assert_eq!(what("wanda", f64::NAN, None), "sparsity is NaN");
    assert_eq!(
        what("wanda", 0.5, Some((4, 4))),
        "pattern 4:4 keeps nothing or everything"
    );
    let semi = pruning("sparsegpt", 0.9, Some((1, 4)));
    assert_eq!(
        (semi.sparsity, semi.criterion),
        (0.25, Criterion::SparseGpt)
    );
}

#[test]
fn the_least_magnitudes_go() {
    let values = [0.1, -0.2, 0.3, 0.2, -0.05, 4.0];
    let mask = by_magnitude(&values, 2, 3, &pruning("magnitude", 0.5, None));
    let kept: Vec<bool> = (0..6).map(|i| mask.keeps(i / 3, i % 3)).collect();
    assert_eq!(kept, [false, false, true, true, false, true]);
    let whole = by_magnitude(&values, 2, 3, &pruning("magnitude", 0.0, None));
    assert_eq!(whole.kept(), 6);
}

#[test]
fn wanda_looks_at_inputs_and_at_each_row() {
    let values = [1.0, 2.0, 3.0, 4.0, 8.0, 1.0, 1.0, 1.0];
    let rms = [8.0, 1.0, 1.0, 1.0];
    let mask = by_wanda(&values, 2, 4, &rms, &pruning("wanda", 0.5, None));
    let kept: Vec<bool> = (0..8).map(|i| mask.keeps(i / 4, i % 4)).collect();
    assert_eq!(kept, [true, false, false, true, true, false, false, true]);
}

#[test]
fn patterns_hold_in_every_run() {
    for cols in [1, 3, 4, 31, 64, 127] {
        let rows = 33;
        let (w, rms) = (noise(9, rows * cols), vec![1.0; cols]);
        let two_of_four = pruning("wanda", 0.5, Some((2, 4)));
        let masks = [
            by_magnitude(&w, rows, cols, &two_of_four),
            by_wanda(&w, rows, cols, &rms, &two_of_four),
        ];
        assert_eq!(masks[0], masks[1]);
        for (row, run) in (0..rows).flat_map(|r| (0..cols / 4).map(move |c| (r, c))) {
            let kept = (0..4).filter(|k| masks[0].keeps(row, run * 4 + k)).count();
            assert_eq!(kept, 2, "row {row}, run {run} of {cols}");
        }
    }
}

fn sparse_gpt(
    cpu: &Cpu,
    w: &[f32],
    x: &[f32],
    n: usize,
    (order, pruning): (Order, &Pruning),
) -> (Vec<f32>, super::mask::Mask) {
    let h = hessian(cpu, x, n);
    let f = factor(cpu, &h, order);
    let rows = w.len() / n;
    let mut run = SparseGpt::new(rows, n, pruning);
    let weight = weight(w, rows, n);
    while !run.step(cpu, &weight, &f) {}
    run.finish(&f).unwrap()
}

/// The paper's loop over the columns of one block, 2:4, with explicit inverses.
fn paper(w: &[f32], n: usize, h: &[f64]) -> Vec<f64> {
    let mean = (0..n).map(|i| h[i * n + i]).sum::<f64>() / n as f64;
    let mut left: Vec<f64> = w.iter().map(|v| f64::from(*v)).collect();
    let mut pruned = vec![false; w.len()];
    for c in 0..n {
        let m = n - c;
        let sub: Vec<f64> = (c..n)
            .flat_map(|i| (c..n).map(move |j| (i, j)))
            .map(|(i, j)| h[i * n + j] + if i == j { 0.01 * mean } else { 0.0 })
            .collect();
        let inv = inverse(&sub, m);
        for r in 0..w.len() / n {
            if c % 4 == 0 {
                let mut scores: Vec<_> = (c..c + 4)
                    .map(|k| (left[r * n + k].powi(2) / own_variance(h, n, k, mean), k))
                    .collect();
                scores.sort_by(|a, b| a.0.total_cmp(&b.0));
                for (_, k) in &scores[..2] {
                    pruned[r * n + k] = true;
                }
            }
            let at = r * n + c;
            if pruned[at] {
                let error = left[at];
                for k in 0..m {
                    left[at + k] -= error * inv[k] / inv[0];
                }
                left[at] = 0.0;
            }
        }
    }
    left
}

#[test]
fn sparse_gpt_is_the_papers_algorithm() {
    let (rows, n) = (18, 32);
    let (w, x) = (noise(10, rows * n), inputs(300, n, &[]));
    let pruning = pruning("sparsegpt", 0.5, Some((2, 4)));
    let (got, mask) = sparse_gpt(&Cpu::single(), &w, &x, n, (Order::Off, &pruning));
    let want = paper(&w, n, &exact_hessian(&x, n));
    let far = got
        .iter()
        .zip(&want)
        .filter(|(a, b)| (f64::from(**a) - **b).abs() > 1e-3);
    // A near tie may go the other way and changes the rest of its row.
    let far = far.count();
    assert!(far <= rows * n / 20, "{far} of {}", rows * n);
    assert_eq!(mask.kept(), rows * n / 2);
}

#[test]
fn sparse_gpt_beats_wanda_and_wanda_beats_magnitude() {
    let (rows, n) = (90, 300);
    let (w, x) = (noise(11, rows * n), inputs(700, n, &[3]));
    let cpu = Cpu::single();
    let exact = exact_hessian(&x, n);
    let rms: Vec<f32> = (0..n)
        .map(|i| (exact[i * n + i] / 2.0).sqrt() as f32)
        .collect();
    for pattern in [None, Some((2, 4)), Some((1, 5))] {
        let by = |method: &str| pruning(method, 0.5, pattern);
        let error = |mask: super::mask::Mask| {
            let mut pruned = w.clone();
            mask.apply(&mut pruned);
            output_error(&w, &pruned, &exact, n)
        };
        let magnitude = error(by_magnitude(&w, rows, n, &by("magnitude")));
        let wanda = error(by_wanda(&w, rows, n, &rms, &by("wanda")));
        for order in [Order::Off, Order::Static] {
            let (values, mask) = sparse_gpt(&cpu, &w, &x, n, (order, &by("sparsegpt")));
            let sparse = output_error(&w, &values, &exact, n);
            assert!(
                sparse < 0.9 * wanda,
                "{pattern:?} {order:?}: {sparse} {wanda}"
            );
            let share = 1.0 - by("sparsegpt").sparsity;
            let kept = mask.kept() as f64 / (rows * n) as f64;
            assert!(
                (kept - share).abs() < 0.01,
                "{pattern:?}: {kept} of {share}"
            );
            let zeros = values.iter().filter(|v| v.to_bits() == 0).count();
            assert_eq!(
                zeros + mask.kept(),
                rows * n,
                "pruned weights are exactly zero"
            );
            if let Some((count, m)) = pattern {
                for (r, run) in (0..rows).flat_map(|r| (0..n / m).map(move |c| (r, c))) {
                    let lost = (0..m).filter(|k| !mask.keeps(r, run * m + k)).count();
                    assert_eq!(lost, count);
                }
            }
        }
        assert!(wanda < magnitude, "{pattern:?}: {wanda} {magnitude}");
    }
}

#[test]
fn sparse_gpt_does_not_depend_on_threads() {
    let (rows, n) = (150, 130);
    let (w, x) = (noise(4, rows * n), inputs(400, n, &[]));
    let isa = Isa::detect();
    let pruning = pruning("sparsegpt", 0.6, None);
    let run = |cpu: &Cpu| sparse_gpt(cpu, &w, &x, n, (Order::Static, &pruning));
    let one = run(&Cpu::with_isa(isa));
    assert_eq!(one, run(&Cpu::new(isa, 2).unwrap()));
    assert_eq!(one, run(&Cpu::new(isa, 5).unwrap()));
}

/// The first entry of the inverse of what is left of H from column k on: the square of the diagonal
/// of the inverse's factor, as the authors' code has it.
fn own_variance(h: &[f64], n: usize, k: usize, mean: f64) -> f64 {
    let damped = |i: usize, j: usize| h[i * n + j] + if i == j { 0.01 * mean } else { 0.0 };
    let places = (k..n).flat_map(|i| (k..n).map(move |j| (i, j)));
    let rest: Vec<f64> = places.map(|(i, j)| damped(i, j)).collect();
    inverse(&rest, n - k)[0]
}
