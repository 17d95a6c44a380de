//! Inputs that break other tools late: each is refused at once, or named in the report.

use super::store::{End, SET, Store, noise};
use crate::cpu::Cpu;
use crate::error::Code;
use crate::job::request::Calibration;
use crate::job::{Job, Plan};
use crate::tensor::Dtype;
use serde_json::Value;

fn run(store: &mut Store, method: &str, change: impl Fn(&mut crate::job::Request)) -> Value {
    let mut request = store.request(method);
    change(&mut request);
    match store.run(&request, &Cpu::single(), usize::MAX).unwrap() {
        End::Done(report) => report,
        End::Killed => panic!("the job did not end"),
    }
}

fn warnings(report: &Value) -> Vec<&str> {
    let all = report["warnings"].as_array().unwrap().iter();
    all.map(|w| w.as_str().unwrap()).collect()
}

#[test]
fn values_that_may_become_zero_do_and_are_counted() {
    for method in ["rtn", "gptq", "rotate+rtn"] {
        let mut store = Store::new();
        let mut values = noise(1, 64 * 96);
        (values[5], values[1234]) = (f32::INFINITY, f32::NAN);
        let linear = "model.layers.1.mlp.down_proj.weight";
        store.put(linear, Dtype::BF16, &[64, 96], &values);
        let mut rows = noise(2, 50 * 64);
        rows[77] = f32::NEG_INFINITY;
        let table = "model.embed_tokens.weight";
        store.put(table, Dtype::BF16, &[50, 64], &rows);
        let report = run(&mut store, method, |r| {
            r.options.allow_nonfinite = Some("zero".into());
        });
        let warnings = warnings(&report);
        let count = |start: &str| warnings.iter().filter(|w| w.starts_with(start)).count();
        assert_eq!(count(&format!("2 values of {linear}")), 1, "{warnings:?}");
        assert!(count(&format!("1 values of {table}")) >= 1, "{warnings:?}");
    }
}

#[test]
fn small_sets_are_named_or_refused() {
    let store = Store::new();
    let mut request = store.request("gptq");
    request.calibration = Some(Calibration {
        samples: 1,
        length: 2,
    });
    let plan = Plan::new(&request).unwrap();
    let few = "2 calibration tokens are fewer than the 96 inputs of";
    assert!(plan.warnings[0].starts_with(few), "{:?}", plan.warnings);
    let groups = "2 calibration tokens are fewer than the 3 groups in a row of";
    assert!(plan.warnings[1].starts_with(groups), "{:?}", plan.warnings);
    request.options.strict = true;
    let e = Plan::new(&request).unwrap_err();
    assert_eq!(e.code, Code::Dataset);
    assert!(e.what.starts_with(few), "{e}");

    let mut request = store.request("gptq");
    let sample: Vec<u32> = (0..SET.length as u32).collect();
    let job = Job::open(&request, sample.repeat(SET.samples)).unwrap();
    let equal = "all 6 calibration samples are equal";
    assert!(job.plan().warnings.iter().any(|w| w == equal));
    let same = Job::open(&request, vec![7; SET.samples * SET.length]).unwrap();
    let one = "every calibration token is 7";
    assert!(same.plan().warnings.iter().any(|w| w == one));
    request.options.strict = true;
    let e = Job::open(&request, sample.repeat(SET.samples)).unwrap_err();
    assert_eq!((e.code, &*e.what), (Code::Dataset, equal));
}

#[test]
fn singular_hessians_never_stop_a_run() {
    for recipe in ["gptq", "awq+gptq", "sparsegpt+gptq"] {
        let mut store = Store::new();
        // Channels that no token reaches, and then no channel at all.
        for dead in [40, 64] {
            let mut rows = noise(2, 50 * 64);
            for row in rows.chunks_exact_mut(64) {
                row[..dead].fill(0.0);
            }
            store.put("model.embed_tokens.weight", Dtype::BF16, &[50, 64], &rows);
            store.files.clear();
            store.journal.clear();
            let report = run(&mut store, recipe, |_| {});
            let first = &report["layers"][0];
            assert_eq!(first["deadColumns"], dead, "{recipe}: {first}");
            for layer in report["layers"].as_array().unwrap() {
                assert!(layer["mse"].as_f64().unwrap().is_finite(), "{layer}");
            }
        }
    }
}

#[test]
fn large_inputs_are_named() {
    let mut store = Store::new();
    let norm: Vec<f32> = noise(3, 64).iter().map(|v| v * 1e4 + 2e4).collect();
    let name = "model.layers.1.input_layernorm.weight";
    store.put(name, Dtype::BF16, &[64], &norm);
    let report = run(&mut store, "gptq", |_| {});
    let warnings = warnings(&report);
    let found = warnings.iter().find(|w| w.contains("f16 may overflow"));
    assert!(
        found.unwrap().contains("model.layers.1.self_attn"),
        "{warnings:?}"
    );
}
