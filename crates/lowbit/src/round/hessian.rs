//! `H = (2/n)·Σ x·xᵀ` over the inputs of a linear: the curvature of its output error.
//!
//! ```text
//! inputs ─► gram in f32 over tiles of TILE tokens ─► f64 between tiles ─► f32 for the factor
//! ```
//! Only the lower triangle is kept. Bytes depend on how the inputs were cut into calls of `add`,
//! never on threads.

use crate::cpu::Cpu;
use crate::kernels::matmul::gram;

/// Tokens summed in f32 before they are added to the f64 sums.
const TILE: usize = 2048;

/// Second moments of the inputs of one or several linears that share them.
#[derive(Debug)]
pub struct Hessian {
    n: usize,
    /// Sums of the tile under way, `[n, n]`, lower triangle; made when first needed.
    tile: Vec<f32>,
    in_tile: usize,
    /// Row i holds its first i + 1 entries.
    sums: Vec<Vec<f64>>,
    tokens: u64,
}

impl Hessian {
    /// No inputs yet; `n` is the width of the input.
    pub fn new(n: usize) -> Self {
        Self {
            n,
            tile: Vec::new(),
            in_tile: 0,
            sums: (0..n).map(|i| vec![0.0; i + 1]).collect(),
            tokens: 0,
        }
    }

    /// Bytes that one of width `n` takes while inputs are added.
    pub const fn bytes(n: usize) -> u64 {
        let n = n as u64;
        4 * n * n + 4 * n * (n + 1)
    }

    /// Width of the input.
    pub fn width(&self) -> usize {
        self.n
    }

    /// Inputs seen.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Adds inputs `[tokens, n]`, all finite.
    pub fn add(&mut self, cpu: &Cpu, x: &[f32]) {
        let tokens = x.len() / self.n;
        if self.in_tile > 0 && self.in_tile + tokens > TILE {
            self.flush(cpu);
        }
        if self.tile.is_empty() {
            self.tile = vec![0.0; self.n * self.n];
        }
        gram(cpu, x, self.n, &mut self.tile);
        self.in_tile += tokens;
        self.tokens += tokens as u64;
    }

    /// Counts inputs whose sums come by [`Hessian::add_sums`].
    pub fn count(&mut self, tokens: usize) {
        self.tokens += tokens as u64;
    }

