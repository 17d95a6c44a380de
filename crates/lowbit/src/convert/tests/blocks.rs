//! Checkpoints whose matrices are blocks of GGUF, as its import lists them.

use super::convert;
use super::machine::up_proj;
use crate::cpu::Cpu;
use crate::error::Code;
use crate::gguf::{Type, encode};
use crate::job::tests::store::Store;
use crate::tensor::{Dtype, f32_from};
use serde_json::json;

/// The test model with every matrix in blocks of a type.
fn blocks(name: &str) -> Store {
    let mut store = Store::new();
    let ty = Type::by_name(name).unwrap();
    for entry in store.entries.iter_mut().filter(|t| t.shape.len() == 2) {
        let Some(bytes) = store.source.get_mut(&entry.name) else {
            continue;
        };
        if entry.name.contains("unknown") {
            continue;
        }
        let mut values = vec![0.0; bytes.len() / 2];
        f32_from(Dtype::BF16, bytes, &mut values).unwrap();
        *bytes = encode(ty, &values, entry.shape[1], None, &Cpu::single()).unwrap();
        entry.dtype = name.into();
    }
    store
}

/// What the blocks of the first `up_proj` stand for.
fn wanted(store: &Store, name: &str) -> Vec<f32> {
    let bytes = &store.source["model.layers.0.mlp.up_proj.weight"];
    let mut values = vec![0.0; 96 * 64];
    f32_from(
        Dtype::Blocks(Type::by_name(name).unwrap()),
        bytes,
        &mut values,
    )
    .unwrap();
    values
}

#[test]
fn blocks_around_their_middle_stay_what_they_are() {
    for (name, scheme) in [("Q4_0", "w4g32"), ("Q8_0", "w8g32")] {
        let store = blocks(name);
        let options = json!({ "format": "compressed-tensors", "exact": true });
        let (next, report) = convert(&store, &options).unwrap();
        let layers = report["layers"].as_array().unwrap();
        let linears = layers.iter().filter(|l| l["scheme"] == scheme);
        assert_eq!(linears.count(), 21, "{name}: {report}");
        // The embedding is floats in every layout.
        assert_eq!((layers.len(), &report["exact"]), (22, &json!(22)), "{name}");
        assert_eq!(up_proj(&next), wanted(&store, name), "{name}");
    }
}

#[test]
fn other_blocks_need_a_scheme_and_are_rounded() {
    let store = blocks("Q4_1");
    let e = convert(&store, &json!({ "format": "awq" })).unwrap_err();
    assert_eq!(e.code, Code::Scheme);
    assert!(
        e.what.contains("Q4_1") && e.remedy.contains("--scheme"),
        "{e}"
    );
    let options = json!({ "format": "awq", "scheme": "w4g32-asym" });
    let (next, report) = convert(&store, &options).unwrap();
    assert_eq!(report["rounded"], 21, "{report}");
    let wanted = wanted(&store, "Q4_1");
    let found = up_proj(&next);
    let error: f32 = found
        .iter()
        .zip(&wanted)
        .map(|(a, b)| (a - b).powi(2))
        .sum();
    let size: f32 = wanted.iter().map(|v| v * v).sum();
    assert!((error / size).sqrt() < 0.12, "{}", (error / size).sqrt());
}

#[test]
fn blocks_become_the_floats_that_they_stand_for() {
    let store = blocks("Q4_1");
    let options = json!({ "format": "float", "dtype": "f32", "exact": true });
    let (next, _) = convert(&store, &options).unwrap();
    assert_eq!(up_proj(&next), wanted(&store, "Q4_1"));
}
