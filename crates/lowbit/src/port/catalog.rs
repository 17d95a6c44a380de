//! What this build can do, as data for options, help and checks.

use super::Host;
use super::runs::formats;
use crate::cpu::{Compute, Isa};
use crate::error::Code;
use crate::gguf::mix::MIXES;
use crate::model::arch::ARCHS;
use crate::round::{Method, ROUNDERS};
use crate::scheme::PRESETS;
use serde_json::{Value, json};

pub(super) fn json(host: Host) -> String {
    let isas = Isa::ALL.iter().filter(|(_, isa)| isa.available());
    let isas: Vec<&str> = isas.map(|(name, _)| *name).collect();
    let computes: Vec<&str> = Compute::ALL.iter().map(|(name, _)| *name).collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "host": {
            "arch": std::env::consts::ARCH,
            "isa": Isa::detect().name(),
            "isas": isas,
            "threadsMax": host.threads,
            "gpu": host.gpu && cfg!(feature = "gpu"),
        },
        "methods": methods(),
        "formats": formats(),
        "architectures": architectures(),
        "schemes": SCHEMES,
        "presets": presets(),
        "ggufSchemes": MIXES.iter().map(|m| m.name).collect::<Vec<_>>(),
        "computes": computes,
        "codes": codes(),
    })
    .to_string()
}

/// Schemes that people ask for most; others are spelt the same way.
const SCHEMES: &[&str] = &[
    "w4g128",
    "w4g128-asym",
    "w4g64",
    "w4g32",
    "w3g128",
    "w8g128",
    "w8",
];

fn methods() -> Value {
    let row = |r: &Method| json!({"name": r.name, "about": r.about, "needsCalibration": r.needs_calibration});
    ROUNDERS.iter().map(row).collect()
}

/// llm-compressor's names for schemes.
fn presets() -> Value {
    let row = |(name, scheme): &(&str, &str)| json!({"name": name, "scheme": scheme});
    PRESETS.iter().map(row).collect()
}

fn architectures() -> Value {
    let row = |arch: &&crate::model::arch::Arch| json!({"name": arch.name, "modelTypes": arch.model_types});
    ARCHS.iter().map(row).collect()
}

fn codes() -> Value {
    let row = |code: &Code| json!({"name": code.name(), "about": code.about()});
    Code::ALL.iter().map(row).collect()
}
