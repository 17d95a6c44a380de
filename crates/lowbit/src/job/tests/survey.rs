//! Schemes chosen by budget.

use super::store::{End, Store};
use crate::cpu::{Cpu, Isa};
use crate::error::Code;
use crate::job::Plan;
use crate::job::request::Options;
use serde::Deserialize;
use serde_json::Value;

fn survey(store: &mut Store, cpu: &Cpu, target: f64) -> Value {
    let mut request = store.request("gptq");
    request.options.target_bpw = Some(target);
    request.options.kv_cache = Some("fp8".into());
    request.options.candidates = ["w3g32", "w4g32", "w8g32"].map(Into::into).to_vec();
    let plan = Plan::new(&request).unwrap().to_json();
    assert_eq!(plan["kind"], "sensitivity");
    match store.run(&request, cpu, usize::MAX).unwrap() {
        End::Done(report) => report,
        End::Killed => panic!("the survey did not end"),
    }
}

#[test]
fn budget_is_kept_and_the_options_run() {
    for mut store in [Store::new(), Store::experts()] {
        let report = survey(&mut store, &Cpu::single(), 4.75);
        assert!(store.files.is_empty() && store.journal.is_empty());
        let bits = report["bitsPerWeight"].as_f64().unwrap();
        assert!((4.5..=4.75).contains(&bits), "{bits}");
        for place in report["table"].as_array().unwrap() {
            let cells = place["cells"].as_array().unwrap();
            assert_eq!(cells.len(), 3);
            let of = |i: usize, what: &str| cells[i][what].as_f64().unwrap();
            for what in ["proxy", "kl", "cost"] {
                assert!(
                    of(0, what) > of(1, what) && of(1, what) > of(2, what),
                    "{place}"
                );
            }
        }
        let mut request = store.request("gptq");
        request.options = Options::deserialize(&report["options"]).unwrap();
        let plan = Plan::new(&request).unwrap();
        assert!((plan.sizes.bits_per_weight - bits).abs() < 1e-9);
        assert_eq!(plan.kv_cache.map(|c| c.name), Some("fp8"));
        let run = store.run(&request, &Cpu::single(), usize::MAX);
        assert!(matches!(run.unwrap(), End::Done(_)));
    }
}

#[test]
fn survey_does_not_depend_on_threads() {
    let isa = Isa::detect();
    let of = |cpu: Cpu| survey(&mut Store::new(), &cpu, 4.0);
    assert_eq!(of(Cpu::with_isa(isa)), of(Cpu::new(isa, 2).unwrap()));
}

#[test]
fn budget_below_every_scheme_is_refused() {
    let mut store = Store::new();
    let mut request = store.request("gptq");
    request.options.target_bpw = Some(2.0);
    request.options.candidates = vec!["w3g32".into()];
    let e = store.run(&request, &Cpu::single(), usize::MAX).unwrap_err();
    assert_eq!(e.code, Code::Option);
    assert!(e.what.contains("smallest schemes take 3.5"), "{e}");
    request.options.candidates = vec!["w3g128".into()];
    assert_eq!(Plan::new(&request).unwrap_err().code, Code::Scheme);
}
