//! One pass of the whole calibration set through a block, a chunk of activations at a time.
//!
//! ```text
//! acts-0 ─ read a chunk ─► block, some tokens at a time ─┬─► write the chunk to acts-1
//!                                                        └─► taps: statistics of inputs
//! ```

use super::cache::Observed;
use super::finite::require_finite;
use super::journal::{Activations, corrupt};
use super::plan::Plan;
use super::samples::{self, Lane, Wanted};
use super::step::World;
use super::tapped::Tapped;
use super::{Ask, pace};
use crate::error::{Code, Error, Result};
use crate::kernels::matmul::Weight;
use crate::model::Block;
use crate::model::accelerator::{Machine, Products};
use crate::model::forward::{LayerCache, Scratch, Watch, watch_block};
use crate::model::ops::Part;
use sha2::{Digest, Sha256};

use super::identity::hex;

/// Activations between blocks: two scratch files in turn.
pub(super) fn scratch_name(block: usize) -> String {
    format!("acts-{}", block % 2)
}

/// A pass under way.
#[derive(Debug)]
pub(super) struct Passes {
    block: usize,
    stage: &'static str,
    writes: bool,
    /// First part of the last input that is wanted, if outputs are not.
    until: Option<Part>,
    /// First sample of the chunk under way.
    first: usize,
    /// Position of the next token inside the chunk.
    next: usize,
    chunk: Vec<f32>,
    asked: bool,
    cache: LayerCache,
    scratch: Scratch,
    /// The block's matrices on an accelerator, if there is one.
    products: Option<Box<dyn Products>>,
    /// For samples that pass side by side; made when first needed.
    lanes: Vec<Lane>,
    /// What an earlier run vouched for, and the hash of what was read so far.
    expected: Option<(Activations, Sha256)>,
    written: (u64, Sha256),
    /// The largest keys and values, when scales of the cache are asked for.
    observed: Option<Observed>,
}

impl Passes {
    /// Writes the outputs, which nobody needs after the last block, and looks at keys and values.
    pub(super) fn forward(plan: &Plan, block: usize) -> Self {
        let last = plan.kv_cache.is_some() && block + 1 == plan.model.layers;
        Self {
            observed: Observed::new(plan, block),
            stage: "forward",
            writes: !last,
            ..Self::calibrate(plan, block, last.then_some(Part::O))
        }
    }

    /// Shows the inputs of linears to taps; ends with the one whose first part is `until`.
    pub(super) fn calibrate(plan: &Plan, block: usize, until: Option<Part>) -> Self {
        Self {
            block,
            stage: "calibrate",
            writes: false,
            observed: None,
            until,
            first: 0,
            next: 0,
            chunk: Vec::new(),
            asked: false,
            cache: LayerCache::default(),
            scratch: Scratch::new(&plan.model),
            products: None,
            lanes: Vec::new(),
            expected: None,
            written: (0, Sha256::new()),
        }
    }

    /// Checks what is read against what an earlier run vouched for.
    pub(super) fn expecting(mut self, activations: Option<Activations>) -> Self {
        self.expected = activations.map(|a| (a, Sha256::new()));
        self
    }

    /// Goes on with the bytes that the last ask brought; none when all samples have passed.
    pub(super) fn poll(
        &mut self,
        world: &mut World<'_>,
        answer: &[Vec<u8>],
        block: &Block<Weight>,
        taps: &mut [Tapped],
    ) -> Result<Option<Ask>> {
        let set = world.plan.calibration.ok_or_else(no_calibration)?;
        let hidden = world.plan.model.hidden;
        if self.asked {
            self.asked = false;
            self.take(answer.first().map_or(&[], Vec::as_slice));
        }
        if self.next * hidden < self.chunk.len() {
            self.run_piece(world, set.length, block, taps)?;
            return Ok(Some(world.report()));
        }
        let sample_bytes = (set.length * hidden * 4) as u64;
        if !self.chunk.is_empty() {
            let offset = self.first as u64 * sample_bytes;
            self.first += self.next / set.length;
            let chunk = std::mem::take(&mut self.chunk);
            if self.writes {
                return Ok(Some(self.write(&chunk, offset)));
            }
        }
        if self.first == set.samples {
            self.check()?;
            return Ok(None);
        }
        let samples = pace::samples_per_chunk(world.plan).min(set.samples - self.first);
        self.asked = true;
        Ok(Some(Ask::ReadScratch {
            name: scratch_name(self.block),
            offset: self.first as u64 * sample_bytes,
            len: samples as u64 * sample_bytes,
        }))
    }

    /// What was seen of keys and values.
    pub(super) fn take_observed(&mut self) -> Option<Observed> {
        self.observed.take()
    }

    /// What was written, for the journal.
    pub(super) fn written(self) -> Option<Activations> {
        self.writes.then(|| Activations {
            name: scratch_name(self.block + 1),
            bytes: self.written.0,
            sha256: hex(self.written.1),
        })
    }

