//! The factor of the Hessian that tells GPTQ how later columns make up for earlier ones.
//!
//! GPTQ (arXiv 2210.17323, algorithm 1) uses the upper factor of H⁻¹. With columns laid out from
//! the last one rounded to the first, `H = Uᵀ·U` holds the same numbers without any inverse: if
//! `d = w − q` are the errors so far, column j is best rounded from
//! `w[j] + Σ_{i>j} U[j,i]·d[i] / U[j,j]` (Babai's nearest plane), and the weighted error is
//! `Σ (U[j,j]·(rounded from − rounded to))²`. One factorization instead of three.

use super::gptq::GptqOptions;
use super::hessian::Hessian;
use super::order::Order;
use crate::cpu::Cpu;
use crate::linalg::{Cholesky, CholeskyF64, NotPositive};

/// Added to the damping after a failure, until it reaches 1.
const DAMP_STEP: f64 = 0.01;
/// First diagonal floor after that, of the largest entry; ten times more each attempt.
const FLOOR: f64 = 1e-6;
/// Attempts with a floor.
const FLOORS: usize = 6;

/// What rounding needs of a Hessian; linears that share their inputs share it.
#[derive(Debug)]
pub struct Factor {
    /// Columns from the last one rounded to the first.
    pub columns: Vec<u32>,
    /// U, upper triangle row-major, rows and columns in the order of `columns`.
    pub u: Vec<f32>,
    /// The damped H `[n, n]` in the original order of columns, if it is refined with afterwards.
    pub curvature: Option<Vec<f32>>,
    /// Damping that succeeded, relative to the mean of the diagonal.
    pub damp: f64,
    /// Diagonal floor that succeeded, relative to the largest entry; 0 when none was needed.
    pub floor: f64,
    /// E[x²] of each input in the original order.
    pub importance: Vec<f32>,
    /// Columns whose inputs were always zero; they are rounded to nearest.
    pub dead: usize,
}

/// The end of a factorization.
#[derive(Debug)]
pub enum Factored {
    /// There is a factor.
    Ready(Factor),
    /// No damping helped; why, for the report. The layers fall back to RTN.
    Failed(String),
}

/// A factorization under way, with the ladder of dampings (after GPTQModel): more and more of the
/// mean, then a floor below every entry of the diagonal, then the first damping again in f64.
#[derive(Debug)]
pub struct Factoring {
    first_damp: f64,
    refine: bool,
    attempt: usize,
    columns: Vec<u32>,
    diagonal: Vec<f64>,
    dead: usize,
    running: Option<Running>,
}

#[derive(Debug)]
enum Running {
    Single(Cholesky),
    Double(CholeskyF64),
}

impl Running {
    fn step(&mut self, cpu: &Cpu) -> Result<bool, NotPositive> {
        match self {
            Self::Single(c) => c.step(cpu),
            Self::Double(c) => c.step(cpu),
        }
    }

    fn into_factor(self) -> Vec<f32> {
        match self {
            Self::Single(c) => c.into_factor(),
            Self::Double(c) => c.into_factor(),
        }
    }
}

/// A rung of the ladder.
struct Rung {
    diagonal: Vec<f64>,
    damp: f64,
    floor: f64,
    double: bool,
}

impl Factoring {
    /// Starts on a finished Hessian, for rows of one group.
    pub fn new(hessian: &Hessian, order: Order, damp: f64) -> Self {
        Self::grouped(hessian, order, hessian.width(), damp)
    }

    /// Starts on a finished Hessian; `group` is the columns that share a scale, which only
    /// `Order::GroupAware` looks at.
    pub fn grouped(hessian: &Hessian, order: Order, group: usize, damp: f64) -> Self {
        let diagonal = hessian.diagonal();
        Self {
            first_damp: damp,
            refine: false,
            attempt: 0,
            columns: order.columns_backwards(&diagonal, group),
            dead: diagonal.iter().filter(|d| **d == 0.0).count(),
            diagonal,
            running: None,
        }
    }

    /// Starts on a finished Hessian, for rounding with `options`.
    pub fn for_rounding(hessian: &Hessian, options: &GptqOptions, group: usize) -> Self {
        Self {
            refine: options.refines(),
            ..Self::grouped(hessian, options.order, group, options.damp)
        }
    }

    /// Works for one panel of the matrix; the result when there is one.
    pub fn step(&mut self, cpu: &Cpu, hessian: &Hessian) -> Option<Factored> {
        if self.diagonal.iter().any(|d| !d.is_finite()) {
            return Some(Factored::Failed("the Hessian is not finite".into()));
        }
        let n = hessian.width();
        let Some(mut running) = self.running.take() else {
            let rung = self.rung()?;
            self.running = Some(if rung.double {
                let upper = hessian.upper_f64(cpu, &self.columns, &rung.diagonal);
                Running::Double(CholeskyF64::new(upper, n))
            } else {
                let upper = hessian.upper(cpu, &self.columns, &rung.diagonal);
                Running::Single(Cholesky::new(upper, n))
            });
            return None;
        };
        match running.step(cpu) {
            Ok(true) => {
                let rung = self.rung()?;
                let curvature = self.refine.then(|| hessian.full(cpu, &rung.diagonal));
                Some(Factored::Ready(Factor {
                    columns: std::mem::take(&mut self.columns),
                    u: running.into_factor(),
                    curvature: curvature.filter(|h| h.iter().all(|v| v.is_finite())),
                    damp: rung.damp,
                    floor: rung.floor,
                    // H is twice the mean of x·xᵀ.
                    importance: self.diagonal.iter().map(|d| (d / 2.0) as f32).collect(),
                    dead: self.dead,
                }))
            }
            Ok(false) => {
                self.running = Some(running);
                None
            }
            Err(_) => {
                self.attempt += 1;
                let failed = self.rung().is_none();
                failed.then(|| {
                    let tried = self.attempt;
                    Factored::Failed(format!("the Hessian has no factor after {tried} dampings"))
                })
            }
        }
    }

    /// The rung of this attempt; none when the ladder ends.
    fn rung(&self) -> Option<Rung> {
        let dampings = ((1.0 - self.first_damp) / DAMP_STEP).ceil().max(1.0) as usize;
        let (mut damp, mut floor, mut double) = (self.first_damp, 0.0, false);
        match self.attempt.checked_sub(dampings) {
            None => damp += DAMP_STEP * self.attempt as f64,
            Some(k) if k < FLOORS => {
                damp += DAMP_STEP * (dampings - 1) as f64;
                floor = (0..k).fold(FLOOR, |f, _| f * 10.0);
            }
            Some(FLOORS) => double = true,
            Some(_) => return None,
        }
        let live = (self.diagonal.len() - self.dead).max(1);
        let sum: f64 = self.diagonal.iter().sum();
        let mean = if sum > 0.0 { sum / live as f64 } else { 1.0 };
        let least = floor * self.diagonal.iter().fold(0.0f64, |m, d| m.max(*d));
        let entry = |d: &f64| if *d == 0.0 { mean } else { d.max(least) } + damp * mean;
        Some(Rung {
            diagonal: self.diagonal.iter().map(entry).collect(),
            damp,
            floor,
            double,
        })
    }
}
