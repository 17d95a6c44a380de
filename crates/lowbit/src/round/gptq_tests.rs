//! GPTQ against the algorithm as the paper writes it, in f64.

use super::factor::{Factored, Factoring};
use super::gptq::Order;
use super::observer;
use super::testing::{
    dense, exact_hessian, factor, gptq, hessian, inputs, inverse, noise, options, output_error,
};
use crate::cpu::{Cpu, Isa};
use crate::scheme::Scheme;

/// The paper's loop over columns with explicit inverses, parameters of the source weights.
fn paper(w: &[f32], n: usize, h: &[f64], group: usize, bits: u8, order: Order) -> Vec<f32> {
    let diagonal: Vec<f64> = (0..n).map(|i| h[i * n + i]).collect();
    let mean = diagonal.iter().sum::<f64>() / n as f64;
    let mut columns = order.columns_backwards(&diagonal, group);
    columns.reverse();
    let mut out = vec![0.0f32; w.len()];
    let scheme = Scheme::weights(bits, crate::scheme::Group::Run(group), true);
    let (low, high) = scheme.range();
    let mut left: Vec<f64> = w.iter().map(|v| f64::from(*v)).collect();
    for (p, column) in columns.iter().enumerate() {
        // The inverse of H over the columns that are not rounded yet; its first row says how
        // they change.
        let rest = &columns[p..];
        let m = rest.len();
        let entry = |a: u32, b: u32| {
            h[a as usize * n + b as usize] + if a == b { 0.01 * mean } else { 0.0 }
        };
        let sub: Vec<f64> = rest
            .iter()
            .flat_map(|a| rest.iter().map(|b| entry(*a, *b)))
            .collect();
        let inv = inverse(&sub, m);
        let c = *column as usize;
        for r in 0..w.len() / n {
            let group_values = &w[r * n + c / group * group..][..group];
            let (scale, _) = observer::group_params(group_values, &[], &scheme, &options(order));
            let target = left[r * n + c];
            let q = (target / f64::from(scale))
                .round_ties_even()
                .clamp(f64::from(low), f64::from(high));
            let value = q * f64::from(scale);
            out[r * n + c] = value as f32;
            for (k, other) in rest.iter().enumerate() {
                left[r * n + *other as usize] -= (target - value) * inv[k] / inv[0];
            }
        }
    }
    out
}

#[test]
fn gptq_is_the_papers_algorithm() {
    let (rows, n) = (20, 64);
    let (w, x) = (noise(1, rows * n), inputs(500, n, &[]));
    let cpu = Cpu::single();
    let h = hessian(&cpu, &x, n);
    for order in [Order::Static, Order::Off] {
        let (m, _) = gptq(&cpu, &w, (rows, n), "w4", (&h, order));
        let (got, want) = (dense(&m), paper(&w, n, &exact_hessian(&x, n), n, 4, order));
        let differ = got
            .iter()
            .zip(&want)
            .filter(|(a, b)| (*a - *b).abs() > 1e-4)
            .count();
        assert!(
            differ <= rows * n / 100,
            "{differ} of {} codes differ",
            rows * n
        );
    }
    let (m, _) = gptq(&cpu, &w, (rows, n), "w3g16", (&h, Order::Static));
    let want = paper(&w, n, &exact_hessian(&x, n), 16, 3, Order::Static);
    let differ = dense(&m)
        .iter()
        .zip(&want)
        .filter(|(a, b)| (*a - *b).abs() > 1e-4)
        .count();
    assert!(differ <= rows * n / 100, "{differ} codes differ in groups");
}

#[test]
fn gptq_error_is_below_rtn_on_correlated_inputs() {
    let (rows, n) = (40, 256);
    let (w, x) = (noise(2, rows * n), inputs(600, n, &[]));
    let cpu = Cpu::single();
    let (h, exact) = (hessian(&cpu, &x, n), exact_hessian(&x, n));
    for scheme in ["w4g128", "w3g32-asym", "w2g64-asym", "w8"] {
        // A Hessian without inputs has no correlations: that is rounding to nearest.
        let none = hessian(&cpu, &vec![0.0; n], n);
        let (nearest, _) = gptq(&cpu, &w, (rows, n), scheme, (&none, Order::Static));
        let base = output_error(&w, &dense(&nearest), &exact, n);
        for (name, order) in Order::ALL {
            let (m, quality) = gptq(&cpu, &w, (rows, n), scheme, (&h, *order));
            m.validate().unwrap();
            assert_eq!(
                m.integer("test").unwrap().group_of_col.is_some(),
                *order == Order::Group && scheme != "w8"
            );
            let error = output_error(&w, &dense(&m), &exact, n);
            assert!(
                error < 0.8 * base,
                "{scheme} {name}: {error} against {base}"
            );
            let weighted = quality.weighted_error.unwrap();
            assert!(
                weighted > error && weighted < 2.0 * error + 1.0,
                "{weighted} {error}"
            );
        }
    }
}

#[test]
fn dead_columns_are_rounded_to_nearest() {
    let (rows, n) = (17, 64);
    let (w, x) = (noise(3, rows * n), inputs(300, n, &[0, 5, 63]));
    let cpu = Cpu::single();
    let h = hessian(&cpu, &x, n);
    let f = factor(&cpu, &h, Order::Static);
    assert_eq!((f.dead, f.floor), (3, 0.0));
    let (m, _) = gptq(&cpu, &w, (rows, n), "w4", (&h, Order::Static));
    let none = hessian(&cpu, &vec![0.0; n], n);
    let (nearest, _) = gptq(&cpu, &w, (rows, n), "w4", (&none, Order::Static));
    let (got, want) = (dense(&m), dense(&nearest));
    for r in 0..rows {
        for c in [0, 5, 63] {
            assert_eq!(got[r * n + c], want[r * n + c]);
        }
    }
}

#[test]
fn rounding_does_not_depend_on_threads() {
    let (rows, n) = (150, 300);
    let (w, x) = (noise(4, rows * n), inputs(400, n, &[]));
    let isa = Isa::detect();
    let run = |cpu: &Cpu| {
        let h = hessian(cpu, &x, n);
        gptq(cpu, &w, (rows, n), "w4g100-asym", (&h, Order::Static))
    };
    let one = run(&Cpu::with_isa(isa));
    assert_eq!(one, run(&Cpu::new(isa, 2).unwrap()));
    assert_eq!(one, run(&Cpu::new(isa, 5).unwrap()));
}

#[test]
fn hopeless_hessian_fails_with_a_reason() {
    let cpu = Cpu::single();
    let h = hessian(&cpu, &[1e25, -1e25, f32::MAX, 1.0], 4);
    let mut factoring = Factoring::new(&h, Order::Static, 0.01);
    let Some(Factored::Failed(why)) = factoring.step(&cpu, &h) else {
        panic!("an infinite Hessian has no factor");
    };
    assert_eq!(why, "the Hessian is not finite");
}
