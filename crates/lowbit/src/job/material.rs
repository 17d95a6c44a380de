//! The weights of the block under way: as passes run them and, where something changes them, as
//! floats.

use super::finite;
use super::plan::Plan;
use super::step::World;
use crate::cpu::Compute;
use crate::error::{Code, Error, Result};
use crate::kernels::matmul::Weight;
use crate::matrix::QuantizedMatrix;
use crate::model::ops::Part;
use crate::model::{Block, Slotted, Stored, weights};
use crate::tensor::{Dtype, Tensor, TensorRef, bytes_from_f32, round_to};
use crate::transform::{FloatBlock, Matrix};

/// A block's weights.
#[derive(Debug)]
pub(super) struct Material {
    index: usize,
    /// What passes run; none when nothing is calibrated.
    pub running: Option<Block<Weight>>,
    /// What transforms and pruning change; none when there are none. A matrix is emptied once it
    /// is quantized.
    pub float: Option<FloatBlock>,
    /// The tensors of each part: the weight, and the bias of a linear that has one.
    names: Vec<(Part, Vec<String>)>,
}

impl Material {
    /// Takes the bytes of the block's tensors, and what was wrong with them and mended.
    pub(super) fn read(
        world: &World<'_>,
        index: usize,
        answer: Vec<Vec<u8>>,
    ) -> Result<(Self, Vec<String>)> {
        let plan = world.plan;
        let needed = weights::block_tensors(&plan.model, index);
        let (mut tensors, mut notes) = (Vec::new(), Vec::new());
        for (needed, mut bytes) in needed.iter().zip(answer) {
            let info = plan.tensor(&needed.name)?;
            let zeroed = plan
                .nonfinite
                .check(&info.name, info.dtype, &mut bytes, 0)?;
            notes.extend(finite::note(&info.name, zeroed));
            tensors.push(Tensor {
                name: info.name.clone(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                bytes,
            });
        }
        let stored = weights::block(&plan.model, index, tensors)?;
        let names = names(plan, index, &stored);
        let mut float = None;
        if plan.changes.widen() {
            let mut wide = widened(&stored)?;
            if let Some(rotation) = &plan.rotation {
                rotation.fuse_block(world.cpu, index, &mut wide);
            }
            float = Some(wide);
        }
        let mut material = Self {
            index,
            running: None,
            float,
            names,
        };
        if plan.calibration.is_some() {
            let running = stored.map(|stored| match stored {
                Stored::Dense(tensor) => Weight::dense(tensor.view()?),
                Stored::Quantized(m) => Weight::packed(&m, Compute::F32, world.cpu.isa),
            })?;
            material.running = Some(running);
            if plan.rotation.is_some() {
                material.refresh()?;
            }
        }
        Ok((material, notes))
    }

    /// What passes run; an internal error when nothing is calibrated.
    pub(super) fn running(&self) -> Result<&Block<Weight>> {
        let none = || Error::new(Code::Internal, "no block to run");
        self.running.as_ref().ok_or_else(none)
    }

    /// All values of a matrix that is not quantized yet.
    pub(super) fn values(&self, part: Part) -> Result<Vec<f32>> {
        if let Some(float) = &self.float {
            return Ok(float.matrix(part).0.values.clone());
        }
        let weight = self.running()?.matrix(part).0;
        let cols = weight.cols();
        let mut values = vec![0.0f32; weight.rows() * cols];
        for (r, row) in values.chunks_exact_mut(cols).enumerate() {
            weight.row(r, row)?;
        }
        Ok(values)
    }

    /// Puts the floats, as far as they are not quantized, into what passes run.
    pub(super) fn refresh(&mut self) -> Result<()> {
        let (Some(float), Some(running)) = (&self.float, &mut self.running) else {
            return Ok(());
        };
        for ((_, from), (_, to)) in float.weights.iter().zip(&mut running.weights) {
            match (from, to) {
                (Slotted::Vector(from), Slotted::Vector(to)) => to.clone_from(from),
                (
                    Slotted::Matrix { weight, bias },
                    Slotted::Matrix {
                        weight: to,
                        bias: to_bias,
                    },
                ) => {
                    to_bias.clone_from(bias);
                    if !weight.values.is_empty() {
                        *to = weight.to_weight()?;
                    }
                }
                _ => return Err(Error::new(Code::Internal, "parts differ in kind")),
            }
        }
        Ok(())
    }

    /// Rounds everything that stays in floats to the type that it is stored in, so that the next
    /// block is calibrated on what will be loaded.
    pub(super) fn settle(&mut self, plan: &Plan) -> Result<()> {
        let Some(float) = &mut self.float else {
            return Ok(());
        };
        let offset = plan.model.arch().norm_offset;
        for ((_, slotted), (_, names)) in float.weights.iter_mut().zip(&self.names) {
            let mut dtypes = names.iter().map(|n| plan.tensor(n).map(|t| t.dtype));
            let mut next = || dtypes.next().unwrap_or(Ok(Dtype::F32));
            match slotted {
                Slotted::Vector(v) => round_all(v, next()?, offset),
                Slotted::Matrix { weight, bias } => {
                    // Those that are quantized are empty.
                    round_all(&mut weight.values, next()?, 0.0);
                    if let Some(bias) = bias {
                        round_all(bias, next()?, 0.0);
                    }
                }
            }
        }
        self.refresh()
    }

    /// Puts a quantized matrix in the place of its source.
    pub(super) fn place(
        &mut self,
        world: &World<'_>,
        part: Part,
        m: &QuantizedMatrix,
    ) -> Result<()> {
        if let Some(float) = &mut self.float
            && let Some((_, Slotted::Matrix { weight, .. })) =
                float.weights.iter_mut().find(|(p, _)| *p == part)
        {
            weight.values = Vec::new();
        }
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let slot = running.weights.iter_mut().find(|(p, _)| *p == part);
        let Some((_, Slotted::Matrix { weight, .. })) = slot else {
            return Err(Error::new(Code::Internal, format!("{part:?} is no matrix")));
        };
        *weight = Weight::packed(m, Compute::F32, world.cpu.isa)?;
        Ok(())
    }

    /// The bytes of a tensor that stays in floats, after `settle`.
    pub(super) fn stored(&self, plan: &Plan, name: &str) -> Result<Vec<u8>> {
        let missing = || Error::new(Code::Internal, format!("{name:?} is not in the block"));
        let float = self.float.as_ref().ok_or_else(missing)?;
        let dtype = plan.tensor(name)?.dtype;
        let slots = float.weights.iter().zip(&self.names);
        let found = slots
            .flat_map(|((_, slotted), (_, names))| {
                (names.iter().enumerate()).map(move |(i, n)| (n, i, slotted))
            })
            .find(|(n, _, _)| *n == name);
        let (_, i, slotted) = found.ok_or_else(missing)?;
        match slotted {
            Slotted::Vector(v) => {
                let offset = plan.model.arch().norm_offset;
                let stored: Vec<_> = v.iter().map(|v| v - offset).collect();
                bytes_from_f32(dtype, &stored)
            }
            Slotted::Matrix { weight, .. } if i == 0 => bytes_from_f32(dtype, &weight.values),
            Slotted::Matrix { bias, .. } => {
                bytes_from_f32(dtype, bias.as_ref().ok_or_else(missing)?)
            }
        }
    }

    /// The block that it is.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// The tensor of a vector or of a matrix.
    pub(super) fn tensor_of(&self, part: Part) -> Option<&str> {
        let found = self.names.iter().find(|(p, _)| *p == part);
        found.and_then(|(_, names)| names.first().map(String::as_str))
    }
}

/// The floats of a block as stored.
fn widened(stored: &Block<Stored>) -> Result<FloatBlock> {
    let widen = |(part, slotted): &(Part, Slotted<Stored>)| {
        let wide = match slotted {
            Slotted::Vector(v) => Slotted::Vector(v.clone()),
            Slotted::Matrix { weight, bias } => Slotted::Matrix {
                weight: Matrix::from_stored(weight)?,
                bias: bias.clone(),
            },
        };
        Ok((*part, wide))
    };
    Ok(Block {
        ops: stored.ops.clone(),
        weights: stored.weights.iter().map(widen).collect::<Result<_>>()?,
    })
}

/// Rounds values that are stored without `offset`.
fn round_all(values: &mut [f32], dtype: Dtype, offset: f32) {
    if dtype != Dtype::F32 {
        let round = |v: &mut f32| *v = round_to(dtype, *v - offset) + offset;
        values.iter_mut().for_each(round);
    }
}

/// The tensors of each part, in the order of the block's weights.
fn names(plan: &Plan, index: usize, block: &Block<Stored>) -> Vec<(Part, Vec<String>)> {
    let linears = weights::linears(&plan.model, index);
    let needed = weights::block_tensors(&plan.model, index);
    let of_linears: Vec<_> = (linears.iter())
        .flat_map(|l| [Some(&l.weight), l.bias.as_ref()])
        .flatten()
        .collect();
    let mut vectors = needed.iter().filter(|n| !of_linears.contains(&&n.name));
    let of = |part: Part| match linears.iter().find(|l| l.part == part) {
        Some(l) => std::iter::once(&l.weight).chain(&l.bias).cloned().collect(),
        None => vectors.next().map(|n| n.name.clone()).into_iter().collect(),
    };
    let mut of = of;
    block
        .weights
        .iter()
        .map(|(part, _)| (*part, of(*part)))
        .collect()
}

/// A dense weight of values that stay f32.
pub(super) fn dense(rows: usize, cols: usize, values: &[f32]) -> Result<Weight> {
    let bytes = bytes_from_f32(Dtype::F32, values)?;
    Weight::dense(TensorRef::new(Dtype::F32, &[rows, cols], &bytes)?)
}
