//! `A = Uᵀ·U` in f64: slower than `Cholesky`, for matrices that f32 cannot factor.

use super::NotPositive;
use super::simd::{Task, dispatch};
use crate::cpu::Cpu;

/// Multiply-adds that one step does at most, unless one row takes more.
const STEP_WORK: usize = 1 << 28;
/// Rows below that one task updates.
const TASK_ROWS: usize = 8;

/// A factorization under way: right-looking, upper, row-major.
#[derive(Debug)]
pub struct CholeskyF64 {
    n: usize,
    next: usize,
    a: Vec<f64>,
}

impl CholeskyF64 {
    /// Takes the matrix `[n, n]`, of which only the upper triangle is read.
    pub fn new(a: Vec<f64>, n: usize) -> Self {
        assert_eq!(a.len(), n * n, "a square matrix");
        Self { n, next: 0, a }
    }

    /// Finishes some more rows; whether those were the last. The result does not depend on threads.
    pub fn step(&mut self, cpu: &Cpu) -> Result<bool, NotPositive> {
        let (n, from) = (self.n, self.next);
        let to = (from + (STEP_WORK / (n * n).max(1)).clamp(1, 64)).min(n);
        for k in from..to {
            let pivot = self.a[k * n + k];
            if !(pivot > 0.0 && pivot.is_finite()) {
                return Err(NotPositive { row: k });
            }
            let root = pivot.sqrt();
            self.a[k * n + k..(k + 1) * n]
                .iter_mut()
                .for_each(|v| *v /= root);
            let (done, rest) = self.a.split_at_mut((k + 1) * n);
            let rows = (to - k - 1) * n;
            dispatch(
                cpu.isa,
                Subtract {
                    panel: &done[k * n..],
                    rows: &mut rest[..rows],
                    first: k + 1,
                    n,
                },
            );
        }
        let (panel, rest) = self.a.split_at_mut(to * n);
        let panel = &panel[from * n..];
        cpu.run_chunks(rest, TASK_ROWS * n, true, |task, rows| {
            let first = to + task * TASK_ROWS;
            dispatch(
                cpu.isa,
                Subtract {
                    panel,
                    rows,
                    first,
                    n,
                },
            );
        });
        self.next = to;
        Ok(to == n)
    }

    /// U, upper triangle row-major `[n, n]`, after the last step.
    pub fn into_factor(self) -> Vec<f32> {
        assert_eq!(self.next, self.n, "every row is factored");
        self.a.into_iter().map(|v| v as f32).collect()
    }
}

/// `rows -= panelᵀ · panel`, from the diagonal on.
struct Subtract<'a> {
    panel: &'a [f64],
    rows: &'a mut [f64],
    first: usize,
    n: usize,
}

impl Task for Subtract<'_> {
    type Out = ();

    #[inline(always)]
    fn run<const FMA: bool, const M: usize>(self) {
        for (i, row) in (self.first..).zip(self.rows.chunks_exact_mut(self.n)) {
            for done in self.panel.chunks_exact(self.n) {
                let f = done[i];
                for (v, d) in row[i..].iter_mut().zip(&done[i..]) {
                    *v -= f * d;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;

    /// Diagonally dominant, with entries that f32 could not hold.
    fn matrix(n: usize) -> Vec<f64> {
        let entry = |i: usize, j: usize| {
            let (low, high) = (i.min(j), i.max(j));
            if low == high {
                n as f64
            } else {
                ((low * 31 + high * 17) % 13) as f64 / 13.0 - 0.5
            }
        };
        (0..n * n).map(|p| 1e50 * entry(p / n, p % n)).collect()
    }

    #[test]
    fn factor_times_its_transpose_is_the_matrix() {
        for n in [1, 2, 63, 64, 65, 130] {
            let a = matrix(n);
            let factor = |cpu: &Cpu| {
                let mut c = CholeskyF64::new(a.clone(), n);
                while !c.step(cpu).unwrap() {}
                c.into_factor()
            };
            let u = factor(&Cpu::single());
            for i in 0..n {
                for j in i..n {
                    let entry = |k: usize| f64::from(u[k * n + i]) * f64::from(u[k * n + j]);
                    let got: f64 = (0..=i).map(entry).sum();
                    assert!(
                        (got - a[i * n + j]).abs() < 1e44 * n as f64,
                        "n {n} at {i},{j}"
                    );
                }
            }
            assert_eq!(u, factor(&Cpu::new(Isa::detect(), 3).unwrap()));
        }
    }

    #[test]
    fn indefinite_matrix_names_its_row() {
        let mut a = matrix(100);
        a[70 * 100 + 70] = -1.0;
        let mut c = CholeskyF64::new(a, 100);
        let cpu = Cpu::single();
        let end = loop {
            match c.step(&cpu) {
                Ok(false) => {}
                other => break other,
            }
        };
        assert_eq!(end, Err(NotPositive { row: 70 }));
    }
}
