//! Several samples through a block at a time, one per thread.
//!
//! Small blocks leave threads little to share inside an operation, and waking them for each costs
//! more than it gives. Kernels give the same bits on one thread as on many, and inputs are added to
//! the statistics in the order of samples, so that nothing depends on the number of threads.

use super::tapped::Tapped;
use crate::cpu::Cpu;
use crate::error::Result;
use crate::kernels::matmul::Weight;
use crate::model::Block;
use crate::model::config::Config;
use crate::model::forward::{LayerCache, Scratch, Watch, watch_block};
use crate::model::ops::Part;

/// What one thread needs for its sample.
#[derive(Debug)]
pub(super) struct Lane {
    scratch: Scratch,
    /// The inputs that were seen, by tap; empty for a tap that saw none.
    inputs: Vec<Vec<f32>>,
    /// The keys and values of the sample that passed last.
    pub cache: LayerCache,
}

/// What a pass looks at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub taps: &'a [Tapped],
    pub all_experts: bool,
    /// First part of the last input that is wanted, if outputs are not.
    pub until: Option<Part>,
}

impl Lane {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            scratch: Scratch::new(config),
            inputs: Vec::new(),
            cache: LayerCache::default(),
        }
    }

    /// The inputs of the sample that passed last, by tap.
    pub(super) fn inputs(&self) -> impl Iterator<Item = (usize, &[f32])> {
        let seen = self.inputs.iter().enumerate();
        seen.filter(|(_, x)| !x.is_empty())
            .map(|(tap, x)| (tap, x.as_slice()))
    }

    fn run(
        &mut self,
        cpu: &Cpu,
        block: &Block<Weight>,
        hidden: &mut [f32],
        wanted: Wanted<'_>,
    ) -> Result<()> {
        self.inputs.resize_with(wanted.taps.len(), Vec::new);
        self.inputs.iter_mut().for_each(Vec::clear);
        let inputs = &mut self.inputs;
        let mut tap = |parts: &[Part], x: &[f32]| {
            let first = parts.first();
            let mut taps = wanted.taps.iter();
            if let Some(i) = taps.position(|t| t.parts.first() == first) {
                inputs[i].extend_from_slice(x);
            }
            Ok(())
        };
        let watch = Watch {
            tap: &mut tap,
            all_experts: wanted.all_experts,
            until: wanted.until,
        };
        let wanted = !wanted.taps.is_empty() || wanted.until.is_some();
        self.cache = LayerCache::default();
        let cache = &mut self.cache;
        watch_block(
            cpu,
            &mut self.scratch,
            block,
            cache,
            hidden,
            wanted.then_some(watch),
        )
    }
}

/// Runs `hidden`, one whole sample per lane, in place; the error is that of the first sample.
pub(super) fn pass(
    cpu: &Cpu,
    block: &Block<Weight>,
    lanes: &mut [Lane],
    hidden: &mut [f32],
    wanted: Wanted<'_>,
) -> Result<()> {
    let alone = Cpu::with_isa(cpu.isa);
    let len = hidden.len() / lanes.len().max(1);
    let samples = lanes.iter_mut().zip(hidden.chunks_mut(len.max(1)));
    let mut work: Vec<_> = samples
        .map(|(lane, hidden)| (lane, hidden, Ok(())))
        .collect();
    cpu.run_chunks(&mut work, 1, true, |_, work| {
        for (lane, hidden, result) in work {
            *result = lane.run(&alone, block, hidden, wanted);
        }
    });
    work.into_iter().try_for_each(|(_, _, result)| result)
}
