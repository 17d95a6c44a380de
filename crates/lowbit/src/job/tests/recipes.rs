//! Recipes that tests run: every method and every chain of steps.

use crate::job::recipe::{Awq, LayerRule, Prune, Rotate, SmoothQuant, Transform};
use crate::job::request::Options;

/// Names of all recipes.
pub(super) const ALL: &[&str] = &[
    "rtn",
    "gptq",
    "hqq",
    "rotate+rtn",
    "rotate+gptq",
    "awq+gptq",
    "smoothquant+gptq",
    "smoothquant+w8a8",
    "smoothquant+w8a8s",
    "fp8",
    "wanda+rtn",
    "sparsegpt+gptq",
    "magnitude+rtn",
    "mixed",
    "true-sequential",
    "gar",
    "nvfp4",
    "nvfp4a4",
    "cache+rtn",
    "cache+gptq",
];

/// A rule for the layers that a pattern fits.
pub(super) fn rule(pattern: &str, scheme: Option<&str>, method: Option<&str>) -> LayerRule {
    LayerRule {
        pattern: pattern.into(),
        scheme: scheme.map(Into::into),
        method: method.map(Into::into),
    }
}

/// The options of a recipe; w4g32 unless it says otherwise.
pub(super) fn options(name: &str) -> Options {
    let mut options = Options {
        scheme: "w4g32".into(),
        ..Options::default()
    };
    let (steps, method) = name.rsplit_once('+').unwrap_or(("", name));
    options.method = match method {
        "mixed" | "true-sequential" | "gar" | "w8a8" | "w8a8s" => "gptq".into(),
        "fp8" | "nvfp4" | "nvfp4a4" => "rtn".into(),
        other => other.into(),
    };
    let prune = |method: &str, pattern: Option<&str>| Prune {
        method: method.into(),
        sparsity: 0.5,
        pattern: pattern.map(Into::into),
        ignore: Vec::new(),
    };
    match steps {
        "rotate" => options.transforms = vec![Transform::Rotate(Rotate::default())],
        "awq" => options.transforms = vec![Transform::Awq(Awq::default())],
        "smoothquant" => {
            options.transforms = vec![Transform::SmoothQuant(SmoothQuant::default())];
            options.scheme = if method == "gptq" { "w8" } else { method }.into();
        }
        "wanda" => options.prune = Some(prune("wanda", None)),
        "sparsegpt" => options.prune = Some(prune("sparsegpt", Some("2:4"))),
        "magnitude" => options.prune = Some(prune("magnitude", Some("2:4"))),
        "cache" if method == "gptq" => options.kv_cache = Some("fp8-head".into()),
        "cache" => options.kv_cache = Some("fp8".into()),
        _ => {}
    }
    match name {
        "mixed" => {
            options.layers = vec![
                rule("re:.*down_proj", Some("w8g32"), None),
                rule("re:.*k_proj", Some("w4g32-asym"), Some("hqq")),
                rule("re:.*v_proj", None, Some("rtn")),
            ];
        }
        "fp8" => options.scheme = "fp8a8".into(),
        "nvfp4" | "nvfp4a4" => options.scheme = name.into(),
        "hqq" => options.scheme = "w4g32-asym".into(),
        "true-sequential" => options.true_sequential = true,
        "gar" => {
            options.act_order = "gar".into();
            options.layers = vec![rule("re:.*v_proj", Some("w4g16"), None)];
        }
        _ => {}
    }
    options
}
