//! Statistics of an input under way, on the CPU or in part on an accelerator.
//!
//! ```text
//! x ─┬─► ranges, mean sizes                                          CPU
//!    └─► second moments in f32, tile by tile of tokens ─► f64 sums    CPU, or device ─► CPU
//! ```

use super::inputs::Input;
use crate::cpu::Cpu;
use crate::error::Result;
use crate::model::accelerator::{Accelerator, Moments};
use crate::model::ops::Part;
use crate::transform::InputStats;

/// Tokens that an accelerator sums before its sums are read back: reading n² values back and adding
/// them takes about as long as summing a few thousand tokens, so fewer would be read-back only. The
/// kernel's sums of 256 tokens are added one after another: 64 roundings, about 4e-6 at worst.
const TILE: usize = 1 << 14;

/// An input that a pass looks at.
#[derive(Debug)]
pub(super) struct Tapped {
    /// The linears that get it.
    pub parts: Vec<Part>,
    /// Module of the first, for messages.
    pub module: String,
    /// What is kept of it.
    pub stats: InputStats,
    elsewhere: Option<Elsewhere>,
}

/// Second moments that are not in the statistics yet.
#[derive(Debug)]
struct Elsewhere {
    moments: Box<dyn Moments>,
    tokens: usize,
}

impl Tapped {
    pub(super) fn new(input: &Input) -> Self {
        Self {
            parts: input.parts.clone(),
            module: input.module.clone(),
            stats: InputStats::new(input.width),
            elsewhere: None,
        }
    }

    /// Adds inputs `[tokens, width]`, all finite.
    pub(super) fn add(
        &mut self,
        cpu: &Cpu,
        accelerator: Option<&dyn Accelerator>,
        x: &[f32],
    ) -> Result<()> {
        let Some(accelerator) = accelerator else {
            self.stats.add(cpu, x);
            return Ok(());
        };
        let width = self.stats.hessian.width();
        let tokens = x.len() / width;
        if self
            .elsewhere
            .as_ref()
            .is_some_and(|e| e.tokens + tokens > TILE)
        {
            self.take(cpu)?;
        }
        if self.elsewhere.is_none() {
            let moments = accelerator.moments(width)?;
            self.elsewhere = Some(Elsewhere { moments, tokens: 0 });
        }
        if let Some(elsewhere) = &mut self.elsewhere {
            // The device works while the CPU looks at ranges.
            elsewhere.moments.add(x)?;
            elsewhere.tokens += tokens;
        }
        self.stats.add_ranges(cpu, x);
        Ok(())
    }

    /// Ends the sums; nothing can be added afterwards.
    pub(super) fn finish(&mut self, cpu: &Cpu) -> Result<()> {
        self.take(cpu)?;
        self.elsewhere = None;
        self.stats.finish(cpu);
        Ok(())
    }

    /// Brings what the accelerator has summed into the statistics.
    fn take(&mut self, cpu: &Cpu) -> Result<()> {
        let Some(Elsewhere { moments, tokens }) = &mut self.elsewhere else {
            return Ok(());
        };
        let hessian = &mut self.stats.hessian;
        hessian.count(std::mem::take(tokens));
        moments.take(&mut |sums| hessian.add_sums(cpu, sums.first_row, sums.stride, sums.bytes))
    }
}
