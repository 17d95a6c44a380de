//! Matrices that engines join: one scale above NVFP4's, one scheme.

use super::adapters::{Adapter, MODULE};
use super::{convert, quantized, request, run};
use crate::convert::Plan;
use crate::cpu::Cpu;
use crate::job::tests::store::{End, Store};
use crate::tensor::{Dtype, f32_from};
use serde_json::{Value, json};

const JOINED: &[&[&str]] = &[
    &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    &["mlp.gate_proj", "mlp.up_proj"],
    &["self_attn.o_proj"],
    &["mlp.down_proj"],
];

fn floats(store: &Store, name: &str) -> Vec<f32> {
    let entry = store.entries.iter().find(|t| t.name == name).unwrap();
    let dtype = Dtype::parse(&entry.dtype).unwrap();
    let mut values = vec![0.0; entry.shape.iter().product()];
    f32_from(dtype, &store.source[name], &mut values).unwrap();
    values
}

/// Scales above the scales, set by set, beside what they must be for the floats of a source.
fn check_scales(made: &Store, source: &Store) {
    let float = json!({ "format": "float", "dtype": "f32" });
    let (dense, _) = convert(source, &float).unwrap();
    for (block, set) in (0..3).flat_map(|b| JOINED.iter().map(move |set| (b, set))) {
        let name = |part: &str, end: &str| format!("model.layers.{block}.{part}.{end}");
        let values = set.iter().flat_map(|p| floats(&dense, &name(p, "weight")));
        let most = values.fold(0.0f32, |m, v| m.max(v.abs()));
        for part in *set {
            let found = floats(made, &name(part, "weight_global_scale"));
            assert_eq!(found, [1.0 / most * 2688.0], "{}", name(part, ""));
        }
    }
}

#[test]
fn matrices_that_engines_join_share_a_scale() {
    let source = quantized("w8", "compressed-tensors");
    let options = json!({ "format": "compressed-tensors", "scheme": "nvfp4" });
    let (made, report) = convert(&source, &options).unwrap();
    assert_eq!(report["layers"].as_array().unwrap().len(), 21);
    assert_eq!(report["rounded"], 21);
    check_scales(&made, &source);
    // A file may hold them far from each other.
    let mut apart = source.clone();
    apart.entries.reverse();
    apart.entries.sort_by_key(|t| !t.name.contains("k_proj"));
    let (other, _) = convert(&apart, &options).unwrap();
    assert_eq!(other.source, made.source);
}

#[test]
fn killed_run_looks_again() {
    let source = quantized("w8", "compressed-tensors");
    let options = json!({ "format": "compressed-tensors", "scheme": "nvfp4" });
    let (cpu, mut whole) = (Cpu::single(), source.clone());
    let request_of = |store: &Store| request(store, &options);
    run(&mut whole, &request_of(&source), &cpu, usize::MAX).unwrap();
    let mut store = source.clone();
    let mut killed = 0;
    loop {
        let request = request_of(&store);
        let end = run(&mut store, &request, &cpu, 60 + 37 * killed).unwrap();
        if matches!(end, End::Done(_)) {
            break;
        }
        store.lose_power();
        killed += 1;
    }
    assert!(killed > 1, "{killed}");
    assert_eq!(store.files, whole.files);
}

#[test]
fn sets_of_which_only_some_change_are_told() {
    let source = quantized("nvfp4", "compressed-tensors");
    let options = json!({ "format": "compressed-tensors" });
    let mut store = source.clone();
    let request = Adapter::new().request(&mut store, &options);
    let plan = Plan::new(&request).unwrap().to_json().unwrap();
    let warning = plan["warnings"][0].as_str().unwrap();
    assert!(warning.contains(MODULE), "{warning}");
    assert!(warning.contains("k_proj keeps its scale"), "{warning}");
    // Untouched, all keep theirs.
    let (kept, report) = convert(&source, &options).unwrap();
    assert_eq!(
        (&report["exact"], &report["warnings"]),
        (&json!(21), &json!([]))
    );
    assert_eq!(kept.source, source.source);
}

#[test]
fn plans_name_what_engines_cannot_join() {
    let plan = |store: &Store, options: &Value| {
        let plan = Plan::new(&request(store, options)).unwrap();
        plan.to_json().unwrap()["torn"].clone()
    };
    let source = quantized("w4g32", "compressed-tensors");
    let same = json!({ "format": "compressed-tensors" });
    assert_eq!(plan(&source, &same), Value::Null);
    let mut torn = source.clone();
    let config = &mut torn.config["quantization_config"];
    config["ignore"] = json!(["lm_head", "model.layers.1.self_attn.k_proj"]);
    let (parts, weight) = (
        "model.layers.1.self_attn.k_proj.",
        "model.layers.1.self_attn.k_proj.weight",
    );
    let float = json!({ "format": "float", "dtype": "bf16" });
    let (dense, _) = convert(&source, &float).unwrap();
    torn.entries.retain(|t| !t.name.starts_with(parts));
    let values = floats(&dense, weight);
    torn.put(weight, Dtype::BF16, &[values.len() / 64, 64], &values);
    let text =
        "model.layers.1.self_attn.q_proj is w4g32, model.layers.1.self_attn.k_proj is as it is";
    assert_eq!(plan(&torn, &same), text);
    // Plain floats are joined whatever they were.
    assert_eq!(plan(&torn, &float), Value::Null);
}