    /// Adds sums of a tile that were made elsewhere: rows from `first_row` on, `stride` floats apart,
    /// as little-endian f32.
    pub fn add_sums(&mut self, cpu: &Cpu, first_row: usize, stride: usize, bytes: &[u8]) {
        let rows = bytes.len() / (4 * stride);
        let parallel = rows * stride > 1 << 14;
        let sums = &mut self.sums[first_row..first_row + rows];
        cpu.run_chunks(sums, 16, parallel, |chunk, sums| {
            let from = bytes.chunks_exact(4 * stride).skip(chunk * 16);
            for (row, bytes) in sums.iter_mut().zip(from) {
                for (sum, word) in row.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *sum += f64::from(f32::from_le_bytes(*word));
                }
            }
        });
    }

    /// Ends the last tile and frees its memory; nothing can be added afterwards.
    pub fn finish(&mut self, cpu: &Cpu) {
        self.flush(cpu);
        self.tile = Vec::new();
    }

    fn flush(&mut self, cpu: &Cpu) {
        if self.in_tile == 0 {
            return;
        }
        let (n, tile) = (self.n, &self.tile);
        cpu.run_chunks(&mut self.sums, 16, n > 128, |chunk, rows| {
            for (i, row) in rows.iter_mut().enumerate() {
                let at = (chunk * 16 + i) * n;
                for (sum, v) in row.iter_mut().zip(&tile[at..]) {
                    *sum += f64::from(*v);
                }
            }
        });
        self.tile.fill(0.0);
        self.in_tile = 0;
    }

    /// The diagonal of H, after `finish`.
    pub fn diagonal(&self) -> Vec<f64> {
        let scale = self.scale();
        self.sums
            .iter()
            .enumerate()
            .map(|(i, row)| row[i] * scale)
            .collect()
    }

    /// One entry of H, after `finish`.
    pub fn entry(&self, i: usize, j: usize) -> f64 {
        self.sums[i.max(j)][i.min(j)] * self.scale()
    }

    /// Upper triangle of H with rows and columns in the order of `columns`, `[n, n]` row-major.
    ///
    /// `diagonal` replaces the diagonal, in the original order of columns.
    pub fn upper(&self, cpu: &Cpu, columns: &[u32], diagonal: &[f64]) -> Vec<f32> {
        let (n, scale) = (self.n, self.scale());
        let mut out = vec![0.0f32; n * n];
        cpu.run_chunks(&mut out, n, n > 128, |i, row| {
            let a = columns[i] as usize;
            row[i] = diagonal[a] as f32;
            for (v, b) in row[i + 1..].iter_mut().zip(&columns[i + 1..]) {
                let (high, low) = (a.max(*b as usize), a.min(*b as usize));
                *v = (self.sums[high][low] * scale) as f32;
            }
        });
        out
    }

    /// H in the original order with another diagonal, `[n, n]`.
    pub fn full(&self, cpu: &Cpu, diagonal: &[f64]) -> Vec<f32> {
        let (n, scale) = (self.n, self.scale());
        let mut out = vec![0.0f32; n * n];
        cpu.run_chunks(&mut out, n, n > 128, |i, row| {
            for (j, v) in row.iter_mut().enumerate() {
                *v = (self.sums[i.max(j)][i.min(j)] * scale) as f32;
            }
            row[i] = diagonal[i] as f32;
        });
        out
    }

    /// What `upper` gives, in f64.
    pub fn upper_f64(&self, cpu: &Cpu, columns: &[u32], diagonal: &[f64]) -> Vec<f64> {
        let (n, scale) = (self.n, self.scale());
        let mut out = vec![0.0f64; n * n];
        cpu.run_chunks(&mut out, n, n > 128, |i, row| {
            let a = columns[i] as usize;
            row[i] = diagonal[a];
            for (v, b) in row[i + 1..].iter_mut().zip(&columns[i + 1..]) {
                let (high, low) = (a.max(*b as usize), a.min(*b as usize));
                *v = self.sums[high][low] * scale;
            }
        });
        out
    }

    /// H for inputs that are divided by `s`, one factor per input; after `finish`.
    pub fn rescale(&mut self, s: &[f32]) {
        assert_eq!(s.len(), self.n, "one factor per input");
        for (row, a) in self.sums.iter_mut().zip(s) {
            for (sum, b) in row.iter_mut().zip(s) {
                *sum /= f64::from(*a) * f64::from(*b);
            }
        }
    }

    fn scale(&self) -> f64 {
        2.0 / self.tokens.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::random;
    use crate::tensor::{Dtype, bytes_from_f32};

    #[test]
    fn sums_that_were_made_elsewhere_are_as_good() {
        let (n, tokens) = (70, 33);
        let x = random(1, n * tokens, 1.0);
        let cpu = Cpu::single();
        let mut own = Hessian::new(n);
        own.add(&cpu, &x);
        own.finish(&cpu);
        let mut tile = vec![0.0; n * n];
        gram(&cpu, &x, n, &mut tile);
        let mut other = Hessian::new(n);
        other.count(tokens);
        // In two parts whose rows lie differently far apart.
        for (rows, stride) in [(0..32, 40), (32..n, 72)] {
            let mut part = vec![f32::NAN; rows.len() * stride];
            for (i, row) in rows.clone().zip(part.chunks_mut(stride)) {
                row[..=i].copy_from_slice(&tile[i * n..=i * n + i]);
            }
            let bytes = bytes_from_f32(Dtype::F32, &part).unwrap();
            other.add_sums(&cpu, rows.start, stride, &bytes);
        }
        other.finish(&cpu);
        assert_eq!(other.tokens(), own.tokens());
        for i in 0..n {
            for j in 0..n {
                assert_eq!(other.entry(i, j).to_bits(), own.entry(i, j).to_bits());
            }
        }
    }
}
