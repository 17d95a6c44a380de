//! Conversions against a store in memory: what is exact, bytes, resumption, adapters, refusals.

mod adapters;
mod blocks;
mod cache;
mod joint;
mod machine;
mod pairs;

use super::{Conversion, Request};
use crate::container::safetensors;
use crate::cpu::Cpu;
use crate::error::Result;
use crate::job::request::TensorEntry;
use crate::job::tests::store::{End, Store};
use serde_json::{Value, json};

/// A checkpoint quantized to nearest, as a store that can be converted again.
fn quantized(scheme: &str, format: &str) -> Store {
    let mut store = Store::new();
    let mut request = store.request("rtn");
    request.options.scheme = scheme.into();
    request.options.format = format.into();
    let plan = crate::job::Plan::new(&request).unwrap();
    store.run(&request, &Cpu::single(), usize::MAX).unwrap();
    source_of(&store, &plan.config)
}

/// What was written, as a source.
fn source_of(store: &Store, config: &Value) -> Store {
    let mut next = Store::default();
    next.config = config.clone();
    for bytes in store.files.values() {
        let header = safetensors::parse(bytes, bytes.len() as u64).unwrap();
        for entry in header.entries {
            let at = |n: u64| (header.data_start + n) as usize;
            let data = bytes[at(entry.begin)..at(entry.end)].to_vec();
            next.source.insert(entry.name.clone(), data);
            next.entries.push(TensorEntry {
                name: entry.name,
                dtype: entry.dtype.name().into(),
                shape: entry.shape,
            });
        }
    }
    next
}

fn request(store: &Store, options: &Value) -> Request {
    serde_json::from_value(json!({
        "kind": "convert",
        "config": store.config,
        "tensors": store.entries.iter().map(|t| json!({
            "name": t.name, "dtype": t.dtype, "shape": t.shape,
        })).collect::<Vec<_>>(),
        "options": options,
        "journal": store.journal,
        "maxShardBytes": 40_000,
    }))
    .unwrap()
}

/// Runs a conversion to its end, or kills it after `polls` polls.
fn run(store: &mut Store, request: &Request, cpu: &Cpu, polls: usize) -> Result<End> {
    let mut job = Conversion::open(request)?;
    store.restart();
    for _ in 0..polls {
        if let End::Done(report) = store.step_with(|answer| job.poll(cpu, answer))? {
            return Ok(End::Done(report));
        }
    }
    Ok(End::Killed)
}

/// The converted checkpoint and the report.
fn convert(store: &Store, options: &Value) -> Result<(Store, Value)> {
    let mut store = store.clone();
    let request = request(&store, options);
    let config = super::Plan::new(&request)?.target.config().cloned();
    match run(&mut store, &request, &Cpu::single(), usize::MAX)? {
        End::Done(report) => Ok((source_of(&store, &config.unwrap()), report)),
        End::Killed => unreachable!("it was not stopped"),
    }
}
