//! The job against a store in memory: bytes, resumption, refusals.

mod cache;
mod chains;
#[cfg(feature = "gpu")]
mod device;
mod joint;
mod numeric;
mod propagation;
mod recipes;
mod resume;
pub(crate) mod store;
mod survey;

use crate::container::safetensors;
use crate::cpu::{Cpu, Isa};
use crate::error::Code;
use crate::job::Plan;
use crate::round::observer::Observer;
use crate::tensor::Dtype;
use store::{End, Store, noise};

fn finish(store: &mut Store, method: &str, cpu: &Cpu) -> serde_json::Value {
    let mut request = store.request(method);
    request.isa = Some(cpu.isa.name().into());
    match store.run(&request, cpu, usize::MAX).unwrap() {
        End::Done(report) => report,
        End::Killed => panic!("the job did not end"),
    }
}

#[test]
fn output_is_what_the_plan_announces() {
    for method in recipes::ALL {
        let mut store = Store::new();
        let plan = Plan::new(&store.request(method)).unwrap();
        let report = finish(&mut store, method, &Cpu::single());
        assert_eq!(report["layers"].as_array().unwrap().len(), 21);
        assert!(store.files.len() > 1, "the test covers shards");
        for (file, planned) in report["files"]
            .as_array()
            .unwrap()
            .iter()
            .zip(&plan.files.list)
        {
            let bytes = &store.files[planned.name.as_str()];
            assert_eq!(bytes.len() as u64, planned.bytes);
            let hash = super::identity::hex(sha2::Digest::new_with_prefix(bytes));
            assert_eq!(file["sha256"], hash);
            let header = safetensors::parse(bytes, bytes.len() as u64).unwrap();
            for entry in header.entries {
                let place = plan.files.place(&entry.name).unwrap();
                assert_eq!(place.offset, header.data_start + entry.begin);
                let copied = plan.copies.iter().flatten().any(|n| *n == entry.name);
                if let Some(source) = store.source.get(&entry.name).filter(|_| copied) {
                    let (from, to) = (place.offset as usize, (place.offset + place.bytes) as usize);
                    assert_eq!(
                        &bytes[from..to],
                        source.as_slice(),
                        "{} is copied",
                        entry.name
                    );
                }
            }
        }
    }
}

#[test]
fn observer_suits_the_method_unless_named() {
    let store = Store::new();
    let observer = |method: &str, name: Option<&str>| {
        let mut request = store.request(method);
        request.options.observer = name.map(Into::into);
        let plan = Plan::new(&request).unwrap();
        plan.round_options(&plan.layers[0]).observer
    };
    assert_eq!(observer("rtn", None), Observer::MinMax);
    assert_eq!(observer("gptq", None), Observer::Mse);
    assert_eq!(observer("gptq", Some("minmax")), Observer::MinMax);
}

#[test]
fn bytes_do_not_depend_on_threads() {
    let isa = Isa::detect();
    for method in recipes::ALL {
        let mut one = Store::new();
        let report = finish(&mut one, method, &Cpu::with_isa(isa));
        let mut two = Store::new();
        assert_eq!(report, finish(&mut two, method, &Cpu::new(isa, 2).unwrap()));
        assert_eq!(one.files, two.files);
    }
}

#[test]
fn rtn_bytes_do_not_depend_on_the_instruction_set() {
    let mut scalar = Store::new();
    finish(&mut scalar, "rtn", &Cpu::with_isa(Isa::Scalar));
    let mut best = Store::new();
    finish(&mut best, "rtn", &Cpu::single());
    assert_eq!(scalar.files, best.files);
}

#[test]
fn progress_ends_at_its_total() {
    let mut store = Store::new();
    let request = store.request("gptq");
    let mut job = crate::job::Job::open(&request, Store::tokens()).unwrap();
    while let End::Killed = store.step(&mut job, &Cpu::single()).unwrap() {}
    assert_eq!(job.progress.done, job.progress.total);
}

#[test]
fn nonfinite_weight_is_named() {
    let name = "model.layers.1.mlp.down_proj.weight";
    for method in ["rtn", "gptq"] {
        let mut store = Store::new();
        let mut values = noise(1, 64 * 96);
        values[1234] = f32::NAN;
        store.put(name, Dtype::BF16, &[64, 96], &values);
        let request = store.request(method);
        let e = store.run(&request, &Cpu::single(), usize::MAX).unwrap_err();
        assert_eq!(e.code, Code::NonfiniteWeight);
        assert_eq!(
            e.to_string().split(';').next().unwrap(),
            format!("element 1234 is NaN, in tensor {name:?}")
        );
    }
}

#[test]
fn nonfinite_activation_names_layer_sample_and_token() {
    let mut store = Store::new();
    let mut values = noise(1, 64 * 96);
    for v in &mut values {
        *v *= 3e38;
    }
    store.put(
        "model.layers.0.mlp.down_proj.weight",
        Dtype::BF16,
        &[64, 96],
        &values,
    );
    let request = store.request("gptq");
    let e = store.run(&request, &Cpu::single(), usize::MAX).unwrap_err();
    assert_eq!(e.code, Code::NonfiniteActivation);
    assert!(e.what.contains("sample 0, token 0"), "{e}");
    assert!(e.place.contains("model.layers.1.self_attn.q_proj"), "{e}");
}

#[test]
fn memory_estimate_covers_what_the_job_holds() {
    let store = Store::new();
    let plan = Plan::new(&store.request("gptq")).unwrap();
    let block: usize = store
        .source
        .iter()
        .filter(|(n, _)| n.contains("layers.0."))
        .map(|(_, b)| b.len())
        .sum();
    let acts = 6 * 40 * 64 * 4;
    assert_eq!(plan.sizes.scratch_bytes, 2 * acts as u64);
    assert!(plan.sizes.memory_peak_bytes > (block + 2 * acts) as u64);
    assert!(
        plan.sizes.memory_peak_bytes < 64 << 20,
        "{}",
        plan.sizes.memory_peak_bytes
    );
}
