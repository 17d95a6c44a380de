//! Everything about a conversion that can be decided before a tensor is read.

use super::lora::Lora;
use super::request::{Options, Request};
use super::source::Source;
use super::target::{How, Planned, Target};
use super::targets;
use crate::error::{Code, Error, Result};
use crate::job::files::File;
use crate::job::identity::Identity;
use crate::job::pace;
use crate::job::seal::Seal;
use crate::model::joined;
use crate::scheme::Scheme;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::Range;

/// A checked conversion.
#[derive(Debug)]
pub struct Plan {
    /// The checkpoint.
    pub source: Source,
    /// What is made of it.
    pub target: Box<dyn Target>,
    /// As asked for.
    pub options: Options,
    /// What a resumed run must agree on.
    pub identity: Identity,
    /// Name and wants of every unit of the journal.
    pub(super) units: Vec<(String, Range<usize>)>,
}

impl Plan {
    /// Checks a request; every error that the user can make surfaces here, but for values that do
    /// not fit.
    ///
    /// Codes: as in `Source::new` and those of the target; with `exact`, `scheme` names the first
    /// matrix whose values would change, and `option` refuses an adapter.
    pub fn new(request: &Request) -> Result<Self> {
        if request.options.exact && request.adapter.is_some() {
            let what = "exact with an adapter, whose merging changes values";
            return Err(Error::new(Code::Option, what).remedy("leave out one of them"));
        }
        let lora = request.adapter.as_ref().map(Lora::new).transpose()?;
        let source = Source::new(&request.config, &request.tensors, lora)?;
        let target = targets::make(request, &source)?;
        if request.options.exact {
            refuse_rounding(target.planned())?;
        }
        let units = units(target.as_ref());
        Ok(Self {
            identity: identity(request),
            options: request.options.clone(),
            source,
            target,
            units,
        })
    }

    /// Names of the units, as the journal has them.
    pub(super) fn unit_names(&self) -> Vec<String> {
        self.units.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Work of a run of wants.
    pub(super) fn work(&self, wants: Range<usize>) -> u64 {
        self.target.wants()[wants].iter().map(|w| w.work).sum()
    }

    /// Work in all.
    pub(super) fn total_work(&self) -> u64 {
        self.work(0..self.target.wants().len()) + Seal::work(self.target.files())
    }

    /// Bytes of all output files.
    pub fn output_bytes(&self) -> u64 {
        self.target.files().list.iter().map(|f| f.bytes).sum()
    }

    /// Most memory: the largest matrix as stored, what the target holds, pieces on their way.
    fn memory_bytes(&self) -> Result<u64> {
        let mut largest = 0;
        for tensor in self
            .source
            .tensors
            .iter()
            .filter(|t| t.quantized().is_some())
        {
            largest = tensor.stored_bytes()?.max(largest);
        }
        Ok(2 * largest + self.target.memory_bytes() + 4 * pace::PIECE_BYTES)
    }

    /// The plan as the port gives it out.
    pub fn to_json(&self) -> Result<Value> {
        let files = self.target.files();
        let file = |f: &File| json!({ "file": f.name, "bytes": f.bytes });
        let planned = self.target.planned();
        let config = self.target.config().map(|c| format!("{c:#}\n"));
        let quantized = planned.iter().filter(|p| p.to.parse::<Scheme>().is_ok());
        let quantized: BTreeMap<_, _> = quantized.map(|p| (&*p.name, &p.to)).collect();
        let scheme = |module: &str| quantized.get(module).map(|to| (*to).clone());
        let model = self.source.model.as_ref();
        let mut out = json!({
            "kind": "convert",
            "layers": planned.iter().map(layer).collect::<Vec<_>>(),
            "ignored": self.source.float_linears(|module| quantized.contains_key(module)),
            "torn": model.and_then(|model| joined::torn(model, scheme)),
            "outputs": files.list.iter().map(file).collect::<Vec<_>>(),
            "bitsPerWeight": self.target.bits_per_weight(),
            "memoryPeakBytes": self.memory_bytes()?,
            "scratchBytes": 0,
            "outputBytes": self.output_bytes(),
            "needsCalibration": false,
            "workUnits": pace::units(self.total_work()),
            "fingerprint": self.identity.fingerprint(),
            "config": config,
            "warnings": self.target.warnings(),
        });
        if let Some(index) = &files.index {
            out["index"] = json!(index);
        }
        Ok(out)
    }
}

fn layer(p: &Planned) -> Value {
    json!({
        "name": p.name,
        "rows": p.shape.0,
        "cols": p.shape.1,
        "from": p.from,
        "scheme": p.to,
        "how": p.how.name(),
        "why": p.why,
    })
}

fn refuse_rounding(planned: &[Planned]) -> Result<()> {
    match planned.iter().find(|p| p.how == How::Rounded) {
        None => Ok(()),
        Some(p) => {
            let what = format!("{} → {} changes values: {}", p.from, p.to, p.why);
            Err(Error::new(Code::Scheme, what)
                .at(format!("module {:?}", p.name))
                .remedy("leave out --exact to have it rounded"))
        }
    }
}

/// Runs of wants with the same unit.
fn units(target: &dyn Target) -> Vec<(String, Range<usize>)> {
    let mut units: Vec<(String, Range<usize>)> = Vec::new();
    for (i, want) in target.wants().iter().enumerate() {
        match units.last_mut() {
            Some((name, wants)) if *name == want.unit => wants.end = i + 1,
            _ => units.push((want.unit.clone(), i..i + 1)),
        }
    }
    units
}

fn identity(request: &Request) -> Identity {
    let mut facts = vec![("kind".to_owned(), "convert".to_owned())];
    facts.extend(request.options.facts());
    let shards = format!("{:?}", request.max_shard_bytes);
    facts.push(("option maxShardBytes".into(), shards));
    if let Some(adapter) = &request.adapter {
        facts.push(("adapter".into(), adapter.fingerprint()));
    }
    if let Some(gguf) = &request.gguf {
        facts.push(("gguf".into(), gguf.fingerprint()));
    }
    for (file, identity) in &request.identities {
        facts.push((format!("source file {file:?}"), identity.clone()));
    }
    Identity::of_facts(&request.config, &request.tensors, facts)
}
