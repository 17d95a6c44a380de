//! Models on their way from a checkpoint's tensors to an engine.

use super::caches::Caching;
use super::device::Gpus;
use super::parse::{from_value, parse};
use super::placement::Placement;
use super::{Host, Polled};
use crate::cpu::{Compute, Cpu, Isa};
use crate::error::{Code, Error, Result, nearest};
use crate::gguf::bridge;
use crate::kernels::matmul::has_shader;
use crate::model::blocks;
use crate::model::head::Head;
use crate::model::load::{Loader, Source, TensorInfo};
use crate::session::Engine;
use crate::tensor::{Dtype, Tensor, checked_bytes};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A checkpoint's headers and how its model is to run.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ModelRequest {
    config: Value,
    tensors: Vec<Value>,
    #[serde(default)]
    device: Option<String>,
    #[serde(default)]
    compute: Option<String>,
    #[serde(default)]
    gpu_layers: Option<usize>,
    #[serde(default)]
    threads: Option<usize>,
    #[serde(default)]
    isa: Option<String>,
    #[serde(default)]
    context: Option<usize>,
    #[serde(default)]
    kv_cache: Option<String>,
}

/// A tensor as a header lists it.
#[derive(Debug, Deserialize)]
pub(super) struct TensorRequest {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    #[serde(default)]
    #[expect(dead_code, reason = "which shard holds it is the caller's to know")]
    file: Option<String>,
}

/// Reads the list of a checkpoint's tensors.
pub(super) fn tensors(list: Vec<Value>) -> Result<Vec<TensorInfo>> {
    let one = |value| {
        let t: TensorRequest = from_value("tensors", &value)?;
        let dtype =
            Dtype::parse_stored(&t.dtype).map_err(|e| e.at(format!("tensor {:?}", t.name)))?;
        Ok(TensorInfo {
            name: t.name,
            dtype,
            shape: t.shape,
        })
    };
    list.into_iter().map(one).collect()
}

/// Instruction set and threads as a request asks for them.
pub(super) fn cpu(host: Host, threads: Option<usize>, isa: Option<&str>) -> Result<Cpu> {
    let isa = isa.map_or(Ok(Isa::detect()), Isa::parse)?;
    let threads = threads.unwrap_or(host.threads);
    if !(1..=1024).contains(&threads) {
        let what = format!("threads is {threads}");
        return Err(Error::new(Code::Option, what).remedy("use 1 to 1024"));
    }
    Cpu::new(isa, threads)
}

/// Whether integer dot products beat f32 sums here; simd128 has none worth it.
fn int8_pays(isa: Isa) -> bool {
    matches!(isa, Isa::Neon | Isa::Avx2 | Isa::Avx512)
}

/// One of a few names; `option` names the nearest.
fn choice<'a>(what: &str, value: Option<&str>, known: &[&'a str]) -> Result<&'a str> {
    let value = value.unwrap_or(known[0]);
    if let Some(name) = known.iter().find(|k| **k == value) {
        return Ok(name);
    }
    let near = nearest(value, known.iter().copied()).unwrap_or(known[0]);
    let error = Error::new(Code::Option, format!("unknown {what} {value:?}"));
    Err(error.remedy(format!("did you mean {near:?}?")))
}

/// The device of a model that writes text; others are embedded and classified on the CPU, and
/// asking for a GPU is `unsupported`.
fn placed<'a>(device: &'a str, loader: &Loader) -> Result<&'a str> {
    if loader.head() != Head::None {
        return Ok(device);
    }
    if device != "gpu" {
        return Ok("cpu");
    }
    let name = loader.config().arch().name;
    let what = format!("{name} without an output head on the GPU: it embeds and classifies");
    Err(Error::new(Code::Unsupported, what).remedy("use device \"cpu\""))
}

/// What a model can be asked for.
fn tasks(loader: &Loader) -> Vec<&'static str> {
    let generates = (loader.head() != Head::None).then_some("generate");
    let classifies = (loader.config().labels > 0).then_some("classify");
    let all = [generates, Some("embed"), classifies];
    all.into_iter().flatten().collect()
}

/// A model that is being loaded.
#[derive(Debug)]
pub(super) struct Loading {
    loader: Loader,
    infos: BTreeMap<String, TensorInfo>,
    asked: Vec<String>,
    placed: usize,
    placement: Placement,
    context: usize,
    cache: Option<Caching>,
}

