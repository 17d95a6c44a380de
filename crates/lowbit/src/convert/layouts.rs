//! Target: quantized safetensors in any layout, from any other.
//!
//! Each module keeps its scheme, or gets the nearest one that holds the same values; where none
//! does, a scheme must be asked for. Nothing is rounded without being asked for.

use super::exact::{Wanted, forecast, inputs_differ};
use super::float::{Cast, Copy};
use super::remake::Remake;
use super::request::{Options, Request};
use super::source::{Logical, Quantized, Source};
use super::target::{Form, How, Making, Planned, Target, Want};
use super::work;
use crate::container::safetensors;
use crate::error::{Code, Error, Result};
use crate::job::files::Files;
use crate::job::plan::SHARD_BYTES;
use crate::layout::Layout;
use crate::round::gptq::Quality;
use crate::round::observer::Observer;
use crate::scheme::{Element, Group, Scheme, ZeroPoint};
use crate::tensor::Dtype;
use serde_json::Value;

/// What is done with a tensor.
#[derive(Debug)]
enum Step {
    Copy(Copy),
    Cast(Cast),
    Remake(Box<Remake>),
}

#[derive(Debug)]
struct Layouts {
    files: Files,
    wants: Vec<Want>,
    steps: Vec<Step>,
    planned: Vec<Planned>,
    config: Value,
    bits: f64,
    /// Weights of the largest matrix.
    largest: u64,
    warnings: Vec<String>,
}

/// Plans it.
///
/// `unsupported` for a source without a quantized matrix; `scheme` names the first module that the
/// layout cannot hold.
pub(super) fn make(
    request: &Request,
    source: &Source,
    layout: &'static dyn Layout,
) -> Result<Box<dyn Target>> {
    let mut plan = Planning::new(request, source, layout)?;
    for (i, tensor) in source.tensors.iter().enumerate() {
        plan.add(i, tensor)?;
    }
    Ok(Box::new(plan.finish(request, source)?))
}

/// A target while its tensors are gone through.
struct Planning<'a> {
    options: &'a Options,
    layout: &'static dyn Layout,
    scheme: Option<Scheme>,
    scale_dtype: Option<Dtype>,
    observer: Observer,
    /// Whether the source says that groups have an order of their own.
    ordered: bool,
    tensors: Vec<safetensors::Planned>,
    target: Layouts,
    assignment: Vec<(String, Scheme)>,
    /// Bits and weights of quantized matrices.
    stored: (u64, u64),
    by_index: bool,
}

impl<'a> Planning<'a> {
    fn new(request: &'a Request, source: &Source, layout: &'static dyn Layout) -> Result<Self> {
        let options = &request.options;
        if source.tensors.iter().all(|t| t.quantized().is_none()) {
            let what = "the source is not quantized: nothing to take to another format";
            return Err(Error::new(Code::Unsupported, what).remedy(
                "use lowbit quantize, with --method rtn where no text is to be looked at",
            ));
        }
        if let Some(dtype) = &options.dtype {
            let what = format!("dtype {dtype:?} is for format float");
            return Err(Error::new(Code::Option, what).remedy("use scaleDtype for scales"));
        }
        let scale_dtype = options.scale_dtype.as_deref().map(parse_scale_dtype);
        Ok(Self {
            options,
            layout,
            scheme: options.scheme.as_deref().map(str::parse).transpose()?,
            scale_dtype: scale_dtype.transpose()?,
            observer: Observer::parse(options.observer.as_deref().unwrap_or("minmax"))?,
            ordered: source.config["quantization_config"]["desc_act"] == true,
            tensors: Vec::new(),
            target: Layouts::empty(),
            assignment: Vec::new(),
            stored: (0, 0),
            by_index: false,
        })
    }

