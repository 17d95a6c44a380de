//! One weight of a model: the tensors that it is made of, and how they become it.

use super::arch::{Kind, Row};
use super::config::Config;
use super::weights::Needed;
use super::{Slotted, Stored, blocks};
use crate::error::{Code, Error, Result};
use crate::layout::Layout;
use crate::scheme::Scheme;
use crate::tensor::{Dtype, Tensor};

/// A weight of the model by its module: what the loader goes through.
#[derive(Debug)]
pub(super) struct Item {
    /// As in `model.layers.0.self_attn.q_proj`.
    pub(super) module: String,
    pub(super) form: Form,
    /// How its matrix is stored, unless as one tensor of floats.
    pub(super) quantized: Option<Quantized>,
    /// Added to a vector, see `Arch::norm_offset`.
    offset: f32,
    /// Last part of the name of the vector or matrix.
    own: &'static str,
    /// Last part of the name of its bias.
    pub(super) bias_name: &'static str,
}

/// A matrix in a layout.
#[derive(Debug)]
pub(super) struct Quantized {
    pub(super) layout: &'static dyn Layout,
    pub(super) scheme: Scheme,
    /// Those of its tensors that the checkpoint has.
    pub(super) parts: Vec<String>,
}

/// What a weight is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// A vector of this length.
    Vector(usize),
    /// A matrix, with a bias of `rows` values or without.
    Matrix {
        rows: usize,
        cols: usize,
        bias: bool,
    },
}

impl Item {
    /// The weight that a row stands for in block `layer`.
    pub(super) fn of_row(config: &Config, layer: usize, row: &Row) -> Self {
        let module = config.module_of(layer, row);
        let form = match row.kind {
            Kind::Vector(len) | Kind::Bias(len) => Form::Vector(len.of(config)),
            Kind::Table { rows, cols } => Form::Matrix {
                rows: rows.of(config),
                cols: cols.of(config),
                bias: false,
            },
            Kind::Matrix { rows, cols, bias } => Form::Matrix {
                rows: rows.of(config),
                cols: cols.of(config),
                bias: bias.present(config),
            },
        };
        let bias_name = match row.kind {
            Kind::Matrix { bias, .. } => bias.tensor(),
            _ => "bias",
        };
        let own = match (row.kind, config.old_norms) {
            (Kind::Bias(_), true) => "beta",
            (Kind::Bias(_), false) => "bias",
            (Kind::Vector(_), true) => "gamma",
            _ => "weight",
        };
        Self {
            offset: config.arch().norm_offset,
            own,
            bias_name,
            ..Self::new(module, form)
        }
    }

    /// The final norm.
    pub(super) fn final_norm(config: &Config) -> Self {
        let arch = config.arch();
        Self {
            offset: arch.norm_offset,
            ..Self::new(config.named(arch.norm), Form::Vector(config.hidden))
        }
    }

    /// A weight that is stored as floats.
    fn new(module: String, form: Form) -> Self {
        Self {
            module,
            form,
            quantized: None,
            offset: 0.0,
            own: "weight",
            bias_name: "bias",
        }
    }

    /// The embedding or the head, `[vocabulary, hidden]`.
    pub(super) fn vocabulary(config: &Config, module: &str) -> Self {
        let module = config.named(module);
        let form = Form::Matrix {
            rows: config.vocabulary,
            cols: config.hidden,
            bias: false,
        };
        Self::new(module, form)
    }

    pub(super) fn named(&self, tensor: &str) -> String {
        format!("{}.{tensor}", self.module)
    }

    /// Its tensors of floats: all of them, or all but the matrix when that is quantized.
    pub(super) fn needed(&self) -> Vec<Needed> {
        let tensor = |name: &str, shape: &[usize]| Needed {
            name: self.named(name),
            shape: shape.to_vec(),
        };
        match self.form {
            Form::Vector(len) => vec![tensor(self.own, &[len])],
            Form::Matrix { rows, cols, bias } => {
                let weight = self.quantized.is_none();
                let weight = weight.then(|| tensor("weight", &[rows, cols]));
                let bias = bias.then(|| tensor(self.bias_name, &[rows]));
                weight.into_iter().chain(bias).collect()
            }
        }
    }

