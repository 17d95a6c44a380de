//! A machine beside the CPU that takes the large sums of calibration.
//!
//! ```text
//! block pass ──► Products: y = x · Wᵀ of a block's matrices   attention, norms, routing: the CPU
//! inputs of   ─► Moments:  Σ x·xᵀ in f32 over some tokens ──► f64 sums of the Hessian: the CPU
//! its linears
//! ```
//! What implements it is in `gpu/`; nothing here names a device's types. Everything is f32: products
//! are within the bound of `kernels::matmul`, and equal inputs give equal bits on the same adapter
//! and driver, however calls are cut.

use super::ops::Part;
use crate::cpu::Cpu;
use crate::error::Result;
use crate::kernels::matmul::{Weight, matmul};
use std::fmt::Debug;

/// What a machine is called; bytes of calibrated methods depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapter {
    /// Name that the driver gives.
    pub name: String,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// The driver and its version; empty where it says none.
    pub driver: String,
    /// It is a program, not a chip.
    pub software: bool,
}

impl Adapter {
    /// All that bytes depend on, for the journal.
    pub fn identity(&self) -> String {
        let Self {
            name,
            backend,
            driver,
            ..
        } = self;
        let known = [name, backend, driver]
            .into_iter()
            .filter(|s| !s.is_empty());
        let known: Vec<_> = known.map(String::as_str).collect();
        format!("gpu: {}", known.join(", "))
    }
}

/// A machine that multiplies for calibration.
pub trait Accelerator: Debug + Send + Sync {
    /// What it is.
    fn adapter(&self) -> &Adapter;

    /// Room for the matrices of one block, which must not change while it lives.
    fn block(&self) -> Result<Box<dyn Products>>;

    /// Sums for inputs of width `n`, all zero; `out-of-memory` when they do not fit.
    fn moments(&self, n: usize) -> Result<Box<dyn Moments>>;
}

/// One product of several with the same inputs.
#[derive(Debug)]
pub struct Output<'a> {
    /// Which matrix of its block it is.
    pub part: Part,
    /// The matrix; it is brought to the machine when it is first asked for.
    pub weight: &'a Weight,
    /// `[tokens, rows]`, overwritten.
    pub y: &'a mut [f32],
}

/// The matrices of one block.
pub trait Products: Debug + Send + Sync {
    /// `y = x · Wᵀ` for each of `outputs`, `x [tokens, cols]`; inputs are rounded first where a
    /// matrix says so. `device-lost` and `out-of-memory` when the machine says so.
    fn run(&self, cpu: &Cpu, x: &[f32], outputs: &mut [Output<'_>]) -> Result<()>;
}

/// Second moments of one input that are not in the Hessian yet.
pub trait Moments: Debug + Send + Sync {
    /// Adds `Σ x·xᵀ` over the rows of `x [tokens, n]`.
    fn add(&mut self, x: &[f32]) -> Result<()>;

    /// Hands over the sums, some whole rows at a time and in order, and starts from zero again.
    fn take(&mut self, each: &mut dyn FnMut(Sums<'_>)) -> Result<()>;
}

/// Some rows of the lower triangle of second moments.
#[derive(Debug, Clone, Copy)]
pub struct Sums<'a> {
    /// The first of them.
    pub first_row: usize,
    /// Floats from one row to the next, at least as many as the last row has entries.
    pub stride: usize,
    /// Little-endian f32, `[rows, stride]`; what lies above the diagonal means nothing.
    pub bytes: &'a [u8],
}

/// What the passes of a block run on.
#[derive(Debug, Clone, Copy)]
pub struct Machine<'a> {
    /// Does everything but the products, and those too without an accelerator.
    pub cpu: &'a Cpu,
    /// The block's matrices on an accelerator.
    pub products: Option<&'a dyn Products>,
}

impl<'a> From<&'a Cpu> for Machine<'a> {
    fn from(cpu: &'a Cpu) -> Self {
        Self {
            cpu,
            products: None,
        }
    }
}

impl Machine<'_> {
    /// Every product, where products are done.
    pub(super) fn multiply(&self, x: &[f32], outputs: &mut [Output<'_>]) -> Result<()> {
        if let Some(products) = self.products {
            return products.run(self.cpu, x, outputs);
        }
        for output in outputs {
            matmul(self.cpu, x, output.weight, output.y);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_leaves_out_what_the_driver_does_not_say() {
        let adapter = |driver: &str| Adapter {
            name: "chip".into(),
            backend: "vulkan".into(),
            driver: driver.into(),
            software: false,
        };
        assert_eq!(adapter("").identity(), "gpu: chip, vulkan");
        assert_eq!(
            adapter("maker 1.2").identity(),
            "gpu: chip, vulkan, maker 1.2"
        );
    }
}
