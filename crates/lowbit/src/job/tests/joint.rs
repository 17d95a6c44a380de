//! Matrices that engines join: one scale above NVFP4's scales, one scheme.

use super::finish;
use super::recipes;
use super::store::Store;
use crate::container::safetensors;
use crate::cpu::Cpu;
use crate::job::Plan;
use crate::tensor::{Dtype, TensorRef};

/// Values of an output tensor.
fn values(store: &Store, name: &str) -> Vec<f32> {
    for bytes in store.files.values() {
        let header = safetensors::parse(bytes, bytes.len() as u64).unwrap();
        if let Some(entry) = header.entries.iter().find(|e| e.name == name) {
            let start = header.data_start;
            let data = &bytes[(start + entry.begin) as usize..(start + entry.end) as usize];
            let view = TensorRef::new(entry.dtype, &entry.shape, data).unwrap();
            return view.to_f32().unwrap();
        }
    }
    panic!("{name} was not written");
}

/// The largest weight of a source tensor.
fn largest(store: &Store, module: &str) -> f32 {
    let bytes = &store.source[&format!("{module}.weight")];
    let shape = [bytes.len() / 2];
    let view = TensorRef::new(Dtype::BF16, &shape, bytes).unwrap();
    let values = view.to_f32().unwrap();
    values.iter().fold(0.0, |a, v| v.abs().max(a))
}

#[test]
fn matrices_that_engines_join_share_a_scale() {
    for recipe in ["nvfp4", "nvfp4a4"] {
        let mut store = Store::new();
        finish(&mut store, recipe, &Cpu::single());
        for joined in [
            &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"][..],
            &["mlp.gate_proj", "mlp.up_proj"],
            &["mlp.down_proj"],
            &["self_attn.o_proj"],
        ] {
            let modules = joined.iter().map(|m| format!("model.layers.1.{m}"));
            let modules: Vec<_> = modules.collect();
            let most = modules.iter().map(|m| largest(&store, m));
            let wanted = 1.0 / most.fold(0.0, f32::max) * 2688.0;
            let scale = |m: &String| values(&store, &format!("{m}.weight_global_scale"))[0];
            for module in &modules {
                assert_eq!(scale(module), wanted, "{recipe}: {module}");
            }
            if recipe == "nvfp4a4" {
                let of = |m: &String| values(&store, &format!("{m}.input_global_scale"))[0];
                assert!(of(&modules[0]) > 0.0);
                assert!(
                    modules.iter().all(|m| of(m) == of(&modules[0])),
                    "{joined:?}"
                );
            }
        }
    }
}

#[test]
fn plans_say_what_engines_cannot_join() {
    let store = Store::new();
    let torn = |scheme: &str| {
        let mut request = store.request("mixed");
        request.options.layers = vec![recipes::rule("re:.*k_proj", Some(scheme), None)];
        let plan = Plan::new(&request).unwrap();
        let told = plan
            .warnings
            .iter()
            .find(|w| w.contains("vLLM and SGLang join"));
        told.and_then(|w| Some(w.split_once(": ")?.1.to_string()))
    };
    assert_eq!(torn("w4g32"), None);
    assert_eq!(
        torn("w8g32").unwrap(),
        "model.layers.0.self_attn.q_proj is w4g32, model.layers.0.self_attn.k_proj is w8g32"
    );
}

#[test]
fn an_order_that_readers_refuse_is_told() {
    let store = Store::new();
    let told = |order: &str, format: &str| {
        let mut request = store.request("gptq");
        request.options.act_order = order.into();
        request.options.format = format.into();
        let plan = Plan::new(&request).unwrap();
        plan.warnings.iter().any(|w| w.contains("act-order gar"))
    };
    assert!(told("group", "compressed-tensors"));
    assert!(!told("gar", "compressed-tensors"));
    assert!(!told("group", "gptq"));
}

#[test]
fn formats_follow_schemes() {
    let store = Store::new();
    for (method, scheme, format) in [
        ("rtn", "W4A16", "compressed-tensors"),
        ("rtn", "nf4flat32", "bitsandbytes"),
        ("hqq", "w4g32-float", "hqq"),
    ] {
        let mut request = store.request("rtn");
        request.options.method = method.into();
        request.options.scheme = scheme.replace("W4A16", "w4a16g32");
        request.options.scale_dtype = Some("bf16".into());
        let plan = Plan::new(&request).unwrap();
        assert_eq!(plan.layout.name(), format);
        assert_eq!(plan.effective.format, format);
    }
    // What no format holds is refused as the first would.
    let mut request = store.request("rtn");
    request.options.scheme = "w4b8x8".into();
    assert!(Plan::new(&request).is_err());
}
