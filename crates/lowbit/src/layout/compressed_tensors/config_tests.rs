use super::*;
use crate::error::Code;
use crate::layout::compressed_tensors::CURRENT;
use crate::tensor::Dtype;
use serde_json::json;

#[test]
fn config_names_the_fewer_modules() {
    let scheme = |text: &str| text.parse::<Scheme>().unwrap();
    let assignment: Vec<_> = [
        ("a.q", "w4g128"),
        ("a.down", "w8"),
        ("b.q", "w4g128"),
        ("b.down", "w3g64-asym"),
    ]
    .map(|(m, s)| (m.to_string(), scheme(s)))
    .to_vec();
    let config = CURRENT.config(&assignment, &["lm_head".into()], false);
    let targets = |group: &str| &config["config_groups"][group]["targets"];
    assert_eq!(targets("group_0"), &json!(["a.down"]));
    assert_eq!(targets("group_2"), &json!(["Linear"]));
    let read = CURRENT.detect(&config).unwrap().unwrap();
    for (module, scheme) in &assignment {
        assert_eq!(read.scheme(module), Some(*scheme), "{module}");
    }
    assert_eq!(read.scheme("lm_head"), None);
    assert_eq!(read.layout.name(), "compressed-tensors");
    assert_eq!(config["format"], "pack-quantized");
    let ordered = CURRENT.config(&assignment, &[], true);
    assert_eq!(
        ordered["config_groups"]["group_0"]["weights"]["actorder"],
        "group"
    );
}

fn config(weights: &Value, edit: impl Fn(&mut Value)) -> Result<Resolver> {
    let mut config = json!({
        "quant_method": "compressed-tensors", "format": "pack-quantized", "version": "0.19.0",
        "config_groups": { "group_0": { "targets": ["Linear"], "weights": weights } },
        "ignore": ["lm_head"],
    });
    edit(&mut config);
    CURRENT.detect(&config).unwrap()
}

#[test]
fn targets_resolve_by_how_exact_they_are() {
    let group = |targets: Value, bits: u8| json!({ "targets": targets, "weights": { "num_bits": bits, "strategy": "channel" } });
    let read = config(&json!({}), |c| {
        c["config_groups"] = json!({
            "group_0": group(json!(["Linear"]), 2),
            "group_1": group(json!(["re:.*down"]), 4),
            "group_2": group(json!(["a.down"]), 8),
        });
        c["ignore"] = json!(["lm_head", "re:.*vision"]);
    })
    .unwrap();
    let bits = |module: &str| read.scheme(module).map(|s| s.bits);
    assert_eq!(
        [bits("a.down"), bits("b.down"), bits("b.up")],
        [Some(8), Some(4), Some(2)]
    );
    assert_eq!([bits("lm_head"), bits("a.vision.down")], [None, None]);
}

#[test]
fn version_decides_the_stream_of_three_bits() {
    let per_word = |bits: u8, version: Value| {
        let read = config(&json!({ "num_bits": bits, "strategy": "channel" }), |c| {
            c["version"] = version.clone();
        });
        format!("{:?}", read.unwrap().rule("a").unwrap().layout).contains("PerWord")
    };
    assert!(per_word(3, json!("0.17.1")));
    assert!(
        !per_word(3, json!("0.18.0")) && !per_word(3, json!("1.2")) && !per_word(3, Value::Null)
    );
    assert!(!per_word(4, json!("0.9.0.a1")));
}

fn refused(weights: &Value, edit: impl Fn(&mut Value), code: Code, word: &str) {
    let error = config(weights, edit).unwrap_err();
    assert_eq!(error.code, code, "{error}");
    assert!(error.to_string().contains(word), "{error}");
}

#[test]
fn schemes_of_the_cache_are_for_engines() {
    let weights = json!({ "num_bits": 4, "strategy": "group", "group_size": 128 });
    for cache in [
        json!(null),
        json!({"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": false, "symmetric": true}),
        json!({"num_bits": 8, "type": "float", "strategy": "attn_head", "dynamic": false}),
    ] {
        let read = config(&weights, |c| c["kv_cache_scheme"] = cache.clone()).unwrap();
        assert_eq!(read.scheme("q_proj").unwrap().to_string(), "w4g128");
    }
}