    /// Everything that `build` takes, in its order.
    pub(super) fn names(&self) -> Vec<String> {
        let parts = self.quantized.iter().flat_map(|q| q.parts.clone());
        parts
            .chain(self.needed().into_iter().map(|n| n.name))
            .collect()
    }

    /// `missing-tensor` when the matrix is quantized and the checkpoint lacks one of its tensors.
    pub(super) fn check_parts(&self) -> Result<()> {
        let (Some(q), Form::Matrix { rows, cols, .. }) = (&self.quantized, self.form) else {
            return Ok(());
        };
        // Their shapes are the layout's to judge, when it decodes them.
        let outputs = q
            .layout
            .outputs(&self.module, &q.scheme, (rows, cols), Dtype::F32, false);
        match outputs
            .iter()
            .find(|planned| !q.parts.contains(&planned.name))
        {
            None => Ok(()),
            Some(planned) => {
                let what = format!("tensor {:?} is missing", planned.name);
                let remedy = format!("quantization_config says {} for it", q.scheme);
                Err(Error::new(Code::MissingTensor, what)
                    .at("the checkpoint")
                    .remedy(remedy))
            }
        }
    }

    /// Takes its tensors, as `names` lists them, from the front of `tensors`.
    pub(super) fn build(
        &self,
        tensors: &mut impl Iterator<Item = Tensor>,
    ) -> Result<Slotted<Stored>> {
        let (rows, cols, bias) = match self.form {
            Form::Vector(_) => {
                let mut values = floats(&self.take(self.own, tensors)?)?;
                for value in &mut values {
                    *value += self.offset;
                }
                return Ok(Slotted::Vector(values));
            }
            Form::Matrix { rows, cols, bias } => (rows, cols, bias),
        };
        let weight = match &self.quantized {
            None => blocks::stored(self.take("weight", tensors)?, cols)?,
            Some(quantized) => {
                let parts: Vec<_> = tensors.take(quantized.parts.len()).collect();
                let decoded = quantized
                    .layout
                    .decode(&self.module, &quantized.scheme, &parts);
                let matrix = decoded.map_err(|e| e.at("the checkpoint"))?;
                let wanted = Needed {
                    name: self.module.clone(),
                    shape: vec![rows, cols],
                };
                wanted.check(&[matrix.rows, matrix.cols])?;
                Stored::Quantized(matrix)
            }
        };
        let bias = bias.then(|| self.take(self.bias_name, tensors).and_then(|t| floats(&t)));
        Ok(Slotted::Matrix {
            weight,
            bias: bias.transpose()?,
        })
    }

    /// The next tensor, which must be the named one of this module and of the right shape.
    fn take(&self, name: &str, tensors: &mut impl Iterator<Item = Tensor>) -> Result<Tensor> {
        let needed = self
            .needed()
            .into_iter()
            .find(|n| n.name == self.named(name));
        let found = tensors.next().zip(needed).filter(|(t, n)| t.name == n.name);
        let Some((tensor, needed)) = found else {
            let what = format!(
                "tensor {:?} was asked for and not supplied",
                self.named(name)
            );
            return Err(Error::new(Code::Internal, what));
        };
        needed.check(&tensor.shape)?;
        Ok(tensor)
    }
}

impl Needed {
    /// `shape` when the checkpoint's tensor has another one.
    pub(super) fn check(&self, found: &[usize]) -> Result<()> {
        if found == self.shape {
            return Ok(());
        }
        let what = format!("shape {found:?}, config.json asks for {:?}", self.shape);
        Err(Error::new(Code::Shape, what).at(format!("tensor {:?}", self.name)))
    }
}

/// All values of a tensor: norms and biases, and blocks that have no other form.
pub(super) fn floats(tensor: &Tensor) -> Result<Vec<f32>> {
    let floats = tensor.view().and_then(|t| t.to_f32());
    floats.map_err(|e| e.at(format!("tensor {:?}", tensor.name)))
}
