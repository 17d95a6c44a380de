//! `dᵀ·H·d` for rows d: what errors of weights do to outputs, summed over the inputs that H saw.

use super::dense;
use crate::cpu::Cpu;
use crate::error::Result;
use crate::kernels::matmul::{Weight, matmul};
use crate::round::hessian::Hessian;
use std::ops::Range;

/// Columns of a block; only blocks on and below the diagonal are multiplied.
const COLUMNS: usize = 512;

/// A symmetric matrix of some neighbouring inputs, as products take it.
///
/// ```text
/// block of columns b holds  2·H[inputs before b, b] and H[b, b],
/// so that  dᵀ·H·d = Σ_b d[b]ᵀ · (block b)ᵀ · d[..end of b]
/// ```
#[derive(Debug)]
pub(crate) struct Curvature {
    n: usize,
    /// First column and the block, `[columns, first + columns]`.
    blocks: Vec<(usize, Weight)>,
}

impl Curvature {
    /// Takes the second moments of `inputs`, which are finished.
    pub(crate) fn new(cpu: &Cpu, hessian: &Hessian, inputs: Range<usize>) -> Result<Self> {
        let n = inputs.len();
        let mut blocks = Vec::new();
        for first in (0..n).step_by(COLUMNS) {
            let end = n.min(first + COLUMNS);
            let mut values = vec![0.0f32; (end - first) * end];
            cpu.run_chunks(&mut values, end, n > 128, |j, row| {
                let column = inputs.start + first + j;
                for (i, v) in row.iter_mut().enumerate() {
                    let times = 1.0 + f64::from(u8::from(i < first));
                    *v = (times * hessian.entry(inputs.start + i, column)) as f32;
                }
            });
            blocks.push((first, dense(end - first, end, &values)?));
        }
        Ok(Self { n, blocks })
    }

    /// `dᵀ·H·d` of each row of `d [rows, n]`; the same for any number of threads.
    pub(crate) fn rows(&self, cpu: &Cpu, d: &[f32]) -> Vec<f64> {
        let mut sums = vec![0.0; d.len() / self.n];
        let mut prefix = Vec::new();
        for (first, block) in &self.blocks {
            let (columns, end) = (block.rows(), block.cols());
            let x = if end == self.n {
                d
            } else {
                prefix.clear();
                d.chunks_exact(self.n)
                    .for_each(|row| prefix.extend_from_slice(&row[..end]));
                &prefix
            };
            let mut y = vec![0.0; sums.len() * columns];
            matmul(cpu, x, block, &mut y);
            let rows = d.chunks_exact(self.n).zip(y.chunks_exact(columns));
            for (sum, (d, y)) in sums.iter_mut().zip(rows) {
                *sum += dot(&d[*first..end], y);
            }
        }
        sums
    }
}

/// Σ a·b: products in f32, sums of eight in f32, sums of those in f64.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let eight = |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let pieces = a.chunks(8).zip(b.chunks(8));
    pieces.map(|piece| f64::from(eight(piece))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;
    use crate::session::random::Pcg32;

    #[test]
    fn rows_are_the_quadratic_form_for_any_number_of_threads() {
        let (n, tokens) = (COLUMNS + 37, 64);
        let mut random = Pcg32::new(1, 2);
        let mut draw =
            |len: usize| -> Vec<f32> { (0..len).map(|_| random.next_f64() as f32 - 0.5).collect() };
        let (x, d) = (draw(tokens * n), draw(3 * n));
        let cpu = Cpu::new(Isa::detect(), 2).unwrap();
        let mut hessian = Hessian::new(n);
        hessian.add(&cpu, &x);
        hessian.finish(&cpu);
        for inputs in [0..n, 40..168] {
            let d: Vec<f32> = d
                .chunks(n)
                .flat_map(|row| row[inputs.clone()].to_vec())
                .collect();
            let curvature = Curvature::new(&cpu, &hessian, inputs.clone()).unwrap();
            let found = curvature.rows(&cpu, &d);
            let single = Cpu::single();
            let alone = Curvature::new(&single, &hessian, inputs.clone()).unwrap();
            assert_eq!(found, alone.rows(&single, &d));
            for (found, d) in found.iter().zip(d.chunks(inputs.len())) {
                let output = |x: &[f32]| -> f64 {
                    let x = &x[inputs.clone()];
                    let y = x.iter().zip(d).map(|(x, d)| f64::from(*x) * f64::from(*d));
                    y.sum::<f64>().powi(2)
                };
                let wanted = x.chunks(n).map(output).sum::<f64>() * 2.0 / tokens as f64;
                assert!((found - wanted).abs() < 1e-5 * wanted, "{found} {wanted}");
            }
        }
    }
}
