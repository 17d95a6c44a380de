//! A copy of novels-4m whose norms have outlier channels, as large models do: rounding inputs fails
//! there, and scaling channels repairs it.
#![allow(clippy::print_stdout, reason = "the figures are worth seeing")]

mod support;

use lowbit::cpu::{Cpu, Isa};
use lowbit::job::recipe::{Awq, SmoothQuant, Transform};
use lowbit::job::request::Options;
use support::Checkpoint;
use support::floats::{Floats, with_outliers};
use support::quantize::{cost_of, quantize};

/// Perplexity of novels-4m.
const PERPLEXITY: f64 = 45.923;

#[test]
fn scaling_restores_what_outliers_cost() {
    let cpu = Cpu::new(Isa::detect(), 2).expect("threads");
    let source = Checkpoint::open("novels-4m");
    let outliers = with_outliers(&source, &Floats::open(&source), 16.0);
    let smooth = || {
        Transform::SmoothQuant(SmoothQuant {
            strength: 0.8,
            ..SmoothQuant::default()
        })
    };
    let cost = |method: &str, scheme: &str, transforms: Vec<Transform>| {
        let steps = transforms.len();
        let options = Options {
            method: method.into(),
            scheme: scheme.into(),
            transforms,
            ..Options::default()
        };
        let (written, _) = quantize(&outliers, &cpu, options);
        let (perplexity, kl) = cost_of(&cpu, &outliers, &written);
        println!("{method} {scheme}, {steps} transforms: perplexity {perplexity:.3}, KL {kl:.6}");
        (perplexity, kl)
    };
    let plain = cost("rtn", "w8a8", Vec::new());
    let smoothed = cost("rtn", "w8a8", vec![smooth()]);
    let both = cost("gptq", "w8a8", vec![smooth()]);
    for (what, cost) in [("SmoothQuant", smoothed), ("with GPTQ", both)] {
        assert!(cost.0 <= 1.02 * PERPLEXITY, "{what}: {cost:?}");
        assert!(5.0 * cost.1 < plain.1, "{what}: {cost:?} against {plain:?}");
    }
    let plain = cost("rtn", "w4g128", Vec::new());
    let awq = cost("rtn", "w4g128", vec![Transform::Awq(Awq::default())]);
    assert!(
        awq.0 < plain.0 && awq.1 < 0.5 * plain.1,
        "{awq:?} against {plain:?}"
    );
}
