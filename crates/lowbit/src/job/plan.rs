//! Everything that can be decided before a tensor is read: layers, schemes, files, sizes.
//!
//! The name, type, shape and place of every output tensor are fixed here, so that headers are
//! written first and a layer that falls back to a simpler method changes no offset.

use super::cache;
use super::changes::Changes;
use super::choose;
use super::files::{Files, Place};
use super::finite::Nonfinite;
use super::identity::Identity;
use super::important::{self, Important};
use super::outputs::{self, Outputs};
use super::plan_parts::{by_name, instruction_set, rotation_of};
use super::request::{Calibration, Options, Request};
use super::rest::Rotated;
use super::size::{self, Sizes};
use super::subject::{self, Subject};
use super::survey::Budget;
use super::warn;
use crate::container::safetensors::Planned;
use crate::error::{Code, Error, Result};
use crate::kv_cache::{self, KvCache};
use crate::layout::{self, Layout};
use crate::model::accelerator::Adapter;
use crate::model::config::Config;
use crate::model::head::Head;
use crate::model::load::TensorInfo;
use crate::round::gptq::Order;
use crate::round::prune::Pruning;
use crate::round::{self, Kind, Method, RoundOptions};
use crate::transform::Rotation;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Data per file unless the request says otherwise, as transformers does.
pub(crate) const SHARD_BYTES: u64 = 5_000_000_000;

pub use super::choose::Layer;

/// A checked quantization.
#[derive(Debug)]
pub struct Plan {
    /// The model.
    pub model: Config,
    /// The rounder of layers without one of their own.
    pub method: &'static Method,
    /// Every option, with its default where the request said nothing.
    pub effective: Options,
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
    /// The accelerator that block passes and second moments run on; none for the CPU.
    pub device: Option<Adapter>,
    /// How engines are to keep keys and values, if scales for that are asked for.
    pub kv_cache: Option<KvCache>,
    /// Calibration set, when something needs one.
    pub calibration: Option<Calibration>,
    /// Every source tensor by name.
    pub(super) source: BTreeMap<String, TensorInfo>,
    /// Source tensors that are copied, in production order, by unit: blocks, then the rest.
    pub(super) copies: Vec<Vec<String>>,
    /// Source tensors that are written as transforms leave them, by block.
    pub(super) rewritten: Vec<Vec<String>>,
    /// Tables outside the blocks that are rotated.
    pub(super) rotated: Vec<Rotated>,
    /// What schemes are chosen for, when that is the job.
    pub(super) budget: Option<Budget>,
    /// Where the source's head comes from.
    pub(super) head: Head,
    /// Tensors that the model uses: these must be finite.
    pub(super) used: BTreeSet<String>,
    pub(super) changes: Changes,
    pub(super) important: Important,
    pub(super) rotation: Option<Rotation>,
    pub(super) nonfinite: Nonfinite,
    pub(super) strict: bool,
    /// Whether calibration looks at the inputs of linears.
    pub(super) sees_inputs: bool,
    pub(super) true_sequential: bool,
    pub(super) all_experts: bool,
    pub(super) options: RoundOptions,
}

impl Plan {
    /// Checks a request; every error that the user can make surfaces here.
    pub fn new(request: &Request) -> Result<Self> {
        Self::on(request, None)
    }

    /// The same for calibration on an accelerator.
    pub fn on(request: &Request, adapter: Option<&Adapter>) -> Result<Self> {
        let source = request.source()?;
        choose::refuse_quantized(&request.config)?;
        let Subject { model, head, used } = Subject::of(&source)?;
        let by_name = by_name(&source.tensors)?;
        let effective = request.effective();
        let round_options = choose::round_options(&effective)?;
        let kv_cache = cache::chosen(&effective, &model)?;
        let (layers, ignored) = choose::layers(&model, &effective, &by_name)?;
        let modules: Vec<_> = layers.iter().map(|l| l.linear.module.as_str()).collect();
        let mut changes = Changes::new(&effective, &modules)?;
        let budget = Budget::new(&effective, &layers)?;
        choose::refuse_headless((&model, head), &changes, budget.is_some())?;
        let seen = (&changes, round_options.observer);
        let (important, mut needed_by) = important::read(request, &model, &layers, seen)?;
        if let Some(budget) = &budget {
            choose::check_candidates(&layers, &effective, |l| budget.schemes(l))?;
            // Schemes are compared on the model as it is.
            changes = Changes::default();
            needed_by = Some("targetBpw".into());
        }
        let sees_inputs = needed_by.is_some();
        let needed_by = needed_by.or_else(|| kv_cache.map(|c| c.to_string()));
        subject::refuse_guessed(&model, &changes, needed_by.as_deref())?;
        let calibration = choose::calibration(needed_by, request.calibration, &model)?;
        let isa = instruction_set(request, calibration.is_some() || changes.widen())?;
        // Nothing else runs there.
        let device = adapter.filter(|_| calibration.is_some()).cloned();
        let rotation = rotation_of(&changes, &model, effective.seed)?;
        let outputs = Outputs::new(&model, &source.tensors, &layers, &changes, head);
        let plan = Self {
            identity: Identity::new(request, isa, device.as_ref(), calibration),
            important,
            device,
            options: round_options,
            files: Files::default(),
            config: Value::Null,
            sizes: Sizes::default(),
            warnings: Vec::new(),
            head,
            budget,
            used,
            method: round::find(&effective.method)?,
            layout: layout::find(&effective.format)?,
            nonfinite: Nonfinite::parse(effective.allow_nonfinite.as_deref())?,
            strict: effective.strict,
            kv_cache,
            sees_inputs,
            true_sequential: effective.true_sequential,
            all_experts: effective.all_experts,
            copies: outputs.copies,
            rewritten: outputs.rewritten,
            rotated: outputs.rotated,
            source: by_name,
            model,
            layers,
            ignored,
            calibration,
            changes,
            rotation,
            effective,
        };
        plan.complete(request, adapter)
    }

