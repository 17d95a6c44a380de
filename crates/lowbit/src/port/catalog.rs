//! What this build can do, as data for options, help and checks.

use super::Host;
use crate::cpu::{Compute, Isa};
use crate::error::Code;
use crate::model::arch::ARCHS;
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
        "architectures": architectures(),
        "computes": computes,
        "codes": codes(),
    })
    .to_string()
}

fn architectures() -> Value {
    let row = |arch: &&crate::model::arch::Arch| json!({"name": arch.name, "modelTypes": arch.model_types});
    ARCHS.iter().map(row).collect()
}

fn codes() -> Value {
    let row = |code: &Code| json!({"name": code.name(), "about": code.about()});
    Code::ALL.iter().map(row).collect()
}
