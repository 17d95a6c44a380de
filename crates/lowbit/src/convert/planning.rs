//! What a layout makes of each tensor, decided one after another.

use super::assign::{check_config, divisor, natural, no_scheme, parse_scale_dtype, scale_dtype};
use super::exact::Wanted;
use super::float::{Cast, Copy, planned};
use super::forecast::{forecast, inputs_differ};
use super::joint;
use super::layouts::{Layouts, Step};
use super::remake::Remake;
use super::request::{Options, Request};
use super::source::{Logical, Quantized, Source};
use super::target::{Form, How, Planned, Want};
use super::work;
use crate::container::safetensors;
use crate::error::{Code, Error, Result};
use crate::job::files::Files;
use crate::job::plan::SHARD_BYTES;
use crate::job::stacked::Stacked;
use crate::layout::Layout;
use crate::model::config::Config;
use crate::round::observer::Observer;
use crate::scheme::{Element, Group, Scheme};
use crate::tensor::Dtype;
use std::collections::BTreeSet;

/// A target while its tensors are gone through.
pub(super) struct Planning<'a> {
    options: &'a Options,
    layout: &'static dyn Layout,
    scheme: Option<Scheme>,
    scale_dtype: Option<Dtype>,
    observer: Observer,
    model: Option<Config>,
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
    pub(super) fn new(
        request: &'a Request,
        source: &Source,
        layout: &'static dyn Layout,
    ) -> Result<Self> {
        let options = &request.options;
        if source.tensors.iter().all(|t| t.quantized().is_none()) {
            let what = "the source is not quantized: nothing to take to another format";
            return Err(Error::new(Code::Unsupported, what)
                .remedy("use lowbit quantize, with --method rtn to look at no text"));
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
            model: source.model.clone(),
            ordered: source.config["quantization_config"]["desc_act"] == true,
            tensors: Vec::new(),
            target: Layouts::empty(),
            assignment: Vec::new(),
            stored: (0, 0),
            by_index: false,
        })
    }

    pub(super) fn add(&mut self, index: usize, tensor: &Logical) -> Result<()> {
        let linear = tensor.is_linear(self.model.as_ref());
        let (form, step) = if let Some(quantized) = tensor.quantized().filter(|_| linear) {
            let place = |e: Error| e.at(format!("module {:?}", tensor.module()));
            let remake = self.remake(tensor, quantized).map_err(place)?;
            let whole = !tensor.is_edited()
                && (remake.planned.how != How::Rounded || is_static(&remake.wanted.scheme));
            let rows = Form::Rows { granule: 1 };
            self.target.planned.push(remake.planned.clone());
            (
                if whole { Form::Matrix } else { rows },
                Step::Remake(Box::new(remake)),
            )
        } else {
            self.tensors.push(safetensors::Planned {
                name: tensor.name.clone(),
                dtype: tensor.dtype,
                shape: tensor.shape.clone(),
            });
            self.plain(tensor)
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
        if !tensor.is_edited() && tensor.quantized().is_none() {
            return (Form::Stored, Step::Copy(Copy::new(&tensor.name)));
        }
        let planned = planned(tensor, tensor.dtype);
        self.target.planned.push(planned.clone());
        let cast = Cast::new(tensor, tensor.dtype, planned, self.options.exact);
        (Form::Rows { granule: 1 }, Step::Cast(cast))
    }

    /// Decides about a quantized matrix.
    pub(super) fn remake(&mut self, tensor: &Logical, quantized: &Quantized) -> Result<Remake> {
        let shape = (tensor.rows(), tensor.cols());
        let from = quantized.scheme();
        let scheme = match (self.scheme, &from) {
            (Some(scheme), _) => scheme,
            (None, Some(from)) => natural(from, self.layout, shape)?,
            (None, None) => return Err(no_scheme(quantized, self.layout)),
        };
        self.layout.fits(&scheme, shape.0, shape.1)?;
        let by_index = self.by_index(tensor, quantized, &scheme, shape);
        let (how, why) = self.outcome(tensor, quantized, &scheme, by_index);
        self.check_inputs(from.as_ref(), &scheme, how)?;
        if how == How::Rounded && scheme.element == Element::Int && scheme.group == Group::Tensor {
            let what = format!("nothing is rounded to {scheme}, with one scale for the matrix");
            return Err(Error::new(Code::Scheme, what).remedy("name a scheme with groups or rows"));
        }
        let scale_dtype = self.scale_dtype.unwrap_or_else(|| scale_dtype(quantized));
        // Layouts of tables store the type of the original instead of one of scales.
        let integers = matches!(scheme.element, Element::Int | Element::Fp8);
        let dtype = if integers { scale_dtype } else { tensor.dtype };
        let module = tensor.module();
        let outputs = self.layout.outputs(module, &scheme, shape, dtype, by_index);
        self.store(outputs, shape)?;
        self.by_index |= by_index;
        self.assignment.push((module.to_owned(), scheme));
        Ok(Remake {
            module: module.to_owned(),
            layout: self.layout,
            wanted: Wanted {
                scheme,
                scale_dtype,
                over: divisor(self.layout, &scheme),
                by_index,
            },
            dtype,
            planned: Planned {
                name: module.to_owned(),
                shape,
                from: quantized.name(),
                to: scheme.to_string(),
                how,
                why,
            },
            observer: self.observer,
            exact: self.options.exact,
            values: Vec::new(),
            rounded: Stacked::default(),
            compared: None,
            shared: None,
            input_scale: None,
            outcome: None,
        })
    }

    /// Counts the output tensors of a matrix.
    fn store(
        &mut self,
        outputs: Vec<safetensors::Planned>,
        (rows, cols): (usize, usize),
    ) -> Result<()> {
        for planned in outputs {
            // The shape tensor is a label, not a cost that grows with the weights.
            if !planned.name.ends_with("weight_shape") {
                self.stored.0 += 8 * planned.bytes()?;
            }
            self.tensors.push(planned);
        }
        let weights = rows as u64 * cols as u64;
        self.stored.1 += weights;
        self.target.largest = self.target.largest.max(weights);
        Ok(())
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
        let cols = tensor.cols();
        let Some(from) = &quantized.scheme() else {
            let what = format!("{} has no form that {scheme} holds", quantized.name());
            return (How::Rounded, what);
        };
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
    fn check_inputs(&mut self, from: Option<&Scheme>, to: &Scheme, how: How) -> Result<()> {
        let is_static = is_static(to);
        let differ = match inputs_differ(from, to) {
            None if is_static && how == How::Merged => {
                Some("a scale for the inputs does not go with changed weights")
            }
            other => other,
        };
        let Some(what) = differ else {
            return Ok(());
        };
        let from = from.map_or_else(|| "blocks".into(), Scheme::to_string);
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

    pub(super) fn finish(mut self, request: &Request, source: &Source) -> Result<Layouts> {
        let shard_bytes = request.max_shard_bytes.unwrap_or(SHARD_BYTES);
        self.target.files = Files::new(&self.tensors, shard_bytes)?;
        if let Some(model) = &source.model {
            joint::share(&mut self.target, model, source)?;
        }
        let assigned: BTreeSet<_> = self.assignment.iter().map(|(m, _)| m.as_str()).collect();
        let mut ignored = source.float_linears(|module| assigned.contains(module));
        // Encoders have none.
        let head = source.model.as_ref().map(|m| m.arch().head.to_owned());
        let head = head.filter(|h| !h.is_empty());
        let named = |h: &String| {
            ignored.contains(h) || self.assignment.iter().any(|(module, _)| module == h)
        };
        ignored.extend(head.filter(|h| !named(h)));
        let mut own = self
            .layout
            .config(&self.assignment, &ignored, self.by_index);
        let said = source.keep_cache(self.layout, &mut own);
        self.target.warnings.extend(said);
        check_config(self.layout, &own, &self.assignment)?;
        self.target.config = source.config.clone();
        self.target.config["quantization_config"] = own;
        let caveat = self.layout.order_caveat().filter(|_| self.by_index);
        self.target.warnings.extend(caveat.map(str::to_owned));
        self.target.bits = self.stored.0 as f64 / self.stored.1.max(1) as f64;
        Ok(self.target)
    }
}

/// Whether inputs are rounded with a scale from calibration.
fn is_static(scheme: &Scheme) -> bool {
    scheme.activations.is_some_and(|a| !a.dynamic)
}
