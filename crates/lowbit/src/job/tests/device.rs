//! Jobs on an accelerator: the CPU's results up to rounding, the same bytes every time.

use super::store::{End, LAYERS, Store, noise};
use super::{finish, recipes};
use crate::cpu::{Cpu, Isa};
use crate::error::{Code, Error, Result};
use crate::gpu::testing::device;
use crate::gpu::{Calibrator, Gpu, GpuOptions};
use crate::job::inputs::Input;
use crate::job::tapped::Tapped;
use crate::job::{Job, Plan};
use crate::model::accelerator::Accelerator;
use crate::model::ops::Part;
use serde_json::Value;
use std::sync::Arc;

fn gpu(name: &str) -> Option<Arc<Gpu>> {
    device(name, &GpuOptions::default()).map(Arc::new)
}

fn calibrator(gpu: &Arc<Gpu>, limit: Option<u64>) -> Arc<dyn Accelerator> {
    Arc::new(Calibrator::new(Arc::clone(gpu), limit).unwrap())
}

/// Runs until the end or for so many polls.
fn run(
    store: &mut Store,
    recipe: &str,
    accelerator: &Arc<dyn Accelerator>,
    polls: usize,
) -> Result<End> {
    let request = store.request(recipe);
    let tokens = Store::tokens();
    let mut job = Job::open_on(&request, tokens, Some(Arc::clone(accelerator)))?;
    store.restart();
    for _ in 0..polls {
        if let End::Done(report) = store.step(&mut job, &Cpu::single())? {
            return Ok(End::Done(report));
        }
    }
    Ok(End::Killed)
}

fn whole(store: &mut Store, recipe: &str, accelerator: &Arc<dyn Accelerator>) -> Value {
    match run(store, recipe, accelerator, usize::MAX).unwrap() {
        End::Done(report) => report,
        End::Killed => panic!("the job did not end"),
    }
}

/// The errors that rounding left, by layer.
fn errors(report: &Value) -> Vec<f64> {
    let layers = report["layers"].as_array().unwrap();
    let error = |l: &Value| l["hessianError"].as_f64().or(l["relativeError"].as_f64());
    layers.iter().map(|l| error(l).unwrap()).collect()
}

#[test]
fn results_are_the_cpus_up_to_rounding_and_the_same_every_time() {
    let Some(gpu) = gpu("quantization on a GPU") else {
        return;
    };
    let start = |recipe: &str| match recipe {
        "experts" => (Store::experts(), "gptq"),
        other => (
            Store::new(),
            recipes::ALL.iter().find(|r| **r == other).copied().unwrap(),
        ),
    };
    for name in [
        "gptq",
        "experts",
        "rotate+gptq",
        "awq+gptq",
        "smoothquant+w8a8s",
        "sparsegpt+gptq",
        "true-sequential",
    ] {
        let (mut store, recipe) = start(name);
        let (mut cut, mut cpu) = (store.clone(), store.clone());
        let report = whole(&mut store, recipe, &calibrator(&gpu, None));
        assert_eq!(report["device"], "gpu", "{name}");
        assert_eq!(report["adapter"]["name"], gpu.info().name.as_str());
        // 256 tokens of inputs and a few rows of a matrix at a time.
        let again = whole(&mut cut, recipe, &calibrator(&gpu, Some(96 << 10)));
        assert_eq!(report, again, "{name}");
        assert_eq!(store.files, cut.files, "{name}");
        assert_eq!(store.journal, cut.journal, "{name}");
        let wanted = finish(&mut cpu, recipe, &Cpu::single());
        assert_eq!(wanted["device"], "cpu");
        for (found, wanted) in errors(&report).iter().zip(errors(&wanted)) {
            assert!(
                (found / wanted - 1.0).abs() < 0.02,
                "{name}: {found} for {wanted}"
            );
        }
    }
}

/// Width of the input whose second moments are summed.
const WIDTH: usize = 24;