impl Loading {
    /// Checks everything that can be checked before a tensor is read.
    pub(super) async fn open(host: Host, gpus: &Gpus, request: &str) -> Result<Self> {
        let r: ModelRequest = parse("model", request)?;
        let cpu = cpu(host, r.threads, r.isa.as_deref())?;
        let device = choice("device", r.device.as_deref(), &["auto", "cpu", "gpu"])?;
        let compute = choice("compute", r.compute.as_deref(), &["auto", "f32", "int8"])?;
        let by_config = r.config.get("quantization_config").is_some();
        let source = Source {
            tensors: tensors(r.tensors)?,
            config: r.config,
        };
        let loader = Loader::new(&source)?;
        let layers = loader.config().layers;
        let blocks = blocks::types(&source.tensors);
        let quantized = by_config || !blocks.is_empty();
        let shaders = loader
            .resolver()
            .is_none_or(|r| r.schemes().all(has_shader))
            && blocks.iter().all(|ty| bridge::has_shader(ty));
        let infos = source.tensors.iter().map(|t| (t.name.clone(), t.clone()));
        let infos: BTreeMap<_, _> = infos.collect();
        let device = if r.gpu_layers == Some(0) || (device == "auto" && !shaders) {
            "cpu"
        } else {
            device
        };
        let device = placed(device, &loader)?;
        let cache = Caching::new(r.kv_cache.as_deref(), device, &loader, &infos)?;
        let device = cache.as_ref().map_or(device, |_| "cpu");
        let gpu = gpus.choose(host, device, loader.config()).await?;
        let cpu_layers = match (&gpu, r.gpu_layers) {
            (Some(_), Some(n)) => layers - n.min(layers),
            (Some(_), None) => 0,
            (None, _) => layers,
        };
        if compute == "int8" && cpu_layers == 0 {
            let what = "compute \"int8\" with every layer on the GPU, which computes in f32";
            return Err(Error::new(Code::Option, what).remedy("use f32, or device \"cpu\""));
        }
        let compute = match compute {
            "auto" if quantized && cpu_layers > 0 && int8_pays(cpu.isa) => Compute::Int8,
            "int8" => Compute::Int8,
            _ => Compute::F32,
        };
        let mut placement = Placement::new(cpu, compute);
        let context_max = gpu.as_ref().map_or(usize::MAX, |g| g.context_max);
        if let Some(gpu) = gpu {
            placement.offload(gpu, cpu_layers);
        }
        Ok(Self {
            context: r.context.unwrap_or(usize::MAX).min(context_max),
            loader,
            infos,
            cache,
            asked: Vec::new(),
            placed: 0,
            placement,
        })
    }

    /// Places what was asked for and asks for more; `None` when the model is complete.
    pub(super) fn poll(&mut self, answer: Vec<Vec<u8>>) -> Result<Option<Polled>> {
        if !self.asked.is_empty() {
            let tensors = self.received(answer)?;
            self.take(tensors)?;
        }
        self.asked = self.scales_wanted();
        if self.asked.is_empty() {
            self.asked = self.loader.wants().unwrap_or_default();
        }
        let total = self.loader.pieces();
        let ask = json!({
            "kind": "read", "tensors": self.asked, "done": self.placed, "total": total,
        });
        Ok((!self.asked.is_empty()).then(|| Polled {
            ask: ask.to_string(),
            data: Vec::new(),
        }))
    }

    /// Scales of the cache come first, if there are any to read.
    fn scales_wanted(&self) -> Vec<String> {
        self.cache.as_ref().map(Caching::wants).unwrap_or_default()
    }

    fn take(&mut self, tensors: Vec<Tensor>) -> Result<()> {
        if let Some(cache) = self.cache.as_mut().filter(|c| !c.wants().is_empty()) {
            return cache.supply(&tensors);
        }
        let piece = self.loader.supply(tensors)?;
        let tied = self.loader.head() == Head::Tied;
        self.placed += 1;
        self.placement.place(piece, tied)
    }

    /// The engine, and `done` with what is worth knowing about it.
    pub(super) fn finish(self) -> Result<(Engine, Polled)> {
        let mut config = self.loader.config().clone();
        config.context = config.context.min(self.context);
        let p = &self.placement;
        let compute = if p.tally.is_quantized() {
            p.compute
        } else {
            Compute::F32
        };
        let mut info = json!({
            "architecture": config.arch().name,
            "layers": config.layers,
            "hidden": config.hidden,
            "vocabulary": config.vocabulary,
            "context": config.context,
            "device": if p.gpu.is_some() { "gpu" } else { "cpu" },
            "compute": compute.name(),
            "gpuLayers": config.layers - p.cpu_layers.min(config.layers),
            "isa": p.cpu.isa.name(),
            "threads": p.cpu.threads(),
            "weightBytes": p.weight_bytes(),
            "bitsPerWeight": p.tally.bits_per_weight(),
            "scheme": p.tally.scheme(),
            "causal": config.encoder.is_none(),
            "tasks": tasks(&self.loader),
            "kvCache": self.cache.as_ref().map(Caching::info),
        });
        if let Some(gpu) = &p.gpu {
            info["gpu"] = gpu.info.clone();
        }
        let done = Polled {
            ask: json!({"kind": "done", "info": info}).to_string(),
            data: Vec::new(),
        };
        let tied = self.loader.head() == Head::Tied;
        let roundings = self.cache.map(Caching::roundings).unwrap_or_default();
        let engine = self.placement.finish(config, tied)?;
        Ok((engine.with_roundings(roundings), done))
    }

    fn received(&self, answer: Vec<Vec<u8>>) -> Result<Vec<Tensor>> {
        if answer.len() != self.asked.len() {
            let what = format!("{} of {} tensors came", answer.len(), self.asked.len());
            return Err(Error::new(Code::Internal, what));
        }
        let named = self.asked.iter().zip(answer);
        named
            .map(|(name, bytes)| self.tensor(name, bytes))
            .collect()
    }

    fn tensor(&self, name: &str, bytes: Vec<u8>) -> Result<Tensor> {
        let info = self.infos.get(name);
        let info = info.ok_or_else(|| Error::new(Code::Internal, format!("no tensor {name:?}")))?;
        let wanted = checked_bytes(info.dtype, &info.shape)?;
        if bytes.len() as u64 != wanted {
            let what = format!("{} of {wanted} bytes came", bytes.len());
            return Err(Error::new(Code::Truncated, what).at(format!("tensor {name:?}")));
        }
        Ok(Tensor {
            name: info.name.clone(),
            dtype: info.dtype,
            shape: info.shape.clone(),
            bytes,
        })
    }
}
