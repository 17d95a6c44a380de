//! What runs where: checkpoints, and the schemes and types of every format.

use crate::error::Result;
use crate::gguf::types::TYPES;
use crate::gguf::{Type, bridge};
use crate::kernels::matmul::has_shader;
use crate::layout::{LAYOUTS, Layout, Resolver};
use crate::model::blocks;
use crate::model::load::{Loader, Source};
use crate::scheme::Scheme;
use crate::tensor::Dtype;
use serde_json::{Value, json};

/// JSON `{ cpu, gpu }`: why a checkpoint does not run there, as its headers say; null where it does.
pub(super) fn runs(source: &Source, loader: &Result<Loader>) -> Value {
    match loader {
        Err(error) => json!({ "cpu": error.to_string(), "gpu": error.to_string() }),
        Ok(loader) => json!({ "cpu": null, "gpu": gpu_problem(loader, source) }),
    }
}

fn gpu_problem(loader: &Loader, source: &Source) -> Option<String> {
    let schemes = loader.resolver().into_iter().flat_map(Resolver::schemes);
    let scheme = schemes.filter(|s| !has_shader(s)).map(Scheme::to_string);
    let types = blocks::types(&source.tensors).into_iter();
    let ty = types.filter(|ty| !bridge::has_shader(ty)).map(|ty| ty.name);
    let first = scheme.chain(ty.map(str::to_string)).next();
    let why = first.map(|name| format!("there is no shader for {name}; use device \"cpu\""));
    why.or_else(|| supports(loader.config()).err().map(|e| e.to_string()))
}

#[cfg(feature = "gpu")]
use crate::gpu::supports;

#[cfg(not(feature = "gpu"))]
fn supports(_: &crate::model::config::Config) -> Result<()> {
    use crate::error::{Code, Error};
    Err(Error::new(Code::NoDevice, "this build has no GPU"))
}

/// Schemes of every kind, to ask formats and shaders about.
const KINDS: &[&str] = &[
    "w2g64",
    "w3g128",
    "w4g128",
    "w8g128",
    "w8",
    "w2g64-asym",
    "w3g128-asym",
    "w4g128-asym",
    "w8g128-asym",
    "w8-asym",
    "w2g64-float",
    "w3g64-float",
    "w4g64-float",
    "w8g64-float",
    "w8a8",
    "w8a8s",
    "w4a8g128",
    "fp8",
    "fp8a8",
    "fp8a8s",
    "fp8b128x128",
    "fp8a8b128x128",
    "nf4",
    "nf4-dq",
    "fp4",
    "fp4-dq",
    "nvfp4",
    "nvfp4a4",
    "mxfp4",
    "aqlm",
];

/// Every format with what it can hold: `{ name, about, read, write, schemes }`, of each scheme
/// `{ name, read, write, gpu }`, where `gpu` says that there is a shader for it.
pub(super) fn formats() -> Value {
    let layouts = LAYOUTS
        .iter()
        .map(|l| row(l.name(), l.about(), &layout(*l)));
    let plain = row("safetensors", "floats, as models are trained", &plain());
    let blocks: Vec<_> = TYPES.iter().map(|ty| block(ty)).collect();
    let gguf = row("gguf", "llama.cpp's blocks", &blocks);
    layouts.chain([plain, gguf]).collect()
}

fn row(name: &str, about: &str, schemes: &[Value]) -> Value {
    let any = |key: &str| schemes.iter().any(|s| s[key] == true);
    let (read, write) = (any("read"), any("write"));
    json!({ "name": name, "about": about, "read": read, "write": write, "schemes": schemes })
}

fn layout(layout: &dyn Layout) -> Vec<Value> {
    let schemes = KINDS.iter().filter_map(|name| name.parse::<Scheme>().ok());
    let held = schemes.filter(|scheme| layout.reads(scheme));
    let write = layout.is_written();
    let row = |s: Scheme| json!({ "name": s.to_string(), "read": true, "write": write, "gpu": has_shader(&s) });
    held.map(row).collect()
}

fn plain() -> Vec<Value> {
    let floats = [Dtype::F32, Dtype::F16, Dtype::BF16].iter();
    let row = |d: &Dtype| json!({ "name": d.name(), "read": true, "write": true, "gpu": true });
    floats.map(row).collect()
}

fn block(ty: &'static Type) -> Value {
    let is_plain = Dtype::ALL.iter().any(|d| d.name() == ty.name);
    let (read, write) = (ty.codec.is_some(), ty.codec.is_some_and(|c| c.writes()));
    let gpu = read && (is_plain || bridge::has_shader(ty));
    json!({ "name": ty.name, "read": read, "write": write, "gpu": gpu })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::load::TensorInfo;

    fn source(config: Value) -> Source {
        let tensors = vec![TensorInfo {
            name: "model.embed_tokens.weight".into(),
            dtype: Dtype::BF16,
            shape: vec![8, 4],
        }];
        Source { tensors, config }
    }

    #[test]
    fn what_no_class_knows_runs_nowhere() {
        let source = source(json!({ "model_type": "unheard-of" }));
        let found = runs(&source, &Loader::new(&source));
        for device in ["cpu", "gpu"] {
            let why = found[device].as_str().expect("a reason");
            assert!(why.contains("unheard-of"), "{why}");
        }
    }

    #[test]
    fn every_kind_parses_and_is_held_by_some_format() {
        for name in KINDS {
            let scheme: Scheme = name.parse().expect(name);
            let held = LAYOUTS.iter().any(|l| l.reads(&scheme));
            assert!(held, "{name} is in no format");
        }
    }

    #[test]
    fn formats_say_what_runs_on_a_gpu() {
        let all = formats();
        let gpu = |format: &str, scheme: &str| {
            let rows = all.as_array().expect("rows");
            let row = rows.iter().find(|r| r["name"] == format).expect(format);
            let schemes = row["schemes"].as_array().expect("schemes");
            let found = schemes.iter().find(|s| s["name"] == scheme).expect(scheme);
            found["gpu"].as_bool().expect("a truth")
        };
        assert!(gpu("compressed-tensors", "w4g128") && gpu("gguf", "Q8_0"));
        assert!(!gpu("compressed-tensors", "fp8a8") && !gpu("hqq", "w4g64-float"));
    }
}