    fn add(&mut self, index: usize, tensor: &Logical) -> Result<()> {
        let (form, step) = match tensor.quantized() {
            Some(quantized) => {
                let place = |e: Error| e.at(format!("module {:?}", tensor.module()));
                let remake = self.remake(tensor, quantized).map_err(place)?;
                let whole = !tensor.is_edited() && remake.planned.how != How::Rounded;
                let rows = Form::Rows { granule: 1 };
                self.target.planned.push(remake.planned.clone());
                (
                    if whole { Form::Matrix } else { rows },
                    Step::Remake(Box::new(remake)),
                )
            }
            None => {
                self.tensors.push(safetensors::Planned {
                    name: tensor.name.clone(),
                    dtype: tensor.dtype,
                    shape: tensor.shape.clone(),
                });
                self.plain(tensor)
            }
        };
        self.target.wants.push(Want {
            tensor: index,
            form,
            unit: work::unit(&tensor.name),
            work: work::of(tensor, form)?,
        });
        self.target.steps.push(step);
        Ok(())
    }

    fn plain(&mut self, tensor: &Logical) -> (Form, Step) {
        if !tensor.is_edited() {
            return (Form::Stored, Step::Copy(Copy::new(&tensor.name)));
        }
        let planned = Planned {
            name: tensor.module().to_owned(),
            shape: (tensor.rows(), tensor.cols()),
            from: tensor.dtype.name().into(),
            to: tensor.dtype.name().into(),
            how: How::Merged,
            why: "an adapter is merged".into(),
        };
        self.target.planned.push(planned.clone());
        let cast = Cast::new(tensor, tensor.dtype, planned, self.options.exact);
        (Form::Rows { granule: 1 }, Step::Cast(cast))
    }

    /// Decides about a quantized matrix.
    fn remake(&mut self, tensor: &Logical, quantized: &Quantized) -> Result<Remake> {
        let shape = (tensor.rows(), tensor.cols());
        let from = &quantized.scheme;
        let scheme = match self.scheme {
            Some(scheme) => scheme,
            None => natural(from, self.layout, shape)?,
        };
        self.layout.fits(&scheme, shape.0, shape.1)?;
        let by_index = self.by_index(tensor, quantized, &scheme, shape);
        let (how, why) = self.outcome(tensor, quantized, &scheme, by_index);
        self.check_inputs(from, &scheme, how)?;
        if how == How::Rounded && scheme.element == Element::Int && scheme.group == Group::Tensor {
            let what = format!("{from} is not rounded to {scheme}, with one scale for the matrix");
            return Err(Error::new(Code::Scheme, what).remedy("name a scheme with groups or rows"));
        }
        let scale_dtype = self.scale_dtype.unwrap_or_else(|| scale_dtype(quantized));
        // Layouts of tables store the type of the original instead of one of scales.
        let integers = matches!(scheme.element, Element::Int | Element::Fp8);
        let dtype = if integers { scale_dtype } else { tensor.dtype };
        let module = tensor.module();
        let outputs = self.layout.outputs(module, &scheme, shape, dtype, by_index);
        for planned in outputs {
            // The shape tensor is a label, not a cost that grows with the weights.
            if !planned.name.ends_with("weight_shape") {
                self.stored.0 += 8 * planned.bytes()?;
            }
            self.tensors.push(planned);
        }
        let weights = shape.0 as u64 * shape.1 as u64;
        self.stored.1 += weights;
        self.target.largest = self.target.largest.max(weights);
        self.by_index |= by_index;
        self.assignment.push((module.to_owned(), scheme));
        Ok(Remake {
            module: module.to_owned(),
            layout: self.layout,
            wanted: Wanted {
                scheme,
                scale_dtype,
                by_index,
            },
            dtype,
            planned: Planned {
                name: module.to_owned(),
                shape,
                from: from.to_string(),
                to: scheme.to_string(),
                how,
                why,
            },
            observer: self.observer,
            exact: self.options.exact,
            values: Vec::new(),
            rounded: None,
            quality: Quality::default(),
            outcome: None,
        })
    }

    /// Whether the output stores a group for each column.
    fn by_index(
        &self,
        tensor: &Logical,
        quantized: &Quantized,
        scheme: &Scheme,
        shape: (usize, usize),
    ) -> bool {
        let outputs = self.layout.outputs("", scheme, shape, Dtype::F32, true);
        let holds = outputs.iter().any(|p| p.name.ends_with("g_idx"));
        let several = scheme.group_cols(shape.1).is_ok_and(|g| g < shape.1);
        holds && several && !tensor.is_edited() && self.has_order(quantized)
    }

