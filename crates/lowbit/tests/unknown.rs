//! Checkpoints of families that nobody here knows: rounded by shape and name, and never run.

mod support;

use lowbit::Code;
use lowbit::cpu::Cpu;
use lowbit::job::Plan;
use lowbit::job::recipe::{Rotate, Transform};
use lowbit::job::request::Options;
use serde_json::json;
use support::Checkpoint;
use support::quantize::{request, run};

fn options(method: &str) -> Options {
    Options {
        method: method.into(),
        scheme: "w8".into(),
        ..Options::default()
    }
}

/// A checkpoint whose config names a family of its own.
fn renamed(name: &str, model_type: &str) -> Checkpoint {
    let mut checkpoint = Checkpoint::open(name);
    checkpoint.source.config["model_type"] = json!(model_type);
    checkpoint
}

#[test]
fn linears_get_the_bytes_that_a_known_family_would_give_them() {
    for name in [
        "tiny-llama",
        "tiny-mixtral",
        "tiny-gemma2",
        "tiny-bert-classify",
    ] {
        let (known, unknown) = (Checkpoint::open(name), renamed(name, "brand-new"));
        let cpu = Cpu::single();
        let quantized =
            |source: &Checkpoint| run(source, &cpu, &request(source, options("rtn")), Vec::new()).0;
        let (wanted, found) = (quantized(&known), quantized(&unknown));
        assert_eq!(
            wanted.tensors.keys().collect::<Vec<_>>(),
            found.tensors.keys().collect::<Vec<_>>(),
            "{name}"
        );
        for (tensor, wanted) in &wanted.tensors {
            assert_eq!(found.tensors[tensor].bytes, wanted.bytes, "{name} {tensor}");
        }
        assert!(wanted.tensors.len() > known.tensors.len(), "{name}");
    }
}

#[test]
fn what_was_guessed_is_said() {
    let plan = Plan::new(&request(
        &renamed("tiny-mixtral", "brand-new"),
        options("rtn"),
    ))
    .unwrap();
    let [guessed, kept, ..] = &plan.warnings[..] else {
        panic!("{:?}", plan.warnings);
    };
    assert!(
        guessed.contains("\"brand-new\" is not known: 32 matrices"),
        "{guessed}"
    );
    assert!(kept.contains("matrices stay as stored"), "{kept}");
    let router = "model.layers.0.block_sparse_moe.gate".to_owned();
    assert!(plan.ignored.contains(&router), "{:?}", plan.ignored);
    assert_eq!(plan.to_json()["guessed"], true);
    let known = Plan::new(&request(&Checkpoint::open("tiny-mixtral"), options("rtn"))).unwrap();
    assert_eq!(known.to_json()["guessed"], false);
}

#[test]
fn what_has_to_run_the_model_is_refused_with_the_remedy() {
    let unknown = renamed("tiny-llama", "brand-new");
    let refused = |options: Options| Plan::new(&request(&unknown, options)).unwrap_err();
    let rotated = Options {
        transforms: vec![Transform::Rotate(Rotate::default())],
        ..options("rtn")
    };
    let budget = Options {
        target_bpw: Some(6.0),
        candidates: vec!["w4".into(), "w8".into()],
        ..options("rtn")
    };
    for options in [options("gptq"), rotated, budget] {
        let e = refused(options);
        assert_eq!(e.code, Code::UnknownArchitecture, "{e}");
        assert!(e.to_string().contains("--method rtn"), "{e}");
    }
    let e = Plan::new(&request(&renamed("tiny-llama", "gpt2"), options("rtn"))).unwrap_err();
    assert!(
        e.code == Code::Unsupported && e.what.contains("transposed"),
        "{e}"
    );
    let mut empty = renamed("tiny-llama", "brand-new");
    empty.tensors.retain(|name, _| name.contains("norm"));
    empty.list();
    let e = Plan::new(&request(&empty, options("rtn"))).unwrap_err();
    assert_eq!(e.code, Code::UnknownArchitecture, "{e}");
}

#[test]
fn matrices_that_do_not_fit_the_scheme_stay_as_they_are() {
    let unknown = renamed("tiny-mistral", "brand-new");
    let options = Options {
        scheme: "w4g32".into(),
        ..options("rtn")
    };
    // 56 and 40 columns are no whole groups of 32.
    let plan = Plan::new(&request(&unknown, options)).unwrap();
    let down = "model.layers.0.mlp.down_proj".to_owned();
    assert!(plan.ignored.contains(&down), "{:?}", plan.ignored);
    assert!(!plan.layers.is_empty());
}

#[test]
fn a_scheme_that_no_matrix_divides_for_names_the_first() {
    let options = Options {
        scheme: "w4g128".into(),
        ..options("rtn")
    };
    let error = Plan::new(&request(&renamed("tiny-llama", "brand-new"), options)).unwrap_err();
    assert_eq!(error.code, Code::Scheme, "{error}");
    assert!(
        error.to_string().contains("no multiple") || error.to_string().contains("not a multiple"),
        "{error}"
    );
}
