//! `A = Uᵀ·U` in place, one panel of rows per step.

use super::simd::{Task, dispatch};
use super::{LANES, Lanes, add, multiply_add, product};
use crate::cpu::Cpu;

/// Rows factored per step; sums inside a panel are f64, between panels f32.
const PANEL: usize = super::DEPTH;

/// A pivot that is not positive: the matrix has no Cholesky factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotPositive {
    /// Row of the pivot.
    pub row: usize,
}

/// A factorization under way: right-looking, upper, row-major.
///
/// Only the upper triangle is read; it is replaced by U. The rest of the matrix is scratch.
#[derive(Debug)]
pub struct Cholesky {
    n: usize,
    next: usize,
    a: Vec<f32>,
}

impl Cholesky {
    /// Takes the matrix `[n, n]`.
    pub fn new(a: Vec<f32>, n: usize) -> Self {
        assert_eq!(a.len(), n * n, "a square matrix");
        Self { n, next: 0, a }
    }

    /// Rows that are finished.
    pub fn done(&self) -> usize {
        self.next
    }

    /// Finishes the next panel; whether it was the last. The result does not depend on threads.
    pub fn step(&mut self, cpu: &Cpu) -> Result<bool, NotPositive> {
        let (n, from) = (self.n, self.next);
        let to = (from + PANEL).min(n);
        let diagonal = self.factor_diagonal(from, to)?;
        if to < n {
            let panel = self.solve_panel(cpu, &diagonal, from, to);
            self.subtract(cpu, &panel, to);
            self.store_panel(&panel, from, to);
        }
        self.next = to;
        Ok(to == n)
    }

    /// U, upper triangle row-major `[n, n]`, after the last step.
    pub fn into_factor(self) -> Vec<f32> {
        assert_eq!(self.next, self.n, "every panel is factored");
        self.a
    }

    /// Factors the square on the diagonal in f64 and returns it as f32, row-major.
    fn factor_diagonal(&mut self, from: usize, to: usize) -> Result<Vec<f32>, NotPositive> {
        let (n, m) = (self.n, to - from);
        let mut d = vec![0.0f64; m * m];
        for i in 0..m {
            for j in i..m {
                d[i * m + j] = f64::from(self.a[(from + i) * n + from + j]);
            }
        }
        for k in 0..m {
            let pivot = d[k * m + k];
            if !(pivot > 0.0 && pivot.is_finite()) {
                return Err(NotPositive { row: from + k });
            }
            let root = pivot.sqrt();
            d[k * m + k..(k + 1) * m]
                .iter_mut()
                .for_each(|v| *v /= root);
            let (done, rest) = d.split_at_mut((k + 1) * m);
            let row = &done[k * m..];
            for (i, target) in (k + 1..m).zip(rest.chunks_exact_mut(m)) {
                let f = row[i];
                for (t, v) in target[i..].iter_mut().zip(&row[i..]) {
                    *t -= f * v;
                }
            }
        }
        for i in 0..m {
            for j in i..m {
                self.a[(from + i) * n + from + j] = d[i * m + j] as f32;
            }
        }
        Ok(d.into_iter().map(|v| v as f32).collect())
    }

    /// The panel right of the diagonal, solved and cut into tiles of `LANES` columns.
    fn solve_panel(&self, cpu: &Cpu, diagonal: &[f32], from: usize, to: usize) -> Vec<Vec<Lanes>> {
        let (n, m) = (self.n, to - from);
        let mut tiles: Vec<Vec<Lanes>> = vec![Vec::new(); (n - to).div_ceil(LANES)];
        let a = &self.a;
        cpu.run_chunks(&mut tiles, 4, true, |chunk, tiles| {
            for (i, tile) in tiles.iter_mut().enumerate() {
                let first = to + (chunk * 4 + i) * LANES;
                *tile = (from..to)
                    .map(|r| lanes(&a[r * n + first..(r + 1) * n]))
                    .collect();
                dispatch(cpu.isa, Solve { tile, diagonal, m });
            }
        });
        tiles
    }

    /// Subtracts `panelᵀ · panel` from the upper triangle below the panel.
    fn subtract(&mut self, cpu: &Cpu, panel: &[Vec<Lanes>], to: usize) {
        let n = self.n;
        cpu.run_chunks(&mut self.a[to * n..], LANES * n, true, |tile, rows| {
            let at = to + tile * LANES;
            dispatch(
                cpu.isa,
                Subtract {
                    rows,
                    panel,
                    tile,
                    at,
                    n,
                },
            );
        });
    }

    fn store_panel(&mut self, panel: &[Vec<Lanes>], from: usize, to: usize) {
        let n = self.n;
        for (r, row) in (from..to).enumerate() {
            let right = &mut self.a[row * n + to..(row + 1) * n];
            for (chunk, tile) in right.chunks_mut(LANES).zip(panel) {
                chunk.copy_from_slice(&tile[r][..chunk.len()]);
            }
        }
    }
}