    fn has_order(&self, quantized: &Quantized) -> bool {
        let has = |end: &str| quantized.parts.iter().any(|p| p.name.ends_with(end));
        has(".weight_g_idx") || (self.ordered && has(".g_idx"))
    }

    fn outcome(
        &self,
        tensor: &Logical,
        quantized: &Quantized,
        scheme: &Scheme,
        by_index: bool,
    ) -> (How, String) {
        if tensor.is_edited() {
            return (How::Merged, "an adapter is merged".into());
        }
        let (from, cols) = (&quantized.scheme, tensor.cols());
        let groups = |s: &Scheme| s.group_cols(cols).unwrap_or(0);
        let several = groups(from) < cols;
        if several && self.has_order(quantized) && !(by_index && groups(from) == groups(scheme)) {
            let what = "columns have groups in an order of their own";
            return (How::Rounded, what.into());
        }
        let (how, why) = forecast(from, scheme, (tensor.rows(), cols));
        let other = self.scale_dtype.filter(|d| *d != scale_dtype(quantized));
        match (how, other) {
            (How::Exact, Some(dtype)) => (
                How::IfItFits,
                format!("if {} holds every scale", dtype.name()),
            ),
            _ => (how, why),
        }
    }

    /// Rounding of inputs is part of what a checkpoint says; a change is told.
    fn check_inputs(&mut self, from: &Scheme, to: &Scheme, how: How) -> Result<()> {
        let is_static = to.activations.is_some_and(|a| !a.dynamic);
        let rounded = matches!(how, How::Rounded | How::Merged);
        let differ = match inputs_differ(from, to) {
            None if is_static && rounded => {
                Some("a scale for the inputs does not go with changed weights")
            }
            other => other,
        };
        let Some(what) = differ else {
            return Ok(());
        };
        let what = format!("{from} → {to}: {what}");
        if is_static {
            return Err(Error::new(Code::Scheme, what)
                .remedy("use lowbit quantize on the original, with calibration text"));
        }
        if !self.target.warnings.contains(&what) {
            self.target.warnings.push(what);
        }
        Ok(())
    }

    fn finish(mut self, request: &Request, source: &Source) -> Result<Layouts> {
        let shard_bytes = request.max_shard_bytes.unwrap_or(SHARD_BYTES);
        self.target.files = Files::new(&self.tensors, shard_bytes)?;
        let mut ignored = source.float_linears();
        let head = source.model.as_ref().map(|m| m.arch().head.to_owned());
        let named = |h: &String| {
            ignored.contains(h) || self.assignment.iter().any(|(module, _)| module == h)
        };
        ignored.extend(head.filter(|h| !named(h)));
        let own = self
            .layout
            .config(&self.assignment, &ignored, self.by_index);
        check_config(self.layout, &own, &self.assignment)?;
        self.target.config = source.config.clone();
        self.target.config["quantization_config"] = own;
        self.target.bits = self.stored.0 as f64 / self.stored.1.max(1) as f64;
        Ok(self.target)
    }
}

/// The scheme that holds the same values in a layout: the source's own, or one that says the same
/// in other words. `scheme` with the layout's reason when there is none.
fn natural(from: &Scheme, layout: &dyn Layout, shape: (usize, usize)) -> Result<Scheme> {
    let zeros: &[ZeroPoint] = match from.zero {
        ZeroPoint::None => &[ZeroPoint::None, ZeroPoint::Int, ZeroPoint::Float],
        ZeroPoint::Int => &[ZeroPoint::Int, ZeroPoint::Float],
        ZeroPoint::Float => &[ZeroPoint::Float],
    };
    let cols = shape.1;
    let groups = match from.group {
        Group::Row => [
            Group::Row,
            Group::Run(cols),
            Group::Run(128),
            Group::Run(64),
        ],
        Group::Run(n) if n == cols => [Group::Run(n), Group::Row, Group::Run(128), Group::Run(64)],
        other => [other; 4],
    };
    let zeros = zeros
        .iter()
        .filter(|z| from.element == Element::Int || **z == from.zero);
    for zero in zeros {
        for group in groups {
            let scheme = Scheme {
                zero: *zero,
                group,
                ..*from
            };
            if layout.fits(&scheme, shape.0, shape.1).is_ok() {
                return Ok(scheme);
            }
        }
    }
    let Err(e) = layout.fits(from, shape.0, shape.1) else {
        return Ok(*from);
    };
    let remedy = format!(
        "name a --scheme of {} to have values rounded to it",
        layout.name()
    );
    Err(Error::new(e.code, e.what).remedy(remedy))
}

