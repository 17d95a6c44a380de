//! What a request chooses: layers with their schemes, rounding, calibration.

use super::changes::Changes;
use super::request::{Calibration, Options};
use super::select;
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::layout;
use crate::model::arch::Kind as RowKind;
use crate::model::config::Config;
use crate::model::head::Head;
use crate::model::load::TensorInfo;
use crate::model::weights::{self, Linear};
use crate::round::gptq::{Extra, GptqOptions, Order, Rounding};
use crate::round::observer::Observer;
use crate::round::{Kind, Method, RoundOptions, Weights, hqq, rtn};
use crate::scheme::{Group, Scheme};
use crate::tensor::Dtype;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};

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
    /// The rounder.
    pub method: &'static Method,
    /// Type of its scales.
    pub scale_dtype: Dtype,
}

/// `unsupported` for a source that is quantized already.
pub(super) fn refuse_quantized(config: &Value) -> Result<()> {
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

/// What every layer's rounding has in common; `option` names what is out of range.
///
/// `options` are effective ones.
pub(super) fn round_options(options: &Options) -> Result<RoundOptions> {
    if !(0.0..1.0).contains(&options.damp) {
        let what = format!("damp is {}", options.damp);
        return Err(Error::new(Code::Option, what).remedy("use 0 or more and less than 1"));
    }
    if options.block == 0 {
        return Err(Error::new(Code::Option, "block is 0").remedy("use for example 128"));
    }
    Ok(RoundOptions {
        observer: Observer::parse(options.observer.as_deref().unwrap_or_default())?,
        scale_dtype: Dtype::F32,
        gptq: GptqOptions {
            damp: options.damp,
            block: options.block,
            order: Order::parse(&options.act_order)?,
            refine: options.refine,
        },
    })
}

/// Linears with their schemes, in production order, and those that stay as stored.
pub(super) fn layers(
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
        .collect();
    // Loaders want routers named that stay as stored among linears that do not.
    let (linears, kept): (Vec<_>, Vec<_>) = linears.into_iter().partition(|(_, l)| l.quantizable);
    let modules: Vec<_> = linears.iter().map(|(_, l)| l.module.as_str()).collect();
    let kept_modules: Vec<_> = kept.iter().map(|(_, l)| l.module.as_str()).collect();
    let chosen = select::chosen(options, &modules, &kept_modules)?;
    let layout = layout::find(&options.format)?;
    let scale_dtype = options
        .scale_dtype
        .as_deref()
        .map(parse_scale_dtype)
        .transpose()?;
    let (mut layers, mut tried, mut misfit) = (Vec::new(), HashSet::new(), None);
    let mut ignored: Vec<_> = kept.into_iter().map(|(_, l)| l.module).collect();
    for ((block, linear), chosen) in linears.into_iter().zip(chosen) {
        let Some(select::Chosen { scheme, method }) = chosen else {
            ignored.push(linear.module);
            continue;
        };
        if let Err(e) = layout.fits(&scheme, linear.rows, linear.cols) {
            let e = e.at(format!("layer {:?}", linear.module));
            if model.guess.is_none() {
                return Err(e);
            }
            misfit.get_or_insert(e);
            ignored.push(linear.module);
            continue;
        }
        let dtype = source.get(&linear.weight).map_or(Dtype::F32, |t| t.dtype);
        let layer = Layer {
            scale_dtype: scale_dtype.unwrap_or(dtype),
            linear,
            block,
            dtype,
            scheme,
            method,
        };
        if tried.insert((scheme, method.name, layer.linear.cols)) {
            let place = |e: Error| e.at(format!("layer {:?}", layer.linear.module));
            try_method(&layer, &round_options(options)?).map_err(place)?;
        }
        layers.push(layer);
    }
    if layers.is_empty() {
        let what = "every linear is ignored: there is nothing to quantize";
        let error = Error::new(Code::Option, what).remedy("ignore less");
        return Err(misfit.unwrap_or(error));
    }
    ignored.extend(unknown_linears(model, source));
    // The head stays as stored (model/head.rs); loaders want it named even where it is tied.
    if model.encoder.is_none() && model.labels == 0 && model.guess.is_none() {
        ignored.push(model.arch().head.to_string());
    }
    Ok((layers, ignored))
}

/// Modules with matrices that are no part of the language model, as vision towers have them: they
/// are copied, and loaders take them for quantized unless they are named.
fn unknown_linears(model: &Config, source: &BTreeMap<String, TensorInfo>) -> Vec<String> {
    let blocks = 0..model.layers;
    let known: HashSet<String> = blocks
        .flat_map(|block| weights::linears(model, block))
        .map(|linear| linear.weight)
        .collect();
    let mut own = vec![model.named(model.arch().embed), model.arch().head.into()];
    let tables = |layer| model.rows(layer).into_iter().map(move |row| (layer, row));
    for (layer, row) in (0..model.layers).flat_map(tables) {
        if matches!(row.kind, RowKind::Table { .. }) {
            own.push(model.module_of(layer, &row));
        }
    }
    let unknown = |(name, info): (&String, &TensorInfo)| {
        let module = name.strip_suffix(".weight")?;
        let counts =
            info.shape.len() == 2 && !known.contains(name) && !own.iter().any(|o| o == module);
        counts.then(|| module.to_owned())
    };
    source.iter().filter_map(unknown).collect()
}

/// Whether every layer can be written and rounded under each scheme that it may get.
pub(super) fn check_candidates(
    layers: &[Layer],
    options: &Options,
    schemes: impl Fn(&Layer) -> Vec<Scheme>,
) -> Result<()> {
    let (layout, round) = (layout::find(&options.format)?, round_options(options)?);
    let mut tried = HashSet::new();
    for layer in layers {
        let (rows, cols) = (layer.linear.rows, layer.linear.cols);
        for scheme in schemes(layer) {
            let place = |e: Error| e.at(format!("layer {:?}", layer.linear.module));
            layout.fits(&scheme, rows, cols).map_err(place)?;
            if tried.insert((scheme, layer.method.name, cols)) {
                let layer = Layer {
                    scheme,
                    ..layer.clone()
                };
                try_method(&layer, &round).map_err(place)?;
            }
        }
    }
    Ok(())
}

/// Whether a method rounds to a scheme; the error is the method's own, which a run would meet.
fn try_method(layer: &Layer, options: &RoundOptions) -> Result<()> {
    let (rows, cols) = (layer.linear.rows, layer.linear.cols);
    let rows = match layer.scheme.group {
        Group::Row | Group::Run(_) => 1,
        _ => rows,
    };
    if layer.method.kind == Kind::Gptq {
        return Rounding::new(rows, cols, layer.scheme, *options, Extra::default()).map(|_| ());
    }
    let options = RoundOptions {
        observer: Observer::MinMax,
        scale_dtype: layer.scale_dtype,
        ..*options
    };
    let weights = Weights {
        values: &vec![0.0; rows * cols],
        rows,
        cols,
        importance: None,
    };
    let cpu = Cpu::single();
    let rounded = match layer.method.kind {
        Kind::Hqq => hqq::round(weights, &layer.scheme, &options, &cpu),
        Kind::Rtn | Kind::Gptq => rtn::round(weights, &layer.scheme, &options, &cpu),
    };
    rounded.map(|_| ())
}

fn parse_scale_dtype(name: &str) -> Result<Dtype> {
    let dtype = Dtype::parse(&name.to_ascii_uppercase())?;
    match dtype {
        Dtype::F32 | Dtype::F16 | Dtype::BF16 => Ok(dtype),
        _ => Err(Error::new(Code::Option, format!("scales cannot be {name}"))
            .remedy("use F32, F16 or BF16")),
    }
}

/// The calibration set if something needs one; `dataset` without, `context` when too long.
pub(super) fn calibration(
    needed_by: Option<String>,
    calibration: Option<Calibration>,
    model: &Config,
) -> Result<Option<Calibration>> {
    let Some(step) = needed_by else {
        return Ok(None);
    };
    let Some(set) = calibration.filter(|c| c.samples > 0 && c.length > 0) else {
        let what = format!("{step} needs calibration text");
        let other = match step.split_once(' ') {
            Some(("kvCache", _)) => "leave kvCache out",
            _ => "use --method rtn",
        };
        return Err(Error::new(Code::Dataset, what).remedy(format!("give some, or {other}")));
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

/// `unsupported` for what asks for logits of a model that has none; what was guessed is refused for
/// more than that.
pub(super) fn refuse_headless(
    (model, head): (&Config, Head),
    changes: &Changes,
    survey: bool,
) -> Result<()> {
    let rotates = changes.rotate.as_ref().is_some_and(|r| r.r1);
    if model.guess.is_some() || head != Head::None || !(rotates || survey) {
        return Ok(());
    }
    let step = if survey { "targetBpw" } else { "rotation r1" };
    let what = format!("{step} needs a model that writes text: this one has no output head");
    Err(Error::new(Code::Unsupported, what).remedy(format!("leave {step} out")))
}

/// What needs to see the inputs of linears, if anything does; `observer` where ranges are found by
/// what calibration saw.
pub(super) fn needs_calibration(
    layers: &[Layer],
    changes: &Changes,
    observer: Option<Observer>,
) -> Option<String> {
    let method = layers.iter().find(|l| l.method.needs_calibration);
    let ranges = |l: &&Layer| l.scheme.activations.is_some_and(|a| !a.dynamic);
    let fixed = layers.iter().find(ranges);
    (method.map(|l| l.method.name.to_string()))
        .or_else(|| changes.needs_calibration().map(Into::into))
        .or_else(|| fixed.map(|l| l.scheme.to_string()))
        .or_else(|| (observer == Some(Observer::ImatrixMse)).then(|| "observer imatrix-mse".into()))
}
