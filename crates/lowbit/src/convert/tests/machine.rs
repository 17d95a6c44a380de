//! Whole conversions: files, journal, refusals.

use super::{convert, quantized, request, run, source_of};
use crate::convert::Plan;
use crate::cpu::{Cpu, Isa};
use crate::error::{Code, Error};
use crate::job::tests::store::{End, Store, noise};
use crate::layout;
use crate::model::load::Loader;
use crate::tensor::{Dtype, Tensor};
use serde_json::{Value, json};

/// The floats that a checkpoint's `up_proj` of the first block stands for.
pub(super) fn up_proj(store: &Store) -> Vec<f32> {
    let module = "model.layers.0.mlp.up_proj";
    let tensor = |t: &crate::job::request::TensorEntry| Tensor {
        name: t.name.clone(),
        dtype: Dtype::parse(&t.dtype).unwrap(),
        shape: t.shape.clone(),
        bytes: store.source[&t.name].clone(),
    };
    let own = store.entries.iter().filter(|t| t.name.starts_with(module));
    let tensors: Vec<_> = own.map(tensor).collect();
    let Some(resolver) = layout::detect(&store.config).unwrap() else {
        return tensors[0].view().unwrap().to_f32().unwrap();
    };
    let rule = resolver.rule(module).unwrap();
    let matrix = rule.layout.decode(module, &rule.scheme, &tensors).unwrap();
    let mut values = vec![0.0; matrix.rows * matrix.cols];
    for (r, row) in values.chunks_exact_mut(matrix.cols).enumerate() {
        matrix.dequantize_row(r, row).unwrap();
    }
    values
}

fn loads(store: &Store) {
    let source = crate::model::load::Source {
        tensors: crate::job::request::infos(&store.entries).unwrap(),
        config: store.config.clone(),
    };
    Loader::new(&source).unwrap();
}

#[test]
fn a_chain_of_formats_keeps_every_value_and_ends_where_it_began() {
    let first = quantized("w4g32-asym", "compressed-tensors");
    let (mut at, wanted) = (first.clone(), up_proj(&first));
    for format in ["awq", "gptq-v2", "compressed-tensors"] {
        let (next, report) = convert(&at, &json!({ "format": format })).unwrap();
        assert_eq!(
            (&report["exact"], &report["rounded"]),
            (&json!(21), &json!(0))
        );
        assert_eq!(up_proj(&next), wanted, "{format}");
        assert_eq!(
            next.source["model.mtp.unknown"],
            first.source["model.mtp.unknown"]
        );
        loads(&next);
        at = next;
    }
    assert_eq!(at.source, first.source);
    assert_eq!(at.config, first.config);
}

#[test]
fn floats_are_what_the_codes_stand_for() {
    let source = quantized("w4g32", "gptq");
    let wanted = up_proj(&source);
    let (f32, report) = convert(&source, &json!({ "format": "float", "dtype": "f32" })).unwrap();
    assert_eq!(up_proj(&f32), wanted);
    assert_eq!(report["exact"], report["layers"].as_array().unwrap().len());
    assert_eq!(f32.config.get("quantization_config"), None);
    assert_eq!(f32.config["torch_dtype"], "float32");
    loads(&f32);
    let (half, report) = convert(&source, &json!({ "format": "float", "dtype": "bf16" })).unwrap();
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= b.abs() / 256.0;
    assert!(up_proj(&half).iter().zip(&wanted).all(near));
    assert!(report["rounded"].as_u64() > Some(0), "{report}");
    // Norms are of the type that was named; what nobody knows is as it was.
    let dtype = |name: &str| {
        half.entries
            .iter()
            .find(|t| t.name == name)
            .unwrap()
            .dtype
            .clone()
    };
    assert_eq!(dtype("model.norm.weight"), "BF16");
    assert_eq!(dtype("model.mtp.unknown"), "F32");
}

#[test]
fn asking_for_a_scheme_rounds_and_says_so() {
    let source = quantized("w8", "compressed-tensors");
    let options = json!({ "format": "gptq", "scheme": "w4g32" });
    let plan = Plan::new(&request(&source, &options))
        .unwrap()
        .to_json()
        .unwrap();
    assert_eq!(plan["layers"][0]["from"], "w8");
    assert_eq!(plan["layers"][0]["scheme"], "w4g32");
    assert_eq!(plan["layers"][0]["how"], "if it fits");
    let (next, report) = convert(&source, &options).unwrap();
    assert_eq!(
        (&report["exact"], &report["rounded"]),
        (&json!(0), &json!(21))
    );
    let layer = &report["layers"][0];
    assert!(
        layer["why"]
            .as_str()
            .unwrap()
            .contains("does not fit 4 bits"),
        "{layer}"
    );
    let error = layer["relativeError"].as_f64().unwrap();
    assert!((0.01..0.2).contains(&error), "{error}");
    loads(&next);
}

