//! A killed job goes on and ends in the same bytes, or says why it cannot.

use super::store::{End, Store, noise};
use super::{finish, recipes};
use crate::cpu::{Cpu, Isa};
use crate::error::Code;

/// Kills after a number of polls, over and over, until the job ends.
fn run_with_kills(method: &str, seed: u32, power_loss: bool) -> (Store, serde_json::Value) {
    let cpu = Cpu::single();
    let mut store = Store::new();
    for kill in 0.. {
        let polls =
            5 + ((noise(seed + kill, 2)[1] + 1.0) * 60.0) as usize * (1 + kill as usize / 4);
        let request = store.request(method);
        match store.run(&request, &cpu, polls).unwrap() {
            End::Done(report) => return (store, report),
            End::Killed if power_loss => store.lose_power(),
            End::Killed => {}
        }
    }
    unreachable!("kills come later and later")
}

#[test]
fn killed_job_ends_in_the_same_bytes() {
    for method in recipes::ALL {
        let mut whole = Store::new();
        let wanted = finish(&mut whole, method, &Cpu::single());
        let seeds = if ["rtn", "gptq"].contains(method) {
            6
        } else {
            2
        };
        for seed in 0..seeds {
            let (store, report) = run_with_kills(method, seed * 1000, seed % 2 == 0);
            assert_eq!(store.files, whole.files, "{method}, seed {seed}");
            assert_eq!(report, wanted, "{method}, seed {seed}");
            assert_eq!(store.journal, whole.journal, "{method}, seed {seed}");
        }
    }
}

/// A store in which a job got as far as the journal line about `unit`.
fn stopped_after(unit: &str) -> Store {
    let mut store = Store::new();
    let request = store.request("gptq");
    let mut job = crate::job::Job::open(&request, Store::tokens()).unwrap();
    while !store
        .journal
        .last()
        .is_some_and(|l| l.contains(&format!("{unit:?}")))
    {
        store.step(&mut job, &Cpu::single()).unwrap();
    }
    store
}

#[test]
fn changed_input_is_refused_by_name() {
    let store = stopped_after("embed");
    let cpu = Cpu::single();
    let refusal = |change: &dyn Fn(&mut crate::job::Request)| {
        let mut request = store.request("gptq");
        change(&mut request);
        let e = store.clone().run(&request, &cpu, 1).unwrap_err();
        assert_eq!(e.code, Code::ResumeMismatch);
        e.what
    };
    assert_eq!(
        refusal(&|r| r.options.damp = 0.02),
        "option damp was \"0.01\" and is \"0.02\""
    );
    assert!(refusal(&|r| r.options.scheme = "w8".into()).starts_with("option scheme was"));
    assert!(refusal(&|r| r.config["rope_theta"] = 5.0.into()).starts_with("model was"));
    assert!(
        refusal(&|r| {
            r.identities.insert("a.safetensors".into(), "1".into());
        })
        .starts_with("source file")
    );
    assert!(refusal(&|r| r.options.method = "rtn".into()).starts_with("option method was"));
}

#[test]
fn resume_on_another_instruction_set_is_refused() {
    let store = stopped_after("block 0");
    let mut request = store.request("gptq");
    request.isa = Some("scalar".into());
    let e = store
        .clone()
        .run(&request, &Cpu::with_isa(Isa::Scalar), 1)
        .unwrap_err();
    assert_eq!(e.code, Code::ResumeMismatch);
    assert!(e.what.starts_with("instruction set was"), "{e}");
    let e = store
        .clone()
        .run(&store.request("gptq"), &Cpu::with_isa(Isa::Scalar), 1)
        .unwrap_err();
    assert_eq!(e.code, Code::Option, "a Cpu that is not the planned one");
}

#[test]
fn changed_files_are_found() {
    let cpu = Cpu::single();
    let end = |store: &mut Store| {
        let request = store.request("gptq");
        store.run(&request, &cpu, usize::MAX)
    };
    let mut store = stopped_after("block 0");
    store.scratch.get_mut("acts-1").unwrap()[100] ^= 1;
    assert_eq!(end(&mut store).unwrap_err().code, Code::ResumeCorrupt);

    let mut store = stopped_after("block 0");
    let place = crate::job::Plan::new(&store.request("gptq")).unwrap();
    let place = place
        .files
        .place("model.layers.0.mlp.up_proj.weight_packed")
        .unwrap();
    store.files.values_mut().nth(place.file).unwrap()[place.offset as usize] ^= 1;
    let e = end(&mut store).unwrap_err();
    assert_eq!(e.code, Code::ResumeCorrupt);
    assert!(e.what.contains("up_proj"), "{e}");

    let mut store = stopped_after("block 0");
    let last = store.journal.pop().unwrap();
    store.journal.push(last[..last.len() / 2].into());
    assert!(
        end(&mut store).is_ok(),
        "a line that was cut off is dropped"
    );

    let mut store = stopped_after("block 0");
    store.journal[1] = "{}".into();
    assert_eq!(end(&mut store).unwrap_err().code, Code::ResumeCorrupt);
}
