use super::super::*;
use crate::error::Code;
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
    let ordered = CURRENT.config(&assignment, &[], true);
    assert_eq!(
        ordered["config_groups"]["group_0"]["weights"]["actorder"],
        "group"
    );
}

fn config(weights: Value, edit: impl Fn(&mut Value)) -> Result<Resolver> {
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
    let read = config(json!({}), |c| {
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
        let read = config(json!({ "num_bits": bits, "strategy": "channel" }), |c| {
            c["version"] = version.clone();
        });
        format!("{:?}", read.unwrap().layout).contains("PerWord")
    };
    assert!(per_word(3, json!("0.17.1")));
    assert!(
        !per_word(3, json!("0.18.0")) && !per_word(3, json!("1.2")) && !per_word(3, Value::Null)
    );
    assert!(!per_word(4, json!("0.9.0.a1")));
}

#[test]
fn what_cannot_be_followed_is_named() {
    let refused = |weights: Value, edit: &dyn Fn(&mut Value), code: Code, word: &str| {
        let error = config(weights, edit).unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    };
    let good = json!({ "num_bits": 4, "strategy": "group", "group_size": 128, "observer": "mse" });
    assert!(config(good.clone(), |_| {}).is_ok());
    refused(
        good.clone(),
        &|c| c["format"] = json!("int-quantized"),
        Code::Unsupported,
        "int-quantized",
    );
    refused(
        good.clone(),
        &|c| c["kv_cache_scheme"] = json!({"num_bits": 8}),
        Code::Unsupported,
        "kv_cache",
    );
    refused(
        good.clone(),
        &|c| c["transform_config"] = json!({"config_groups": {}}),
        Code::Unsupported,
        "rotations",
    );
    let activations =
        |c: &mut Value| c["config_groups"]["group_0"]["input_activations"] = json!({"num_bits": 8});
    refused(good.clone(), &activations, Code::Unsupported, "activations");
    refused(
        good.clone(),
        &|c| c["ignore"] = json!([1]),
        Code::Config,
        "ignore",
    );
    refused(
        good,
        &|c| c["version"] = json!("new"),
        Code::Config,
        "version",
    );
    refused(
        json!({"num_bits": 5, "strategy": "channel"}),
        &|_| {},
        Code::Unsupported,
        "num_bits 5",
    );
    refused(
        json!({"num_bits": 8, "type": "float"}),
        &|_| {},
        Code::Unsupported,
        "float",
    );
    refused(
        json!({"num_bits": 8, "strategy": "block"}),
        &|_| {},
        Code::Unsupported,
        "block",
    );
    refused(
        json!({"num_bits": 4, "strategy": "group"}),
        &|_| {},
        Code::Config,
        "group_size",
    );
    refused(
        json!({"num_bits": 4, "strategy": "channel", "colour": 1}),
        &|_| {},
        Code::Unsupported,
        "colour",
    );
}
