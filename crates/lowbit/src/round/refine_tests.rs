//! What GPTQ does with masks, importance and refinement, and how its ladder ends.

use super::RoundOptions;
use super::factor::{Factored, Factoring};
use super::gptq::{Extra, GptqOptions, Order};
use super::hessian::Hessian;
use super::mask::Mask;
use super::observer::Observer;
use super::testing::{
    dense, exact_hessian, factor, finished, gptq_with, hessian, inputs, noise, options,
    output_error,
};
use crate::cpu::{Cpu, Isa};
use crate::tensor::Dtype;
use std::sync::Arc;

fn refined(rounds: usize, scale_dtype: Dtype, order: Order) -> RoundOptions {
    RoundOptions {
        scale_dtype,
        gptq: GptqOptions {
            refine: rounds,
            ..options(order).gptq
        },
        ..options(order)
    }
}

#[test]
fn every_round_of_refinement_lowers_the_error() {
    let (rows, n) = (37, 300);
    let (w, x) = (noise(12, rows * n), inputs(700, n, &[4]));
    let cpu = Cpu::single();
    let (h, exact) = (hessian(&cpu, &x, n), exact_hessian(&x, n));
    for (scheme, dtype) in [
        ("w4g100", Dtype::BF16),
        ("w3g30-asym", Dtype::F16),
        ("w4g150", Dtype::F32),
        ("w2", Dtype::BF16),
        ("w8-asym", Dtype::F32),
    ] {
        for order in [Order::Static, Order::GroupAware, Order::Off] {
            let mut last = f64::INFINITY;
            let mut first = 0.0;
            for rounds in 0..4 {
                let options = refined(rounds, dtype, order);
                let factoring = Factoring::for_rounding(&h, &options.gptq, 100);
                let f = finished(&cpu, &h, factoring);
                let (m, quality) =
                    gptq_with(&cpu, &w, (rows, n), (scheme, options, Extra::default()), &f);
                m.validate().unwrap();
                let weighted = quality.weighted_error.unwrap();
                assert!(
                    weighted <= last,
                    "{scheme} {order:?} {rounds}: {weighted} {last}"
                );
                last = weighted;
                let q = dense(&m);
                let squared: f64 = w
                    .iter()
                    .zip(&q)
                    .map(|(a, b)| f64::from(a - b).powi(2))
                    .sum();
                assert!(
                    (squared - quality.squared_error).abs() < 1e-3 * squared,
                    "{scheme}"
                );
                if rounds == 0 {
                    first = output_error(&w, &q, &exact, n);
                }
                let error = output_error(&w, &q, &exact, n);
                // The damped error falls; the undamped one all but always with it.
                assert!(error < 1.02 * first, "{scheme} {order:?}: {error} {first}");
            }
        }
    }
}

#[test]
fn refinement_does_not_depend_on_threads() {
    let (rows, n) = (150, 256);
    let (w, x) = (noise(4, rows * n), inputs(400, n, &[]));
    let isa = Isa::detect();
    let options = refined(2, Dtype::BF16, Order::Static);
    let run = |cpu: &Cpu| {
        let h = hessian(cpu, &x, n);
        let f = finished(cpu, &h, Factoring::for_rounding(&h, &options.gptq, n));
        gptq_with(cpu, &w, (rows, n), ("w4g64", options, Extra::default()), &f)
    };
    let one = run(&Cpu::with_isa(isa));
    assert_eq!(one, run(&Cpu::new(isa, 2).unwrap()));
    assert_eq!(one, run(&Cpu::new(isa, 5).unwrap()));
}

#[test]
fn pruned_weights_stay_exactly_zero() {
    let (rows, n) = (70, 128);
    let (w, x) = (noise(5, rows * n), inputs(400, n, &[]));
    let cpu = Cpu::single();
    let h = hessian(&cpu, &x, n);
    let mut mask = Mask::all(rows, n);
    for i in (0..rows * n).filter(|i| i % 2 == 0 || i % 7 == 3) {
        mask.prune(i / n, i % n);
    }
    let mut source = w.clone();
    mask.apply(&mut source);
    let mask = Arc::new(mask);
    for scheme in ["w4g32", "w4g32-asym", "w2g64-asym", "w3", "w8-asym"] {
        for (name, order) in Order::ALL {
            let options = refined(2, Dtype::BF16, *order);
            let f = finished(&cpu, &h, Factoring::for_rounding(&h, &options.gptq, 32));
            let extra = Extra {
                mask: Some(mask.clone()),
                importance: None,
            };
            let (m, _) = gptq_with(&cpu, &source, (rows, n), (scheme, options, extra), &f);
            for (i, q) in dense(&m).iter().enumerate() {
                let kept = mask.keeps(i / n, i % n);
                assert!(kept || q.to_bits() == 0, "{scheme} {name} at {i}: {q}");
            }
        }
    }
}