    fn take(&mut self, bytes: &[u8]) {
        if let Some((_, hash)) = &mut self.expected {
            hash.update(bytes);
        }
        self.chunk = floats(bytes);
        self.next = 0;
    }

    fn run_piece(
        &mut self,
        world: &mut World<'_>,
        length: usize,
        block: &Block<Weight>,
        taps: &mut [Tapped],
    ) -> Result<()> {
        let (plan, cpu, hidden) = (world.plan, world.cpu, world.plan.model.hidden);
        let accelerator = world.accelerator;
        if let (None, Some(accelerator)) = (&self.products, accelerator) {
            self.products = Some(accelerator.block()?);
        }
        let token = self.next % length;
        let tokens = pace::tokens_per_pass(plan, self.block).min(length - token);
        let samples = (self.chunk.len() / hidden - self.next) / length;
        let count = samples.min(pace::samples_at_once(plan, self.block, cpu.threads()));
        if tokens == length && count > 1 && accelerator.is_none() {
            return self.run_samples(world, count, block, taps);
        }
        if token == 0 {
            self.cache = LayerCache::default();
        }
        let sample = self.first + self.next / length;
        let idle = taps.is_empty();
        let mut tap = |parts: &[Part], x: &[f32]| {
            let first = parts.first();
            if let Some(tapped) = taps.iter_mut().find(|t| t.parts.first() == first) {
                require_finite(x, tapped, sample, token)?;
                tapped.add(cpu, accelerator, x)?;
            }
            Ok(())
        };
        let watch = Watch {
            tap: &mut tap,
            all_experts: plan.all_experts,
            until: self.until,
        };
        let watch = (!idle || self.until.is_some()).then_some(watch);
        let piece = &mut self.chunk[self.next * hidden..(self.next + tokens) * hidden];
        let cache = &mut self.cache;
        let products = self.products.as_deref();
        let machine = Machine { cpu, products };
        watch_block(machine, &mut self.scratch, block, cache, piece, watch)?;
        if let Some(observed) = &mut self.observed {
            observed.see(cache, sample, token)?;
        }
        self.advance(world, tokens, taps);
        Ok(())
    }

    /// Runs the next `count` samples side by side.
    fn run_samples(
        &mut self,
        world: &mut World<'_>,
        count: usize,
        block: &Block<Weight>,
        taps: &mut [Tapped],
    ) -> Result<()> {
        let (plan, cpu, hidden) = (world.plan, world.cpu, world.plan.model.hidden);
        let length = plan.calibration.ok_or_else(no_calibration)?.length;
        let sample = self.first + self.next / length;
        self.lanes.resize_with(count, || Lane::new(&plan.model));
        let pieces = &mut self.chunk[self.next * hidden..][..count * length * hidden];
        let wanted = Wanted {
            taps,
            all_experts: plan.all_experts,
            until: self.until,
        };
        samples::pass(cpu, block, &mut self.lanes, pieces, wanted)?;
        for (i, lane) in self.lanes.iter().enumerate() {
            for (tap, x) in lane.inputs() {
                require_finite(x, &taps[tap], sample + i, 0)?;
                taps[tap].add(cpu, None, x)?;
            }
            if let Some(observed) = &mut self.observed {
                observed.see(&lane.cache, sample + i, 0)?;
            }
        }
        self.advance(world, count * length, taps);
        Ok(())
    }

    fn advance(&mut self, world: &mut World<'_>, tokens: usize, taps: &[Tapped]) {
        self.next += tokens;
        let grams = taps
            .iter()
            .map(|t| pace::gram_work(t.stats.hessian.width(), tokens));
        let work = pace::pass_work(world.plan, self.block, tokens) + grams.sum::<u64>();
        world.advance(self.stage, Some(self.block), work);
    }

    fn write(&mut self, chunk: &[f32], offset: u64) -> Ask {
        let bytes = bytes_of(chunk);
        self.written.0 += bytes.len() as u64;
        self.written.1.update(&bytes);
        Ask::WriteScratch {
            name: scratch_name(self.block + 1),
            offset,
            bytes,
        }
    }

    fn check(&mut self) -> Result<()> {
        let Some((wanted, hash)) = self.expected.take() else {
            return Ok(());
        };
        if hex(hash) == wanted.sha256 {
            return Ok(());
        }
        let name = wanted.name;
        let what = format!("scratch file {name:?} is not what the journal vouches for");
        Err(corrupt(what))
    }
}

fn no_calibration() -> Error {
    Error::new(Code::Internal, "a pass without a calibration set")
}

/// Little-endian bytes of floats.
pub(super) fn bytes_of(values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(values.len() * 4);
    for v in values {
        bytes.extend_from_slice(&v.to_le_bytes());
    }
    bytes
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let words = bytes.as_chunks::<4>().0;
    words.iter().map(|b| f32::from_le_bytes(*b)).collect()
}
