//! The linears of a pass: on the CPU one after another, on an accelerator all of one input at once.

use super::accelerator::{Machine, Output};
use super::forward::Pass;
use super::ops::{Part, Slot};
use super::rows::add_bias;
use super::watch::Watch;
use crate::error::Result;
use crate::kernels::matmul::matmul;

impl Pass<'_> {
    /// Products of one input; false when the watch has seen what it wanted.
    pub(super) fn linear(
        &mut self,
        from: Slot,
        outputs: &[(Part, Slot)],
        watch: &mut Option<Watch<'_>>,
    ) -> Result<bool> {
        if let Some(watch) = watch {
            let parts: Vec<_> = outputs.iter().map(|(part, _)| *part).collect();
            if !watch.show(&parts, self.read(from))? {
                return Ok(false);
            }
        }
        if self.products.is_some() {
            self.linear_elsewhere(from, outputs)?;
            return Ok(true);
        }
        for (part, to) in outputs {
            let (weight, bias) = self.block.matrix(*part);
            let mut y = self.scratch.take(*to, self.tokens() * weight.rows());
            matmul(self.cpu, self.read(from), weight, &mut y);
            add_bias(&mut y, bias);
            self.scratch.put(*to, y);
        }
        Ok(true)
    }

    /// All products of one input at once, so that it goes to the accelerator once.
    fn linear_elsewhere(&mut self, from: Slot, outputs: &[(Part, Slot)]) -> Result<()> {
        let (block, tokens) = (self.block, self.tokens());
        let take = |(part, to): &(Part, Slot)| {
            let rows = block.matrix(*part).0.rows();
            self.scratch.take(*to, tokens * rows)
        };
        let mut ys: Vec<_> = outputs.iter().map(take).collect();
        let bound = outputs.iter().zip(&mut ys);
        let mut bound: Vec<_> = bound
            .map(|((part, _), y)| Output {
                part: *part,
                weight: block.matrix(*part).0,
                y,
            })
            .collect();
        self.machine().multiply(self.read(from), &mut bound)?;
        for ((part, to), mut y) in outputs.iter().zip(ys) {
            add_bias(&mut y, block.matrix(*part).1);
            self.scratch.put(*to, y);
        }
        Ok(())
    }

    pub(super) fn machine(&self) -> Machine<'_> {
        Machine {
            cpu: self.cpu,
            products: self.products,
        }
    }
}
