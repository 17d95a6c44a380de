//! What a resumed run must have in common with the one that it goes on from.

use super::request::{Calibration, Request, TensorEntry};
use crate::cpu::Isa;
use crate::error::{Code, Error, Result};
use crate::model::accelerator::Adapter;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Name of the fact that only methods have whose bytes depend on it.
const ISA: &str = "instruction set";

/// Named facts about a run; the bytes of the result are a function of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    fields: Vec<(String, String)>,
}

impl Identity {
    /// Everything but the calibration tokens, which only `Job::open` gets; `isa` when bytes depend
    /// on it, `device` when they depend on an accelerator too.
    pub(crate) fn new(
        request: &Request,
        isa: Option<Isa>,
        device: Option<&Adapter>,
        calibration: Option<Calibration>,
    ) -> Self {
        let mut fields = vec![
            field("tool version", env!("CARGO_PKG_VERSION")),
            field("model", &model_sha256(&request.config, &request.tensors)),
            field(
                "option maxShardBytes",
                &format!("{:?}", request.max_shard_bytes),
            ),
        ];
        for (name, value) in request.effective().fields() {
            let text = value.as_str().map_or_else(|| value.to_string(), Into::into);
            fields.push(field(&format!("option {name}"), &text));
        }
        if let Some(isa) = isa {
            // Bytes of methods that compute with activations or rotations depend on how sums are
            // vectorized.
            fields.push(field(ISA, isa.name()));
            let device = device.map_or("cpu".into(), Adapter::identity);
            fields.push(field("device", &device));
        }
        if let Some(set) = calibration {
            fields.push(field("option samples", &set.samples.to_string()));
            fields.push(field("option length", &set.length.to_string()));
        }
        if let Some(imatrix) = &request.imatrix {
            let hash = hex(Sha256::new_with_prefix(&imatrix.base64));
            fields.push(field("importance matrix", &hash));
        }
        for (file, identity) in &request.identities {
            fields.push(field(&format!("source file {file:?}"), identity));
        }
        Self { fields }
    }

    /// The facts of a run without calibration: the model and what is done with it.
    pub(crate) fn of_facts(
        config: &Value,
        tensors: &[TensorEntry],
        facts: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let own = [
            field("tool version", env!("CARGO_PKG_VERSION")),
            field("model", &model_sha256(config, tensors)),
        ];
        Self {
            fields: own.into_iter().chain(facts).collect(),
        }
    }

    /// Adds the calibration tokens.
    pub(crate) fn with_tokens(mut self, tokens: &[u32]) -> Self {
        let mut hash = Sha256::new();
        for token in tokens {
            hash.update(token.to_le_bytes());
        }
        self.fields.push(field("calibration text", &hex(hash)));
        self
    }

    /// `option` when the run was planned for another instruction set than it is given.
    pub(crate) fn check_isa(&self, isa: Isa) -> Result<()> {
        let planned = self.fields.iter().find(|(n, _)| n == ISA);
        match planned.filter(|(_, name)| name != isa.name()) {
            Some((_, name)) => {
                let what = format!("the job was opened for {name} and runs on {}", isa.name());
                Err(Error::new(Code::Option, what))
            }
            None => Ok(()),
        }
    }

    /// SHA-256 over all facts, in hexadecimal.
    pub fn fingerprint(&self) -> String {
        hex(Sha256::new_with_prefix(self.to_json().to_string()))
    }

    /// The facts as a list of pairs.
    pub(crate) fn to_json(&self) -> Value {
        json!(self.fields)
    }

    /// `resume-mismatch` naming the first fact that differs from a journal's.
    pub(crate) fn check(&self, journal: &Value) -> Result<()> {
        let earlier: Vec<(String, String)> =
            serde_json::from_value(journal.clone()).map_err(|e| {
                Error::new(
                    Code::ResumeCorrupt,
                    format!("the journal's first line: {e}"),
                )
                .remedy("start again with --fresh")
            })?;
        let of = |list: &[(String, String)], name: &str| {
            let found = list.iter().find(|(n, _)| n == name);
            found.map_or("absent".to_string(), |(_, v)| format!("{v:?}"))
        };
        let names = self.fields.iter().chain(&earlier).map(|(name, _)| name);
        for name in names {
            let (then, now) = (of(&earlier, name), of(&self.fields, name));
            if then != now {
                let what = format!("{name} was {then} and is {now}");
                return Err(Error::new(Code::ResumeMismatch, what)
                    .at("the journal of the unfinished run")
                    .remedy("use the same again, or start over with --fresh"));
            }
        }
        Ok(())
    }
}

fn field(name: &str, value: &str) -> (String, String) {
    (name.into(), value.into())
}

/// SHA-256 over config.json and the names, types and shapes of all tensors.
pub(crate) fn model_sha256(config: &Value, tensors: &[TensorEntry]) -> String {
    let mut hash = Sha256::new_with_prefix(config.to_string());
    for t in tensors {
        hash.update(json!([t.name, t.dtype, t.shape]).to_string());
    }
    hex(hash)
}

/// The digest in hexadecimal.
pub(crate) fn hex(hash: Sha256) -> String {
    let digits = |b: u8| [b >> 4, b & 15].map(|d| char::from(b"0123456789abcdef"[d as usize]));
    hash.finalize().into_iter().flat_map(digits).collect()
}