fn refusal(store: &Store, options: &Value) -> Error {
    convert(store, options).unwrap_err()
}

#[test]
fn what_cannot_be_is_refused_with_a_remedy() {
    let asym = quantized("w4g32-asym", "awq");
    let e = refusal(&asym, &json!({ "format": "gptq" }));
    assert_eq!(e.code, Code::Scheme);
    assert!(
        e.place.contains("q_proj") && e.remedy.contains("--scheme"),
        "{e}"
    );
    let e = refusal(&asym, &json!({ "format": "gtpq" }));
    assert_eq!(
        (e.code, e.remedy.as_str()),
        (Code::Option, "did you mean \"gptq\"?")
    );
    let e = refusal(
        &asym,
        &json!({ "format": "gptq", "scheme": "w4g32", "exact": true }),
    );
    assert_eq!(e.code, Code::Scheme);
    assert!(e.what.contains("zero point"), "{e}");
    let e = refusal(&asym, &json!({ "format": "float", "dtype": "bf61" }));
    assert_eq!(
        (e.code, e.remedy.as_str()),
        (Code::Option, "did you mean \"bf16\"?")
    );
    let e = refusal(
        &asym,
        &json!({ "format": "compressed-tensors", "scheme": "w8a8s" }),
    );
    assert!(e.what.contains("no scale for the inputs"), "{e}");
    let e = refusal(&Store::new(), &json!({ "format": "awq" }));
    assert!(e.remedy.contains("lowbit quantize"), "{e}");
}

#[test]
fn killed_conversion_ends_in_the_same_bytes() {
    let source = quantized("w4g32-asym", "compressed-tensors");
    for options in [
        json!({ "format": "awq" }),
        json!({ "format": "gptq", "scheme": "w4g32" }),
        json!({ "format": "float", "dtype": "f16" }),
    ] {
        let cpu = Cpu::single();
        let mut whole = source.clone();
        let request_of = |store: &Store| request(store, &options);
        let End::Done(wanted) = run(&mut whole, &request_of(&source), &cpu, usize::MAX).unwrap()
        else {
            panic!("it was not stopped");
        };
        for seed in 0..4 {
            let mut store = source.clone();
            let report = (0..).find_map(|kill: u32| {
                let polls = 5 + ((noise(seed * 1000 + kill, 2)[1] + 1.0) * 60.0) as usize;
                let request = request_of(&store);
                match run(&mut store, &request, &cpu, polls * (1 + kill as usize / 4)).unwrap() {
                    End::Done(report) => Some(report),
                    End::Killed if seed % 2 == 0 => {
                        store.lose_power();
                        None
                    }
                    End::Killed => None,
                }
            });
            assert_eq!(store.files, whole.files, "{options}, seed {seed}");
            assert_eq!(report.as_ref(), Some(&wanted), "{options}, seed {seed}");
        }
    }
}

#[test]
fn bytes_do_not_depend_on_threads_or_instruction_set() {
    let source = quantized("w4g32-asym", "compressed-tensors");
    let options = json!({ "format": "gptq", "scheme": "w4g32" });
    let mut files = Vec::new();
    for cpu in [
        Cpu::with_isa(Isa::Scalar),
        Cpu::new(Isa::detect(), 2).unwrap(),
    ] {
        let mut store = source.clone();
        let request = request(&store, &options);
        run(&mut store, &request, &cpu, usize::MAX).unwrap();
        files.push(store.files);
    }
    assert_eq!(files[0], files[1]);
}

#[test]
fn another_run_is_not_gone_on_with() {
    let mut store = quantized("w4g32", "gptq");
    while store.journal.len() < 3 {
        let polls = 200 * (1 + store.journal.len());
        let request = request(&store, &json!({ "format": "gptq-v2" }));
        assert!(matches!(
            run(&mut store, &request, &Cpu::single(), polls),
            Ok(End::Killed)
        ));
    }
    let other = request(&store, &json!({ "format": "compressed-tensors" }));
    let e = run(&mut store, &other, &Cpu::single(), 1).unwrap_err();
    assert_eq!(e.code, Code::ResumeMismatch);
    assert!(e.what.starts_with("option format was"), "{e}");
    // What was vouched for is read back.
    let mut again = store.clone();
    let request = request(&store, &json!({ "format": "gptq-v2" }));
    let plan = Plan::new(&request).unwrap();
    let place = plan
        .target
        .files()
        .place("model.layers.0.mlp.up_proj.qweight")
        .unwrap();
    again.files.values_mut().nth(place.file).unwrap()[place.offset as usize] ^= 1;
    let e = run(&mut again, &request, &Cpu::single(), usize::MAX).unwrap_err();
    assert_eq!(e.code, Code::ResumeCorrupt);
    assert!(matches!(
        run(&mut store, &request, &Cpu::single(), usize::MAX),
        Ok(End::Done(_))
    ));
    loads(&source_of(&store, plan.target.config().unwrap()));
}