#[test]
fn second_moments_of_many_tokens_lose_no_digits() {
    let Some(gpu) = gpu("second moments of many tokens") else {
        return;
    };
    let accelerator = calibrator(&gpu, None);
    let input = Input {
        parts: vec![Part::Q],
        module: "q".into(),
        width: WIDTH,
        layers: Vec::new(),
    };
    let mut tapped = Tapped::new(&input);
    let mut exact = vec![0.0f64; WIDTH * WIDTH];
    // 110,592 tokens of one sign, in which errors do not cancel out, one channel far larger.
    for call in 0..216 {
        let mut x = noise(call, 512 * WIDTH);
        for (i, v) in x.iter_mut().enumerate() {
            *v = (*v + 2.0) * if i % WIDTH == 5 { 100.0 } else { 1.0 };
        }
        tapped.add(&Cpu::single(), Some(&*accelerator), &x).unwrap();
        for token in x.chunks(WIDTH) {
            for (row, a) in exact.chunks_mut(WIDTH).zip(token) {
                for (sum, b) in row.iter_mut().zip(token) {
                    *sum += f64::from(*a) * f64::from(*b);
                }
            }
        }
    }
    tapped.finish(&Cpu::single()).unwrap();
    let hessian = &tapped.stats.hessian;
    assert_eq!(hessian.tokens(), 216 * 512);
    let mut worst = 0.0f64;
    for i in 0..WIDTH {
        for j in 0..=i {
            let wanted = exact[i * WIDTH + j] * 2.0 / (216.0 * 512.0);
            worst = worst.max((hessian.entry(i, j) / wanted - 1.0).abs());
        }
    }
    println!("second moments of 110,592 tokens: worst relative error {worst:.1e}");
    assert!(worst <= 1e-5, "{worst}");
}

#[test]
fn a_killed_job_goes_on_to_the_same_bytes_on_the_same_device_only() {
    let Some(gpu) = gpu("resumption on a GPU") else {
        return;
    };
    let accelerator = calibrator(&gpu, None);
    let mut wanted = Store::new();
    whole(&mut wanted, "gptq", &accelerator);
    let mut store = Store::new();
    let mut polls = 20;
    while let End::Killed = run(&mut store, "gptq", &accelerator, polls).unwrap() {
        polls += 20;
    }
    assert!(polls > 60, "it was killed a few times");
    assert_eq!(store.files, wanted.files);
    assert_eq!(store.journal, wanted.journal);

    let refused = |e: Error, text: &str| {
        assert_eq!(e.code, Code::ResumeMismatch, "{e}");
        assert!(e.what.contains(text), "{e}");
    };
    let e = store
        .run(&store.request("gptq"), &Cpu::single(), 1)
        .unwrap_err();
    refused(e, "and is \"cpu\"");
    let mut store = Store::new();
    store
        .run(&store.request("gptq"), &Cpu::single(), 100)
        .unwrap();
    let e = run(&mut store, "gptq", &accelerator, 1).unwrap_err();
    refused(e, "device was \"cpu\" and is \"gpu: ");
}

#[test]
fn a_lost_device_ends_the_job_and_nothing_else() {
    let (Some(lost), Some(next)) = (gpu("a device lost on the way"), gpu("the next device")) else {
        return;
    };
    let mut store = Store::new();
    let request = store.request("gptq");
    let accelerator = Some(calibrator(&lost, None));
    let mut job = Job::open_on(&request, Store::tokens(), accelerator).unwrap();
    while store.journal.len() < 1 + LAYERS {
        store.step(&mut job, &Cpu::single()).unwrap();
    }
    lost.destroy();
    let e = loop {
        if let Err(e) = store.step(&mut job, &Cpu::single()) {
            break e;
        }
    };
    assert_eq!(e.code, Code::DeviceLost, "{e}");
    assert!(e.remedy.contains("same command"), "{e}");
    let mut wanted = Store::new();
    whole(&mut wanted, "gptq", &calibrator(&next, None));
    whole(&mut store, "gptq", &calibrator(&next, None));
    assert_eq!(store.files, wanted.files);
}

#[test]
fn methods_that_look_at_nothing_stay_where_they_are() {
    let Some(gpu) = gpu("data-free methods") else {
        return;
    };
    let accelerator = calibrator(&gpu, None);
    for recipe in ["rtn", "rotate+rtn"] {
        let mut store = Store::new();
        let request = store.request(recipe);
        let plan = Plan::on(&request, Some(accelerator.adapter())).unwrap();
        assert!(
            plan.warnings
                .iter()
                .any(|w| w.contains("device gpu does nothing"))
        );
        let report = whole(&mut store, recipe, &accelerator);
        assert_eq!(report["device"], "cpu", "{recipe}");
        let mut cpu = Store::new();
        finish(&mut cpu, recipe, &Cpu::with_isa(Isa::detect()));
        assert_eq!(store.files, cpu.files, "{recipe}");
    }
}
