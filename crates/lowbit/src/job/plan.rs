//! Everything that can be decided before a tensor is read: layers, schemes, files, sizes.
//!
//! The name, type, shape and place of every output tensor are fixed here, so that headers are
//! written first and a layer that falls back to a simpler method changes no offset.

use super::choose;
use super::files::{File, Files, Place};
use super::identity::Identity;
use super::request::{Calibration, Request};
use super::size::{self, Sizes};
use crate::container::safetensors::Planned;
use crate::cpu::Isa;
use crate::error::{Code, Error, Result};
use crate::layout::{self, Layout};
use crate::model::config::Config;
use crate::model::load::{Loader, TensorInfo};
use crate::model::weights;
use crate::round::gptq::Order;
use crate::round::{self, Method, RoundOptions};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Data per file unless the request says otherwise, as transformers does.
const SHARD_BYTES: u64 = 5_000_000_000;

pub use super::choose::Layer;

/// A checked quantization.
#[derive(Debug)]
pub struct Plan {
    /// The model.
    pub model: Config,
    /// The rounder.
    pub method: &'static Method,
    /// Where quantized tensors go.
    pub layout: &'static dyn Layout,
    /// Linears to quantize, in production order.
    pub layers: Vec<Layer>,
    /// Linears that stay as stored.
    pub ignored: Vec<String>,
    /// Output files and the place of every tensor in them.
    pub files: Files,
    /// The new config.json.
    pub config: Value,
    /// Bits per weight, memory, scratch and output bytes.
    pub sizes: Sizes,
    /// What the user should know before starting.
    pub warnings: Vec<String>,
    /// What a resumed run must agree on.
    pub identity: Identity,
    /// Calibration set, when the method needs one.
    pub calibration: Option<Calibration>,
    /// Every source tensor by name.
    pub(super) source: BTreeMap<String, TensorInfo>,
    /// Source tensors that are copied, in production order, by unit: blocks, then the rest.
    pub(super) copies: Vec<Vec<String>>,
    /// Tensors that the model uses: these must be finite.
    pub(super) used: BTreeSet<String>,
    options: RoundOptions,
}

impl Plan {
    /// Checks a request; every error that the user can make surfaces here.
    pub fn new(request: &Request) -> Result<Self> {
        let source = request.source()?;
        choose::refuse_quantized(&request.config)?;
        let loader = Loader::new(&source)?;
        let model = loader.config().clone();
        let named = source.tensors.iter().map(|t| (t.name.clone(), t.clone()));
        let by_name: BTreeMap<_, _> = named.collect();
        if by_name.len() != source.tensors.len() {
            return Err(Error::new(Code::DuplicateKey, "a tensor is listed twice"));
        }
        let options = &request.options;
        let method = round::find(&options.method)?;
        let layout = layout::find(&options.format)?;
        let (layers, ignored) = choose::layers(&model, options, &by_name)?;
        let calibration = choose::calibration(method, request.calibration, &model)?;
        let isa = request
            .isa
            .as_deref()
            .map_or(Ok(Isa::detect()), Isa::parse)?;
        let used = used_tensors(&loader);
        let copies = copied_tensors(&model, &source.tensors, &layers);
        let mut plan = Self {
            identity: Identity::new(request, isa, calibration),
            options: choose::round_options(options)?,
            files: Files::default(),
            config: Value::Null,
            sizes: Sizes::default(),
            warnings: Vec::new(),
            source: by_name,
            model,
            method,
            layout,
            layers,
            ignored,
            calibration,
            copies,
            used,
        };
        plan.lay_out(request.max_shard_bytes.unwrap_or(SHARD_BYTES))?;
        plan.config = plan.output_config(&request.config);
        plan.sizes = size::of(&plan, request.threads.unwrap_or(1))?;
        plan.warnings = size::warnings(&plan);
        Ok(plan)
    }