/// Endings of the tensors that hold scales.
const SCALES: &[&str] = &[
    "weight_scale",
    "weight_scale_inv",
    "weight_scales",
    "scales",
    "scale",
    "SCB",
];

/// The type that a matrix's scales have; `F32` for those that are no plain floats.
fn scale_dtype(quantized: &Quantized) -> Dtype {
    let is_scale = |name: &str| {
        name.rsplit('.')
            .next()
            .is_some_and(|end| SCALES.contains(&end))
    };
    let found = quantized.parts.iter().find(|p| is_scale(&p.name));
    match found.map(|p| p.dtype) {
        Some(dtype @ (Dtype::F16 | Dtype::BF16)) => dtype,
        _ => Dtype::F32,
    }
}

fn parse_scale_dtype(name: &str) -> Result<Dtype> {
    match Dtype::parse(&name.to_uppercase())? {
        dtype @ (Dtype::F32 | Dtype::F16 | Dtype::BF16) => Ok(dtype),
        _ => Err(Error::new(Code::Option, format!("scales cannot be {name}"))
            .remedy("use F32, F16 or BF16")),
    }
}

/// `scheme` when the layout's config cannot say what each module is.
fn check_config(
    layout: &dyn Layout,
    config: &Value,
    assignment: &[(String, Scheme)],
) -> Result<()> {
    let Some(resolver) = layout.detect(config) else {
        return Err(Error::new(Code::Internal, "the config is not its layout's"));
    };
    let resolver = resolver?;
    // Blocks of flat tensors are stored beside them.
    let said = |s: &Scheme| match s.group {
        Group::Flat(_) => (s.element, s.bits, s.zero, None),
        group => (s.element, s.bits, s.zero, Some(group)),
    };
    for (module, scheme) in assignment {
        let read = resolver.scheme(module);
        if read.as_ref().map(said) != Some(said(scheme)) {
            let what = format!("{} has one scheme for all modules", layout.name());
            return Err(
                Error::new(Code::Scheme, format!("{scheme} beside others: {what}"))
                    .at(format!("module {module:?}"))
                    .remedy("name a --scheme for all, or use format compressed-tensors"),
            );
        }
    }
    Ok(())
}

impl Layouts {
    fn empty() -> Self {
        Self {
            files: Files::default(),
            wants: Vec::new(),
            steps: Vec::new(),
            planned: Vec::new(),
            config: Value::Null,
            bits: 0.0,
            largest: 0,
            warnings: Vec::new(),
        }
    }
}

impl Target for Layouts {
    fn files(&self) -> &Files {
        &self.files
    }

    fn wants(&self) -> &[Want] {
        &self.wants
    }

    fn begin(&self, want: usize, _source: &Source) -> Result<Box<dyn Making>> {
        Ok(match &self.steps[want] {
            Step::Copy(copy) => Box::new(copy.clone()),
            Step::Cast(cast) => Box::new(cast.clone()),
            Step::Remake(remake) => Box::new((**remake).clone()),
        })
    }

    fn planned(&self) -> &[Planned] {
        &self.planned
    }

    fn config(&self) -> Option<&Value> {
        Some(&self.config)
    }

    fn bits_per_weight(&self) -> Option<f64> {
        Some(self.bits)
    }

    fn memory_bytes(&self) -> u64 {
        // Floats of a matrix that must be rounded whole, and the result twice.
        self.largest * 4
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }
}
