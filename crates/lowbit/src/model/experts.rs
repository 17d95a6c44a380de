//! Mixture of experts: which experts a token goes to, and what they make of it.
//!
//! ```text
//! p = softmax(x · Routerᵀ) over all experts; the k largest stay, divided by their sum or not
//! y = Σ_e p_e · Down_e(silu(Gate_e x) · Up_e x)
//! ```
//! An expert runs on its own tokens only, in the order of the experts, so that sums do not depend
//! on threads. A calibration pass may show every expert every token; what is added up stays the
//! routed part.

use super::accelerator::{Machine, Output};
use super::config::Experts;
use super::ops::Part;
use super::routing::{Route, routes};
use super::watch::Watch;
use super::{Block, rows};
use crate::error::Result;
use crate::kernels::matmul::{Weight, matmul};
use crate::kernels::silu_mul::silu_mul;

/// Buffers of an expert's pass, kept from one to the next.
#[derive(Debug, Clone, Default)]
pub(super) struct ExpertBuffers {
    logits: Vec<f32>,
    gathered: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    out: Vec<f32>,
}

/// What the experts read.
#[derive(Clone, Copy)]
pub(super) struct Mixture<'a> {
    pub(super) machine: Machine<'a>,
    pub(super) block: &'a Block<Weight>,
    pub(super) experts: Experts,
    /// `[tokens, width]`.
    pub(super) x: &'a [f32],
    pub(super) width: usize,
}

impl Mixture<'_> {
    /// Writes the weighted sum of the experts to `y [tokens, width]`; false when the watch has seen
    /// what it wanted and the sum is not complete.
    pub(super) fn run(
        self,
        buffers: &mut ExpertBuffers,
        y: &mut [f32],
        watch: &mut Option<Watch<'_>>,
    ) -> Result<bool> {
        y.fill(0.0);
        let all = watch.as_ref().is_some_and(|w| w.all_experts);
        let inputs = if watch.is_some() {
            expert_inputs(self.experts.count, all)
        } else {
            Vec::new()
        };
        if let (Some(watch), Some(first)) = (watch.as_mut(), inputs.first())
            && !watch.show(first, self.x)?
        {
            return Ok(false);
        }
        let (router, correction) = self.block.matrix(Part::Router);
        rows::resize(
            &mut buffers.logits,
            self.x.len() / self.width * router.rows(),
        );
        // Routes are the CPU's wherever products are done.
        matmul(self.machine.cpu, self.x, router, &mut buffers.logits);
        let routes = routes(&buffers.logits, &self.experts, correction);
        for expert in 0..self.experts.count {
            let first = routes.partition_point(|r| r.expert < expert);
            let mine = &routes[first..routes.partition_point(|r| r.expert <= expert)];
            let more = if all {
                self.shown_all(buffers, y, (expert, mine), watch)?
            } else {
                self.routed(buffers, y, (expert, mine), watch)?
            };
            if !more {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The expert on the tokens that were routed to it.
    fn routed(
        self,
        buffers: &mut ExpertBuffers,
        y: &mut [f32],
        (expert, mine): (usize, &[Route]),
        watch: &mut Option<Watch<'_>>,
    ) -> Result<bool> {
        if mine.is_empty() {
            return Ok(true);
        }
        let [gate, up, down] = parts(expert);
        gather(self.x, self.width, mine, &mut buffers.gathered);
        if let Some(watch) = watch
            && !watch.show(&[gate, up], &buffers.gathered)?
        {
            return Ok(false);
        }
        let to = [&mut buffers.gate, &mut buffers.up];
        self.products([gate, up], &buffers.gathered, to)?;
        silu_mul(self.machine.cpu, &mut buffers.gate, &buffers.up);
        if let Some(watch) = watch
            && !watch.show(&[down], &buffers.gate)?
        {
            return Ok(false);
        }
        self.products([down], &buffers.gate, [&mut buffers.out])?;
        scatter(&buffers.out, self.width, mine, y);
        Ok(true)
    }

    /// The expert on every token; only the routed ones count.
    fn shown_all(
        self,
        buffers: &mut ExpertBuffers,
        y: &mut [f32],
        (expert, mine): (usize, &[Route]),
        watch: &mut Option<Watch<'_>>,
    ) -> Result<bool> {
        let [gate, up, down] = parts(expert);
        let to = [&mut buffers.gate, &mut buffers.up];
        self.products([gate, up], self.x, to)?;
        silu_mul(self.machine.cpu, &mut buffers.gate, &buffers.up);
        if let Some(watch) = watch
            && !watch.show(&[down], &buffers.gate)?
        {
            return Ok(false);
        }
        if mine.is_empty() {
            return Ok(true);
        }
        gather(
            &buffers.gate,
            self.experts.width,
            mine,
            &mut buffers.gathered,
        );
        self.products([down], &buffers.gathered, [&mut buffers.out])?;
        scatter(&buffers.out, self.width, mine, y);
        Ok(true)
    }

    /// Products of one input with several parts, biases included.
    fn products<const N: usize>(
        self,
        parts: [Part; N],
        x: &[f32],
        mut to: [&mut Vec<f32>; N],
    ) -> Result<()> {
        for (part, to) in parts.iter().zip(&mut to) {
            let weight = self.block.matrix(*part).0;
            rows::resize(to, x.len() / weight.cols() * weight.rows());
        }
        let bound = parts.iter().zip(&mut to);
        let mut bound: Vec<_> = bound
            .map(|(part, to)| Output {
                part: *part,
                weight: self.block.matrix(*part).0,
                y: to,
            })
            .collect();
        self.machine.multiply(x, &mut bound)?;
        for (part, to) in parts.iter().zip(to) {
            rows::add_bias(to, self.block.matrix(*part).1);
        }
        Ok(())
    }
}

fn parts(expert: usize) -> [Part; 3] {
    let expert = expert as u16;
    [
        Part::ExpertGate(expert),
        Part::ExpertUp(expert),
        Part::ExpertDown(expert),
    ]
}

fn gather(x: &[f32], width: usize, routes: &[Route], to: &mut Vec<f32>) {
    to.clear();
    for route in routes {
        to.extend_from_slice(&x[route.token * width..][..width]);
    }
}

fn scatter(out: &[f32], width: usize, routes: &[Route], y: &mut [f32]) {
    for (route, out) in routes.iter().zip(out.chunks(width)) {
        for (y, o) in y[route.token * width..][..width].iter_mut().zip(out) {
            *y += route.weight * o;
        }
    }
}

/// The groups of `Op::inputs` for a mixture of `count` experts.
pub(super) fn expert_inputs(count: usize, all_experts: bool) -> Vec<Vec<Part>> {
    let experts = || (0..count).map(|e| e as u16);
    if all_experts {
        let each = |e| [Part::ExpertGate(e), Part::ExpertUp(e)];
        let first = std::iter::once(Part::Router).chain(experts().flat_map(each));
        let downs = experts().map(|e| vec![Part::ExpertDown(e)]);
        return std::iter::once(first.collect()).chain(downs).collect();
    }
    let each = |e| {
        [
            vec![Part::ExpertGate(e), Part::ExpertUp(e)],
            vec![Part::ExpertDown(e)],
        ]
    };
    std::iter::once(vec![Part::Router])
        .chain(experts().flat_map(each))
        .collect()
}