    /// The layers of one block.
    pub fn layers_of(&self, block: usize) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(move |l| l.block == block)
    }

    /// How one layer is rounded.
    pub fn round_options(&self, layer: &Layer) -> RoundOptions {
        RoundOptions {
            scale_dtype: layer.scale_dtype,
            ..self.options
        }
    }

    /// Type and shape of a source tensor, which the plan has found to exist.
    pub(super) fn tensor(&self, name: &str) -> Result<&TensorInfo> {
        let missing = || Error::new(Code::Internal, format!("tensor {name:?} is not planned"));
        self.source.get(name).ok_or_else(missing)
    }

    /// File and offset of an output tensor.
    pub(super) fn place(&self, name: &str) -> Result<Place> {
        let missing = || Error::new(Code::Internal, format!("output {name:?} is not planned"));
        self.files.place(name).ok_or_else(missing)
    }

    /// Output tensors of one layer, in the layout's order.
    pub(super) fn outputs_of(&self, layer: &Layer) -> Vec<Planned> {
        let shape = (layer.linear.rows, layer.linear.cols);
        let by_index = self.is_by_index()
            && layer
                .scheme
                .group_cols(shape.1)
                .is_ok_and(|group| group < shape.1);
        let module = &layer.linear.module;
        self.layout
            .outputs(module, &layer.scheme, shape, layer.scale_dtype, by_index)
    }

    /// Whether columns store their group.
    fn is_by_index(&self) -> bool {
        self.method.needs_calibration && self.options.gptq.order == Order::Group
    }

    fn lay_out(&mut self, shard_bytes: u64) -> Result<()> {
        let mut tensors = Vec::new();
        for (unit, copies) in self.copies.iter().enumerate() {
            for layer in self.layers_of(unit) {
                tensors.extend(self.outputs_of(layer));
            }
            for name in copies {
                let info = self.tensor(name)?;
                tensors.push(Planned {
                    name: name.clone(),
                    dtype: info.dtype,
                    shape: info.shape.clone(),
                });
            }
        }
        self.files = Files::new(&tensors, shard_bytes)?;
        Ok(())
    }

    /// The source's config.json with `quantization_config`.
    fn output_config(&self, source: &Value) -> Value {
        let named = |l: &Layer| (l.linear.module.clone(), l.scheme);
        let assignment: Vec<_> = self.layers.iter().map(named).collect();
        let mut config = source.clone();
        config["quantization_config"] =
            self.layout
                .config(&assignment, &self.ignored, self.is_by_index());
        config
    }

    /// What `lowbit quantize --dry-run` shows, as the port gives it out.
    pub fn to_json(&self) -> Value {
        let layer = |l: &Layer| {
            json!({
                "name": l.linear.module,
                "rows": l.linear.rows,
                "cols": l.linear.cols,
                "scheme": l.scheme.to_string(),
                "method": self.method.name,
            })
        };
        let file = |f: &File| json!({ "file": f.name, "bytes": f.bytes });
        let mut out = json!({
            "layers": self.layers.iter().map(layer).collect::<Vec<_>>(),
            "ignored": self.ignored,
            "outputs": self.files.list.iter().map(file).collect::<Vec<_>>(),
            "bitsPerWeight": self.sizes.bits_per_weight,
            "modelBitsPerWeight": self.sizes.model_bits_per_weight,
            "memoryPeakBytes": self.sizes.memory_peak_bytes,
            "scratchBytes": self.sizes.scratch_bytes,
            "outputBytes": self.sizes.output_bytes,
            "fingerprint": self.identity.fingerprint(),
            "config": format!("{:#}\n", self.config),
            "warnings": self.warnings,
        });
        if let Some(index) = &self.files.index {
            out["index"] = json!(index);
        }
        out
    }
}

/// Tensors that the forward pass reads.
fn used_tensors(loader: &Loader) -> BTreeSet<String> {
    loader.tensors().into_iter().collect()
}

/// What is copied: per block its tensors that are no quantized weight, then everything else.
fn copied_tensors(model: &Config, source: &[TensorInfo], layers: &[Layer]) -> Vec<Vec<String>> {
    let mut taken: BTreeSet<String> = layers.iter().map(|l| l.linear.weight.clone()).collect();
    let mut units = Vec::new();
    for block in 0..model.layers {
        let names = weights::block_tensors(model, block)
            .into_iter()
            .map(|n| n.name);
        units.push(names.filter(|n| taken.insert(n.clone())).collect());
    }
    let names = source.iter().map(|t| t.name.clone());
    units.push(names.filter(|n| !taken.contains(n)).collect());
    units
}
