//! Quantization jobs: requests in, plans and asks out.

use super::models::cpu;
use super::parse::{self, from_value};
use super::{Host, Polled};
use crate::cpu::Cpu;
use crate::error::Result;
use crate::job::plan::Plan;
use crate::job::request::{Options, Request};
use crate::job::{Ask, Job as CoreJob};
use serde_json::{Value, json};

/// Reads a request; an unknown option is answered with the nearest.
fn request(text: &str) -> Result<Request> {
    let value = parse::json("quantization", text)?;
    if let Some(options) = value.get("options") {
        from_value::<Options>("options", options)?;
    }
    from_value("quantization", &value)
}

/// Everything that can be said before a tensor is read.
pub(super) fn plan(text: &str) -> Result<String> {
    Ok(Plan::new(&request(text)?)?.to_json().to_string())
}

/// A job and the threads that it computes with.
#[derive(Debug)]
pub(super) struct Job {
    job: CoreJob,
    cpu: Cpu,
}

impl Job {
    pub(super) fn open(host: Host, text: &str, tokens: Vec<u32>) -> Result<Self> {
        let request = request(text)?;
        let cpu = cpu(host, request.threads, request.isa.as_deref())?;
        let job = CoreJob::open(&request, tokens)?;
        Ok(Self { job, cpu })
    }

    pub(super) fn poll(&mut self, answer: Vec<Vec<u8>>) -> Result<Polled> {
        let (ask, data) = json_of(self.job.poll(&self.cpu, answer)?);
        Ok(Polled {
            ask: ask.to_string(),
            data: data.into_iter().collect(),
        })
    }
}

/// An ask as JSON, and the bytes that belong to it.
fn json_of(ask: Ask) -> (Value, Option<Vec<u8>>) {
    let plain = |json| (json, None);
    match ask {
        Ask::Read { tensors } => plain(json!({"kind": "read", "tensors": tensors})),
        Ask::ReadRange {
            tensor,
            offset,
            len,
        } => plain(json!({"kind": "readRange", "tensor": tensor, "offset": offset, "len": len})),
        Ask::ReadScratch { name, offset, len } => {
            plain(json!({"kind": "readScratch", "name": name, "offset": offset, "len": len}))
        }
        Ask::ReadOutput { name, offset, len } => {
            plain(json!({"kind": "readOutput", "name": name, "offset": offset, "len": len}))
        }
        Ask::WriteScratch {
            name,
            offset,
            bytes,
        } => (
            json!({"kind": "writeScratch", "name": name, "offset": offset}),
            Some(bytes),
        ),
        Ask::Write {
            name,
            total,
            offset,
            bytes,
        } => (
            json!({"kind": "write", "name": name, "total": total, "offset": offset}),
            Some(bytes),
        ),
        Ask::Journal { line } => plain(json!({"kind": "journal", "line": line})),
        Ask::Work(p) => plain(json!({
            "kind": "work", "stage": p.stage, "layer": p.layer, "done": p.done, "total": p.total,
        })),
        Ask::Done { report } => {
            // The report is JSON already; only a bug could make it anything else.
            let report = serde_json::from_str(&report).unwrap_or(Value::String(report));
            plain(json!({"kind": "done", "report": report}))
        }
    }
}
