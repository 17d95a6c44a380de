//! Quantizations and conversions: requests in, plans and asks out.

use super::device::Gpus;
use super::models::cpu;
use super::parse::{self, from_value};
use super::{Host, Polled};
use crate::convert::{self, Conversion};
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::job::plan::Plan;
use crate::job::request::{Options, Request};
use crate::job::{Ask, Job as CoreJob};
use crate::model::accelerator::Accelerator;
use serde_json::{Value, json};
use std::sync::Arc;

/// What `kind` says; a quantization unless it says otherwise.
fn is_conversion(value: &Value) -> Result<bool> {
    match value.get("kind").and_then(Value::as_str) {
        None | Some("quantize") => Ok(false),
        Some("convert") => Ok(true),
        Some(other) => Err(Error::new(Code::Option, format!("unknown kind {other:?}"))
            .remedy("expected quantize or convert")),
    }
}

/// Reads a request; an unknown option is answered with the nearest.
fn quantization(mut value: Value) -> Result<Request> {
    if let Some(map) = value.as_object_mut() {
        map.remove("kind");
    }
    if let Some(options) = value.get("options") {
        from_value::<Options>("options", options)?;
    }
    from_value("quantization", &value)
}

/// The same for a conversion.
fn conversion(value: &Value) -> Result<convert::Request> {
    if let Some(options) = value.get("options") {
        from_value::<convert::request::Options>("options", options)?;
    }
    from_value("conversion", value)
}

/// Takes `device` out of a request: the GPU if that is what it names.
///
/// `auto` is the CPU: the bytes of calibrated methods depend on the device, and a request should
/// mean the same everywhere.
fn accelerator(host: Host, gpus: &Gpus, value: &mut Value) -> Result<Option<Arc<dyn Accelerator>>> {
    let device = value.as_object_mut().and_then(|map| map.remove("device"));
    match device.as_ref().map(Value::as_str) {
        None | Some(Some("auto" | "cpu")) => Ok(None),
        Some(Some("gpu")) => gpus.accelerator(host).map(Some),
        Some(_) => {
            let what = format!("unknown device {}", device.unwrap_or_default());
            Err(Error::new(Code::Option, what).remedy("expected auto, cpu or gpu"))
        }
    }
}

/// Everything that can be said before a tensor is read.
pub(super) fn plan(host: Host, gpus: &Gpus, text: &str) -> Result<String> {
    let mut value = parse::json("the request", text)?;
    let plan = if is_conversion(&value)? {
        convert::Plan::new(&conversion(&value)?)?.to_json()?
    } else {
        let accelerator = accelerator(host, gpus, &mut value)?;
        let adapter = accelerator.as_deref().map(Accelerator::adapter);
        Plan::on(&quantization(value)?, adapter)?.to_json()
    };
    Ok(plan.to_string())
}

/// Either kind of job.
#[derive(Debug)]
enum Work {
    Quantize(Box<CoreJob>),
    Convert(Box<Conversion>),
}

/// A job and the threads that it computes with.
#[derive(Debug)]
pub(super) struct Job {
    work: Work,
    cpu: Cpu,
}

impl Job {
    pub(super) fn open(host: Host, gpus: &Gpus, text: &str, tokens: Vec<u32>) -> Result<Self> {
        let mut value = parse::json("the request", text)?;
        if is_conversion(&value)? {
            let request = conversion(&value)?;
            let cpu = cpu(host, request.threads, request.isa.as_deref())?;
            let work = Work::Convert(Box::new(Conversion::open(&request)?));
            return Ok(Self { work, cpu });
        }
        let accelerator = accelerator(host, gpus, &mut value)?;
        let request = quantization(value)?;
        let cpu = cpu(host, request.threads, request.isa.as_deref())?;
        let work = Work::Quantize(Box::new(CoreJob::open_on(&request, tokens, accelerator)?));
        Ok(Self { work, cpu })
    }

    pub(super) fn poll(&mut self, answer: Vec<Vec<u8>>) -> Result<Polled> {
        let ask = match &mut self.work {
            Work::Quantize(job) => job.poll(&self.cpu, answer)?,
            Work::Convert(job) => job.poll(&self.cpu, answer)?,
        };
        let (ask, data) = json_of(ask);
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
            "kind": "work", "stage": p.stage, "layer": p.layer,
            "device": p.device, "done": p.done, "total": p.total,
        })),
        Ask::Done { report } => {
            // The report is JSON already; only a bug could make it anything else.
            let report = serde_json::from_str(&report).unwrap_or(Value::String(report));
            plain(json!({"kind": "done", "report": report}))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there_is_refused_before_anything_is_read() {
        let host = Host {
            threads: 1,
            gpu: false,
        };
        let code = |device: Value| {
            let request = json!({ "device": device, "config": {}, "tensors": [] });
            let refused = plan(host, &Gpus::default(), &request.to_string());
            refused.unwrap_err().code
        };
        assert_eq!(code("gpu".into()), Code::NoDevice);
        assert_eq!(code("tpu".into()), Code::Option);
        assert_eq!(code(1.into()), Code::Option);
        // The CPU's plan goes on to the config, which says nothing.
        assert_eq!(code("auto".into()), code("cpu".into()));
        assert!(![Code::NoDevice, Code::Option].contains(&code("cpu".into())));
    }
}
