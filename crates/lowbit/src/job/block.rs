//! One block of a calibrated method.
//!
//! ```text
//! read weights ─► pass 1: Hessians ─► factor and round each linear ─► pass 2: outputs ─► copy
//! ```
//! Pass 2 runs on the quantized weights, so that the next block is calibrated on what it will
//! really get (sequential propagation); after the last block nobody needs its outputs.

use super::copy::{Copier, require_finite};
use super::journal::{Activations, Line};
use super::passes::{Passes, Tapped};
use super::plan::{Layer, Plan};
use super::report::LayerReport;
use super::shared::{Finished, SharedInput};
use super::sink::Sink;
use super::step::{Unit, World};
use super::{Ask, pace};
use crate::cpu::Compute;
use crate::error::{Code, Error, Result};
use crate::kernels::matmul::Weight;
use crate::model::ops::Op;
use crate::model::{Block, Slotted, Stored, weights};
use crate::round::hessian::Hessian;
use crate::tensor::Tensor;
use std::collections::VecDeque;
use std::sync::Arc;

/// What is being done.
#[derive(Debug)]
enum Stage {
    /// The block's tensors are asked for.
    Read,
    Calibrate(Passes),
    Round(SharedInput),
    Forward(Passes),
    Copy,
}

/// Calibrates and quantizes one block.
#[derive(Debug)]
pub(super) struct CalibratedBlock {
    index: usize,
    stage: Option<Stage>,
    block: Block<Weight>,
    /// What the block does in full; pass 1 stops at the last input that is wanted.
    ops: Arc<[Op]>,
    /// Inputs whose linears are not rounded yet.
    taps: VecDeque<Tapped>,
    expected: Option<Activations>,
    written: Option<Activations>,
    copier: Copier,
    sink: Sink,
    reports: Vec<LayerReport>,
}

impl CalibratedBlock {
    /// `expected` is what an earlier run vouched for, if this is the first block after a resume.
    pub(super) fn new(plan: &Plan, index: usize, expected: Option<Activations>) -> Self {
        let ops = plan.model.ops(index);
        Self {
            index,
            stage: None,
            block: Block {
                ops: until_last_tap(plan, index, &ops),
                weights: Vec::new(),
            },
            ops,
            taps: VecDeque::new(),
            expected,
            written: None,
            copier: Copier::new(&plan.copies[index]),
            sink: Sink::default(),
            reports: Vec::new(),
        }
    }

    /// How much work it is without its copies, for progress.
    pub(super) fn work(plan: &Plan, index: usize) -> u64 {
        let tokens = plan.calibration.map_or(0, |c| c.samples * c.length);
        let hessian = |(_, layers): &(usize, VecDeque<Layer>)| {
            let n = layers[0].linear.cols;
            pace::gram_work(n, tokens) + pace::factor_work(n)
        };
        let size = |l: &Layer| pace::round_work(l.linear.rows, l.linear.cols, true);
        let passes = 1 + u64::from(index + 1 < plan.model.layers);
        let ops = plan.model.ops(index);
        passes * pace::pass_work(plan, index, tokens)
            + tapped(plan, index, &ops).iter().map(hessian).sum::<u64>()
            + plan.layers_of(index).map(size).sum::<u64>()
    }

