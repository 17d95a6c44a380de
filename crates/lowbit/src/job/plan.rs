//! Everything that can be decided before a tensor is read: layers, schemes, files, sizes.
//!
//! The name, type, shape and place of every output tensor are fixed here, so that headers are
//! written first and a layer that falls back to a simpler method changes no offset.

use super::files::{Files, Place};
use super::identity::Identity;
use super::request::{Calibration, Options, Request};
use super::select;
use super::size::{self, Sizes};
use crate::container::safetensors::Planned;
use crate::cpu::Isa;
use crate::error::{Code, Error, Result};
use crate::layout::{self, Layout};
use crate::model::config::Config;
use crate::model::load::{Loader, TensorInfo};
use crate::model::weights::{self, Linear};
use crate::round::gptq::{GptqOptions, Order};
use crate::round::observer::Observer;
use crate::round::{self, Method, RoundOptions};
use crate::scheme::Scheme;
use crate::tensor::Dtype;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Data per file unless the request says otherwise, as transformers does.
const SHARD_BYTES: u64 = 5_000_000_000;

/// A linear that will be quantized.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Module, shape and tensor names.
    pub linear: Linear,
    /// Block that it belongs to.
    pub block: usize,
    /// Type of the source weight.
    pub dtype: Dtype,
    /// How it is quantized.
    pub scheme: Scheme,
    /// Type of its scales.
    pub scale_dtype: Dtype,
}

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
        refuse_quantized(&request.config)?;
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
        let (layers, ignored) = choose_layers(&model, options, &by_name)?;
        let calibration = check_calibration(method, request.calibration, &model)?;
        let isa = request
            .isa
            .as_deref()
            .map_or(Ok(Isa::detect()), Isa::parse)?;
        let used = used_tensors(&loader);
        let copies = copied_tensors(&model, &source.tensors, &layers);
        let mut plan = Self {
            identity: Identity::new(request, isa, calibration),
            options: round_options(options)?,
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
        let Linear { rows, cols, .. } = layer.linear;
        let options = self.round_options(layer);
        let by_index = self.method.needs_calibration
            && options.gptq.order == Order::Group
            && layer.scheme.group_cols(cols).is_ok_and(|g| g < cols);
        let module = &layer.linear.module;
        let mut planned =
            self.layout
                .outputs(module, &layer.scheme, rows, cols, options.scale_dtype);
        planned.extend(by_index.then(|| Planned {
            name: format!("{module}.weight_g_idx"),
            dtype: Dtype::I32,
            shape: vec![cols],
        }));
        planned
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
        self.files = Files::new(tensors, shard_bytes)?;
        Ok(())
    }

    /// The source's config.json with `quantization_config`.
    fn output_config(&self, source: &Value) -> Value {
        let named = |l: &Layer| (l.linear.module.clone(), l.scheme);
        let assignment: Vec<_> = self.layers.iter().map(named).collect();
        let mut config = source.clone();
        config["quantization_config"] = self.layout.config(&assignment, &self.ignored);
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
        let file = |f: &super::files::File| json!({ "file": f.name, "bytes": f.bytes });
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

fn refuse_quantized(config: &Value) -> Result<()> {
    match config.get("quantization_config") {
        None | Some(Value::Null) => Ok(()),
        Some(_) => {
            let what = "the source is already quantized: it has a quantization_config";
            Err(Error::new(Code::Unsupported, what)
                .at("config.json")
                .remedy("start from the original checkpoint"))
        }
    }
}

fn round_options(options: &Options) -> Result<RoundOptions> {
    if !(0.0..1.0).contains(&options.damp) {
        let what = format!("damp is {}", options.damp);
        return Err(Error::new(Code::Option, what).remedy("use 0 or more and less than 1"));
    }
    if options.block == 0 {
        return Err(Error::new(Code::Option, "block is 0").remedy("use for example 128"));
    }
    Ok(RoundOptions {
        observer: Observer::parse(&options.observer)?,
        scale_dtype: Dtype::F32,
        gptq: GptqOptions {
            damp: options.damp,
            block: options.block,
            order: Order::parse(&options.act_order)?,
        },
    })
}

/// Linears with their schemes, in production order, and those that stay as stored.
fn choose_layers(
    model: &Config,
    options: &Options,
    source: &BTreeMap<String, TensorInfo>,
) -> Result<(Vec<Layer>, Vec<String>)> {
    let linears: Vec<_> = (0..model.layers)
        .flat_map(|block| {
            weights::linears(model, block)
                .into_iter()
                .map(move |l| (block, l))
        })
        .filter(|(_, l)| l.quantizable)
        .collect();
    let modules: Vec<_> = linears.iter().map(|(_, l)| l.module.as_str()).collect();
    let schemes = select::schemes(options, &modules)?;
    let layout = layout::find(&options.format)?;
    let scale_dtype = options
        .scale_dtype
        .as_deref()
        .map(parse_scale_dtype)
        .transpose()?;
    let (mut layers, mut ignored) = (Vec::new(), Vec::new());
    for ((block, linear), scheme) in linears.into_iter().zip(schemes) {
        let Some(scheme) = scheme else {
            ignored.push(linear.module);
            continue;
        };
        let fits = layout.fits(&scheme, linear.rows, linear.cols);
        fits.map_err(|e| e.at(format!("layer {:?}", linear.module)))?;
        let dtype = source.get(&linear.weight).map_or(Dtype::F32, |t| t.dtype);
        layers.push(Layer {
            scale_dtype: scale_dtype.unwrap_or(dtype),
            linear,
            block,
            dtype,
            scheme,
        });
    }
    if layers.is_empty() {
        let what = "every linear is ignored: there is nothing to quantize";
        return Err(Error::new(Code::Option, what).remedy("ignore less"));
    }
    // The head stays as stored (model/head.rs); loaders want it named even where it is tied.
    ignored.push(model.arch().head.to_string());
    Ok((layers, ignored))
}

fn parse_scale_dtype(name: &str) -> Result<Dtype> {
    let dtype = Dtype::parse(name)?;
    match dtype {
        Dtype::F32 | Dtype::F16 | Dtype::BF16 => Ok(dtype),
        _ => Err(Error::new(Code::Option, format!("scales cannot be {name}"))
            .remedy("use F32, F16 or BF16")),
    }
}

fn check_calibration(
    method: &Method,
    calibration: Option<Calibration>,
    model: &Config,
) -> Result<Option<Calibration>> {
    if !method.needs_calibration {
        return Ok(None);
    }
    let Some(set) = calibration.filter(|c| c.samples > 0 && c.length > 0) else {
        let what = format!("{} needs calibration text", method.name);
        return Err(Error::new(Code::Dataset, what).remedy("give some, or use --method rtn"));
    };
    if set.length > model.context {
        let what = format!(
            "samples of {} tokens, the context is {}",
            set.length, model.context
        );
        return Err(Error::new(Code::Context, what).remedy("use a smaller --length"));
    }
    Ok(Some(set))
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