#[test]
fn settings_that_cannot_be_followed_are_named() {
    let good = json!({ "num_bits": 4, "strategy": "group", "group_size": 128, "observer": "mse" });
    assert!(config(&good, |_| {}).is_ok());
    let rotations = json!({ "config_groups": {} });
    let rows = [
        (
            "format",
            json!("float-quantized"),
            Code::Unsupported,
            "float-quantized",
        ),
        (
            "kv_cache_scheme",
            json!({"num_bits": 4, "type": "float"}),
            Code::Unsupported,
            "kv_cache",
        ),
        (
            "transform_config",
            rotations,
            Code::Unsupported,
            "rotations",
        ),
        ("ignore", json!([1]), Code::Config, "ignore"),
        ("version", json!("new"), Code::Config, "version"),
    ];
    for (key, value, code, word) in rows {
        refused(&good, |c| c[key] = value.clone(), code, word);
    }
    let activations = |args: Value| {
        move |c: &mut Value| c["config_groups"]["group_0"]["input_activations"] = args.clone()
    };
    for (args, word) in [
        (
            json!({"num_bits": 4, "dynamic": true, "strategy": "token"}),
            "4 bits",
        ),
        (json!({"num_bits": 8, "type": "float"}), "float"),
        (json!({"num_bits": 8, "dynamic": "local"}), "local"),
        (json!({"num_bits": 8, "symmetric": false}), "symmetric"),
        (
            json!({"num_bits": 8, "dynamic": true, "strategy": "tensor"}),
            "tensor",
        ),
        (
            json!({"num_bits": 8, "strategy": "tensor"}),
            "no scale for the inputs",
        ),
        (json!({"num_bits": 8, "colour": 1}), "colour"),
    ] {
        refused(&good, activations(args), Code::Unsupported, word);
    }
}

#[test]
fn weights_that_cannot_be_followed_are_named() {
    let unknown = json!({"num_bits": 4, "strategy": "channel", "colour": 1});
    let rows = [
        (
            json!({"num_bits": 5, "strategy": "channel"}),
            Code::Unsupported,
            "num_bits 5",
        ),
        (
            json!({"num_bits": 8, "type": "complex", "strategy": "channel"}),
            Code::Unsupported,
            "complex",
        ),
        (
            json!({"num_bits": 8, "strategy": "block"}),
            Code::Config,
            "block_structure",
        ),
        (
            json!({"num_bits": 4, "strategy": "group"}),
            Code::Config,
            "group_size",
        ),
        (unknown, Code::Unsupported, "colour"),
    ];
    for (weights, code, word) in rows {
        refused(&weights, |_| {}, code, word);
    }
}

#[test]
fn formats_that_differ_make_a_mixed_checkpoint() {
    let schemes = [
        ("a", "w4g128"),
        ("b", "w8a8"),
        ("c", "fp8a8s"),
        ("d", "w4g128"),
        ("e", "nvfp4"),
    ];
    let assignment: Vec<_> = schemes
        .iter()
        .map(|(m, s)| (m.to_string(), s.parse().unwrap()))
        .collect();
    let config = CURRENT.config(&assignment, &[], false);
    assert_eq!(config["format"], "mixed-precision");
    let formats = config["config_groups"].as_object().unwrap().values();
    let formats: Vec<_> = formats.map(|g| g["format"].as_str().unwrap()).collect();
    let wanted = [
        "int-quantized",
        "float-quantized",
        "nvfp4-pack-quantized",
        "pack-quantized",
    ];
    assert_eq!(formats, wanted);
    let read = CURRENT.detect(&config).unwrap().unwrap();
    for (module, scheme) in &assignment {
        assert_eq!(read.scheme(module), Some(*scheme), "{module}");
        let layout = read.rule(module).unwrap().layout;
        let outputs = layout.outputs(module, scheme, (4, 128), Dtype::F32, false);
        let own = CURRENT.outputs(module, scheme, (4, 128), Dtype::F32, false);
        assert_eq!(outputs, own, "{module}");
    }
}