/// The first `LANES` values, with zeros after the end.
fn lanes(values: &[f32]) -> Lanes {
    let mut out = [0.0; LANES];
    let len = values.len().min(LANES);
    out[..len].copy_from_slice(&values[..len]);
    out
}

/// Forward substitution: `tile = D⁻ᵀ · tile` with D the factored diagonal square `[m, m]`.
struct Solve<'a> {
    tile: &'a mut [Lanes],
    diagonal: &'a [f32],
    m: usize,
}

impl Task for Solve<'_> {
    type Out = ();

    #[inline(always)]
    fn run<const FMA: bool, const M: usize>(self) {
        for k in 0..self.m {
            let (done, rest) = self.tile.split_at_mut(k);
            let mut row = rest[0];
            for (p, solved) in done.iter().enumerate() {
                let f = -self.diagonal[p * self.m + k];
                for (v, s) in row.iter_mut().zip(solved) {
                    *v = multiply_add::<FMA>(f, *s, *v);
                }
            }
            let pivot = self.diagonal[k * self.m + k];
            rest[0] = row.map(|v| v / pivot);
        }
    }
}

/// `rows -= (tile of the panel)ᵀ · panel`, from the diagonal on.
struct Subtract<'a> {
    rows: &'a mut [f32],
    panel: &'a [Vec<Lanes>],
    tile: usize,
    at: usize,
    n: usize,
}

impl Task for Subtract<'_> {
    type Out = ();

    #[inline(always)]
    fn run<const FMA: bool, const M: usize>(self) {
        let n = self.n;
        for (part, rows) in self.rows.chunks_mut(M * n).enumerate() {
            let mut left = [[0.0f32; M]; PANEL];
            for (l, k) in left.iter_mut().zip(&self.panel[self.tile]) {
                for (m, v) in l.iter_mut().enumerate() {
                    *v = -k[part * M + m];
                }
            }
            for (t, right) in self.panel.iter().enumerate().skip(self.tile) {
                let first = self.at + (t - self.tile) * LANES;
                let mut sums = [[0.0f32; LANES]; M];
                product::<FMA, M>(&left[..right.len()], right, &mut sums);
                for (row, sum) in rows.chunks_mut(n).zip(&sums) {
                    add(&mut row[first..n.min(first + LANES)], sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;

    /// A positive definite matrix: `XᵀX + I` of seeded values.
    fn matrix(n: usize) -> Vec<f32> {
        let mut state = 12345u32;
        let x: Vec<f64> = (0..n * (n + 3))
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                f64::from(state >> 8) / f64::from(1 << 23) - 1.0
            })
            .collect();
        let dot = |i: usize, j: usize| (0..n + 3).map(|k| x[k * n + i] * x[k * n + j]).sum::<f64>();
        (0..n * n)
            .map(|p| (dot(p / n, p % n) + if p / n == p % n { 1.0 } else { 0.0 }) as f32)
            .collect()
    }

    fn factor(n: usize, cpu: &Cpu) -> Vec<f32> {
        let mut c = Cholesky::new(matrix(n), n);
        while !c.step(cpu).unwrap() {}
        c.into_factor()
    }

    #[test]
    fn factor_times_its_transpose_is_the_matrix() {
        for n in [1, 2, 15, 16, 17, 127, 128, 129, 300] {
            let (a, u) = (matrix(n), factor(n, &Cpu::single()));
            let scale = a.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            for i in 0..n {
                for j in i..n {
                    let got: f64 = (0..=i)
                        .map(|k| f64::from(u[k * n + i]) * f64::from(u[k * n + j]))
                        .sum();
                    let error = (got - f64::from(a[i * n + j])).abs() / f64::from(scale);
                    assert!(error < 4e-6, "n {n} at {i},{j}: {error:e}");
                }
            }
        }
    }

    #[test]
    fn factor_does_not_depend_on_threads() {
        let isa = Isa::detect();
        let upper = |cpu: &Cpu| {
            let u = factor(300, cpu);
            (0..300)
                .flat_map(|i| u[i * 300 + i..(i + 1) * 300].to_vec())
                .collect::<Vec<f32>>()
        };
        let one = upper(&Cpu::with_isa(isa));
        assert_eq!(one, upper(&Cpu::new(isa, 2).unwrap()));
        assert_eq!(one, upper(&Cpu::new(isa, 3).unwrap()));
    }

    #[test]
    fn indefinite_matrix_names_its_row() {
        let mut a = matrix(200);
        a[150 * 200 + 150] = -1.0;
        let mut c = Cholesky::new(a, 200);
        let cpu = Cpu::single();
        assert!(!c.step(&cpu).unwrap());
        assert_eq!(c.step(&cpu), Err(NotPositive { row: 150 }));
    }
}