#[test]
fn importance_comes_from_the_hessian_when_it_is_not_given() {
    let (rows, n) = (10, 64);
    let (w, x) = (noise(6, rows * n), inputs(300, n, &[]));
    let cpu = Cpu::single();
    let h = hessian(&cpu, &x, n);
    let f = factor(&cpu, &h, Order::Static);
    let weighted = RoundOptions {
        observer: Observer::ImatrixMse,
        ..options(Order::Static)
    };
    let run = |importance: Option<Vec<f32>>| {
        let extra = Extra {
            importance: importance.map(Arc::from),
            mask: None,
        };
        gptq_with(&cpu, &w, (rows, n), ("w3g32", weighted, extra), &f).0
    };
    let own = run(None);
    let tokens = x.len() / n;
    let mean = |j: usize| (0..tokens).map(|t| x[t * n + j].powi(2)).sum::<f32>() / tokens as f32;
    assert_eq!(own, run(Some((0..n).map(mean).collect())));
    assert_ne!(own, run(Some(vec![1.0; n])));
    assert_eq!(run(Some(vec![f32::NAN; n])), run(Some(vec![0.0; n])));
}

#[test]
fn what_f32_cannot_hold_is_factored_in_f64() {
    let cpu = Cpu::single();
    let mut h = Hessian::new(3);
    h.add(&cpu, &[1.8e19, -1.0e19, 0.0]);
    h.finish(&cpu);
    let f = finished(&cpu, &h, Factoring::new(&h, Order::Static, 0.01));
    assert_eq!((f.damp, f.floor, f.dead), (0.01, 0.0, 1));
    assert!(f.u.iter().all(|v| v.is_finite()));
    let (m, _) = gptq_with(
        &cpu,
        &[0.5, -0.25, 1.0],
        (1, 3),
        ("w8", options(Order::Static), Extra::default()),
        &f,
    );
    assert!(dense(&m).iter().all(|v| v.is_finite()));
}

#[test]
fn singular_hessians_have_factors_or_reasons() {
    let cpu = Cpu::single();
    let n = 40;
    // One token, the same token many times, nothing at all, one input that is never zero.
    let one = noise(8, n);
    let mut lone = vec![0.0; n];
    lone[7] = 3.0;
    for x in [
        one.clone(),
        one.repeat(50),
        vec![0.0; n],
        lone,
        vec![1e-22; n],
    ] {
        let h = hessian(&cpu, &x, n);
        for damp in [0.0, 0.01] {
            let mut factoring = Factoring::new(&h, Order::Static, damp);
            let end = loop {
                if let Some(end) = factoring.step(&cpu, &h) {
                    break end;
                }
            };
            let Factored::Ready(f) = end else {
                panic!("damping makes it definite");
            };
            assert!(f.u.iter().all(|v| v.is_finite()) && f.damp >= damp);
        }
    }
}

#[test]
fn rescaling_is_dividing_the_inputs() {
    let cpu = Cpu::single();
    let n = 9;
    let x = inputs(50, n, &[]);
    let s: Vec<f32> = (0..n).map(|i| 0.25 + i as f32).collect();
    let mut h = hessian(&cpu, &x, n);
    h.rescale(&s);
    let divided: Vec<f32> = x.iter().enumerate().map(|(i, v)| v / s[i % n]).collect();
    let want = exact_hessian(&divided, n);
    let got = h.full(&cpu, &h.diagonal());
    for (a, b) in got.iter().zip(&want) {
        assert!(
            (f64::from(*a) - b).abs() < 1e-5 * (1.0 + b.abs()),
            "{a} {b}"
        );
    }
}