    fn read(&mut self, world: &World<'_>, answer: Vec<Vec<u8>>) -> Result<()> {
        let plan = world.plan;
        let names = weights::block_tensors(&plan.model, self.index);
        let mut tensors = Vec::new();
        for (needed, bytes) in names.iter().zip(answer) {
            let info = plan.tensor(&needed.name)?;
            require_finite(&info.name, info.dtype, &bytes, 0)?;
            tensors.push(Tensor {
                name: info.name.clone(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                bytes,
            });
        }
        let block = weights::block(&plan.model, self.index, tensors)?;
        let block = block.map(|stored| match stored {
            Stored::Dense(tensor) => Weight::dense(tensor.view()?),
            Stored::Quantized(m) => Weight::packed(&m, Compute::F32, world.cpu.isa),
        })?;
        self.block.weights = block.weights;
        for (operation, layers) in tapped(plan, self.index, &self.ops) {
            self.taps.push_back(Tapped {
                operation,
                module: layers[0].linear.module.clone(),
                hessian: Hessian::new(layers[0].linear.cols),
            });
        }
        Ok(())
    }

    /// The next shared input to round for; after the last one, what follows.
    fn next_input(&mut self, world: &World<'_>) -> Stage {
        let plan = world.plan;
        if let Some(tap) = self.taps.pop_front() {
            let operations = tapped(plan, self.index, &self.ops);
            let found = operations.into_iter().find(|(o, _)| *o == tap.operation);
            let layers = found.map(|(_, layers)| layers).unwrap_or_default();
            return Stage::Round(SharedInput::new(world, tap, layers));
        }
        if self.index + 1 < plan.model.layers {
            self.block.ops = Arc::clone(&self.ops);
            return Stage::Forward(Passes::new(plan, self.index, true));
        }
        self.block.weights.clear();
        Stage::Copy
    }

    /// Hands a rounded linear to the files and puts it in the place of the source weight.
    fn place(&mut self, world: &World<'_>, done: Finished) -> Result<()> {
        let (plan, module) = (world.plan, &done.layer.linear.module);
        let encoded = plan
            .layout
            .encode(module, &done.matrix, &done.layer.scheme)?;
        for tensor in encoded {
            self.sink.tensor(plan, &tensor.name, &tensor.bytes)?;
        }
        self.reports.push(done.report);
        let part = done.layer.linear.part;
        let slot = self.block.weights.iter_mut().find(|(p, _)| *p == part);
        let Some((_, Slotted::Matrix { weight, .. })) = slot else {
            return Err(Error::new(Code::Internal, format!("{part:?} is no matrix")));
        };
        *weight = Weight::packed(&done.matrix, Compute::F32, world.cpu.isa)?;
        Ok(())
    }

    /// Goes on with a stage: what to ask, or the next stage.
    fn run(
        &mut self,
        world: &mut World<'_>,
        stage: Stage,
        answer: Vec<Vec<u8>>,
    ) -> Result<(Option<Ask>, Stage)> {
        match stage {
            Stage::Read => {
                self.read(world, answer)?;
                let passes = Passes::new(world.plan, self.index, false);
                let passes = passes.expecting(self.expected.take());
                Ok((Some(world.report()), Stage::Calibrate(passes)))
            }
            Stage::Calibrate(mut passes) => {
                let taps = self.taps.make_contiguous();
                match passes.poll(world, &answer, &self.block, taps)? {
                    Some(ask) => Ok((Some(ask), Stage::Calibrate(passes))),
                    None => Ok((None, self.next_input(world))),
                }
            }
            Stage::Round(shared) if shared.is_done() => Ok((None, self.next_input(world))),
            Stage::Round(mut shared) => {
                if let Some(done) = shared.step(world, &self.block)? {
                    self.place(world, done)?;
                }
                Ok((Some(world.report()), Stage::Round(shared)))
            }
            Stage::Forward(mut passes) => {
                if let Some(ask) = passes.poll(world, &answer, &self.block, &mut [])? {
                    return Ok((Some(ask), Stage::Forward(passes)));
                }
                self.written = passes.written();
                self.block.weights.clear();
                Ok((None, Stage::Copy))
            }
            Stage::Copy => {
                let ask = self.copier.poll(world, &mut self.sink, answer)?;
                Ok((ask, Stage::Copy))
            }
        }
    }
}

impl Unit for CalibratedBlock {
    fn poll(&mut self, world: &mut World<'_>, answer: Vec<Vec<u8>>) -> Result<Option<Ask>> {
        let mut answer = Some(answer);
        loop {
            let Some(stage) = self.stage.take() else {
                self.stage = Some(Stage::Read);
                let names = weights::block_tensors(&world.plan.model, self.index);
                let tensors = names.into_iter().map(|n| n.name).collect();
                return Ok(Some(Ask::Read { tensors }));
            };
            if let Some(write) = self.sink.pop() {
                // Only rounding fills the sink before the copies, and it awaits no answer.
                self.stage = Some(stage);
                return Ok(Some(write));
            }
            let at_end = matches!(stage, Stage::Copy);
            let (ask, next) = self.run(world, stage, answer.take().unwrap_or_default())?;
            self.stage = Some(next);
            if ask.is_some() || at_end {
                return Ok(ask);
            }
        }
    }

    fn line(&mut self) -> Option<Line> {
        Some(Line {
            unit: format!("block {}", self.index),
            tensors: self.sink.take_hashes(),
            activations: self.written.take(),
            layers: std::mem::take(&mut self.reports),
        })
    }
}

/// The linear operations of a block with layers to quantize: position among its linear
/// operations, and the layers in production order.
fn tapped(plan: &Plan, block: usize, ops: &[Op]) -> Vec<(usize, VecDeque<Layer>)> {
    let mut found = Vec::new();
    let mut operation = 0;
    for op in ops {
        if let Op::Linear { outputs, .. } = op {
            let shares = |l: &&Layer| outputs.iter().any(|(part, _)| *part == l.linear.part);
            let layers: VecDeque<_> = plan.layers_of(block).filter(shares).cloned().collect();
            if !layers.is_empty() {
                found.push((operation, layers));
            }
            operation += 1;
        }
    }
    found
}

/// The operations up to the last input that is wanted, whose linears are left out.
fn until_last_tap(plan: &Plan, block: usize, ops: &[Op]) -> Arc<[Op]> {
    let last = tapped(plan, block, ops)
        .last()
        .map(|(operation, _)| *operation);
    let (mut kept, mut operation) = (Vec::new(), 0);
    for op in ops.iter().take_while(|_| last.is_some()) {
        let Op::Linear { from, .. } = *op else {
            kept.push(*op);
            continue;
        };
        if Some(operation) == last {
            kept.push(Op::Linear { from, outputs: &[] });
            break;
        }
        kept.push(*op);
        operation += 1;
    }
    Arc::from(kept)
}