    /// Adds what follows from the rest: files, config, sizes, warnings.
    fn complete(mut self, request: &Request, adapter: Option<&Adapter>) -> Result<Self> {
        self.lay_out(request.max_shard_bytes.unwrap_or(SHARD_BYTES))?;
        self.config = self.output_config(&request.config);
        self.sizes = size::of(&self, request.threads.unwrap_or(1))?;
        self.warnings = warn::of(&self)?;
        self.warnings.extend(warn::of_device(&self, adapter));
        Ok(self)
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

    /// E[x²] of the inputs of a layer as a file says it, `[cols]`; none without a file.
    pub(super) fn importance_of(&self, layer: &Layer) -> Option<&Arc<[f32]>> {
        self.important.get(&layer.linear.weight)
    }

    /// How one layer is pruned before it is rounded, if it is.
    pub(super) fn pruning_of(&self, layer: &Layer) -> Option<Pruning> {
        let prune = self.changes.prune.as_ref();
        let prune = prune.filter(|p| p.fits(&layer.linear.module));
        prune.map(|p| p.pruning)
    }

    /// Whether linears are read, rounded and written by themselves, some rows at a time.
    pub(super) fn streams(&self) -> bool {
        self.calibration.is_none() && !self.changes.widen() && self.budget.is_none()
    }

    /// Whether a pass goes through a block after its linears are rounded: for what comes after it, or
    /// for scales of its cache.
    pub(super) fn runs_quantized(&self, block: usize) -> bool {
        let next = block + 1 < self.model.layers;
        self.calibration.is_some() && (next || self.kv_cache.is_some())
    }

    /// Type and shape of a source tensor, which the plan has found to exist.
    pub(super) fn tensor(&self, name: &str) -> Result<&TensorInfo> {
        let missing = || Error::new(Code::Internal, format!("tensor {name:?} is not planned"));
        self.source.get(name).ok_or_else(missing)
    }

    /// File and offset of an output tensor.
    pub(super) fn place(&self, name: &str) -> Result<Place> {
        self.files.at(name)
    }

    /// Output tensors of one layer, in the layout's order.
    pub(super) fn outputs_of(&self, layer: &Layer) -> Vec<Planned> {
        let shape = (layer.linear.rows, layer.linear.cols);
        let by_index = self.is_by_index(layer);
        let module = &layer.linear.module;
        self.layout
            .outputs(module, &layer.scheme, shape, layer.scale_dtype, by_index)
    }

    /// Whether the columns of a layer store their group.
    pub(super) fn is_by_index(&self, layer: &Layer) -> bool {
        let cols = layer.linear.cols;
        layer.method.kind == Kind::Gptq
            && self.options.gptq.order == Order::Group
            && layer.scheme.group_cols(cols).is_ok_and(|g| g < cols)
    }

    fn lay_out(&mut self, shard_bytes: u64) -> Result<()> {
        let mut tensors = Vec::new();
        let plain = |info: &TensorInfo, name: &str| Planned {
            name: name.into(),
            dtype: info.dtype,
            shape: info.shape.clone(),
        };
        for (unit, copies) in self.copies.iter().enumerate() {
            for layer in self.layers_of(unit) {
                tensors.extend(self.outputs_of(layer));
            }
            if unit < self.model.layers {
                tensors.extend(cache::planned(self, unit));
            }
            let rewritten = self.rewritten.get(unit).into_iter().flatten();
            for name in rewritten.chain(copies) {
                tensors.push(plain(self.tensor(name)?, name));
            }
        }
        for table in &self.rotated {
            tensors.push(plain(self.tensor(&table.from)?, &table.to));
        }
        if !self.rotated.is_empty() {
            let norm = outputs::final_norm(&self.model);
            tensors.push(plain(self.tensor(&norm)?, &norm));
        }
        self.files = Files::new(&tensors, shard_bytes)?;
        Ok(())
    }

    /// The source's config.json with `quantization_config`.
    fn output_config(&self, source: &Value) -> Value {
        let named = |l: &Layer| (l.linear.module.clone(), l.scheme);
        let assignment: Vec<_> = self.layers.iter().map(named).collect();
        let mut config = source.clone();
        let by_index = self.layers.iter().any(|l| self.is_by_index(l));
        let mut own = self.layout.config(&assignment, &self.ignored, by_index);
        if let Some(cache) = self.kv_cache {
            own[kv_cache::KEY] = cache.to_config();
        }
        config["quantization_config"] = own;
        if self.rotated.iter().any(|t| t.head) {
            // The head is a tensor of its own now.
            config["tie_word_embeddings"] = json!(false);
        }
        config
    }
}
