//! Scales of the KV cache through conversions.

use super::{convert, source_of};
use crate::cpu::Cpu;
use crate::job::tests::store::Store;
use crate::kv_cache::is_scale;
use serde_json::json;

/// A checkpoint with scales of its cache.
fn cached() -> Store {
    let mut store = Store::new();
    let mut request = store.request("rtn");
    request.options.scheme = "w4g32".into();
    request.options.kv_cache = Some("fp8-head".into());
    let plan = crate::job::Plan::new(&request).unwrap();
    store.run(&request, &Cpu::single(), usize::MAX).unwrap();
    source_of(&store, &plan.config)
}

fn scales(store: &Store) -> Vec<(&String, &Vec<u8>)> {
    store
        .source
        .iter()
        .filter(|(name, _)| is_scale(name))
        .collect()
}

#[test]
fn compressed_tensors_keeps_them_and_others_say_that_they_are_gone() {
    let source = cached();
    assert_eq!(scales(&source).len(), 6);
    let scheme = |store: &Store| store.config["quantization_config"]["kv_cache_scheme"].clone();
    let options = json!({ "format": "compressed-tensors", "scheme": "w8g32" });
    let (kept, report) = convert(&source, &options).unwrap();
    assert_eq!(scales(&kept), scales(&source));
    assert_eq!(scheme(&kept), scheme(&source));
    assert_eq!(scheme(&kept)["strategy"], "attn_head");
    assert_eq!(report["warnings"], json!([]));
    for (format, dtype) in [("gptq-v2", None), ("float", Some("bf16"))] {
        let (other, report) =
            convert(&source, &json!({ "format": format, "dtype": dtype })).unwrap();
        assert!(scales(&other).is_empty(), "{format}");
        let said = format!(
            "scales of the KV cache (fp8-head) are left out: format {format} has no place for them"
        );
        let warnings = report["warnings"].as_array().unwrap();
        assert!(warnings.contains(&json!(said)), "{format}: {warnings:?}");
        assert!(other.source.contains_key("model.mtp.unknown"), "{format}");
    }
}
