//! Quantizing encoders: what is scaled, what is refused, what it costs.
#![allow(clippy::print_stdout, reason = "errors are worth seeing")]

mod support;

use lowbit::Code;
use lowbit::cpu::{Compute, Cpu};
use lowbit::job::Plan;
use lowbit::job::recipe::{Awq, Rotate, Transform};
use lowbit::job::request::{Calibration, Options};
use lowbit::model::config::Config;
use lowbit::model::ops::Part;
use lowbit::session::{Engine, Goal};
use lowbit::transform::{Producer, mappings};
use support::Checkpoint;
use support::quantize::{request, run};
use support::texts::Reference;

/// What a quantized encoder's states are off by, relative to the largest.
fn quantized(options: Options) -> f32 {
    let (name, cpu) = ("tiny-bert", Cpu::single());
    let (reference, source) = (Reference::read(name), Checkpoint::open(name));
    let mut request = request(&source, options);
    let (samples, length) = (4, 24);
    request.calibration = Some(Calibration { samples, length });
    let tokens = (0..(samples * length) as u32).map(|i| i * 7919 % 80);
    let (written, _) = run(&source, &cpu, &request, tokens.collect());
    let engine = Engine::new(
        written.load(&cpu, Compute::F32).expect("a model"),
        cpu,
        None,
    );
    let states = engine.encode(&reference.tokens, &reference.texts, Goal::States);
    reference.worst("hidden", &states.expect("hidden states"))
}

fn options(method: &str, transforms: Vec<Transform>) -> Options {
    Options {
        method: method.into(),
        scheme: "w8".into(),
        transforms,
        ..Options::default()
    }
}

#[test]
fn values_are_scaled_against_outputs_and_nothing_else_is() {
    let config = Config::from_json(&Checkpoint::open("tiny-bert").source.config).unwrap();
    for layer in 0..2 {
        let found = mappings(&config, layer);
        let [only] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(
            (only.producer, &only.consumers[..]),
            (Producer::Rows(Part::V), &[Part::O][..])
        );
    }
    for transforms in [vec![], vec![Transform::Awq(Awq::default())]] {
        let worst = quantized(options("rtn", transforms));
        println!("rtn: {worst:.1e}");
        assert!(worst > 1e-4 && worst < 2e-2, "{worst:e}");
    }
}

#[test]
fn what_needs_logits_or_root_mean_squares_is_refused() {
    let source = Checkpoint::open("tiny-bert");
    let rotated = options("rtn", vec![Transform::Rotate(Rotate::default())]);
    let budget = Options {
        target_bpw: Some(6.0),
        candidates: vec!["w4".into(), "w8".into()],
        ..options("rtn", vec![])
    };
    for (options, step) in [(rotated, "r1"), (budget, "targetBpw")] {
        let e = Plan::new(&request(&source, options)).unwrap_err();
        assert!(
            e.code == Code::Unsupported && e.to_string().contains(step),
            "{e}"
        );
    }
}
