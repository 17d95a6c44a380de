//! Cuts products into tasks and brings inputs into the order that kernels read.

use super::inputs::{self, Rounded};
use super::panel::ROWS;
use super::simd::Out;
use super::simd_gemv::Gemv;
use super::weight::{Dense, Packed, Zeros};
use super::{BLOCK, simd_int8, simd_machine as machine};
use crate::cpu::Cpu;
use std::ops::Range;

/// Products below this many multiplications stay on one thread: waking another costs more.
const PARALLEL_FROM: usize = 1 << 21;

/// Rows of inputs up to which weights are widened in registers.
const FEW: usize = 4;

/// Panels of a task are a multiple of this, so that full register tiles fit.
const TASK_PANELS: usize = 4;

/// What inputs are multiplied with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    /// Floats in panels.
    Dense(&'a Dense),
    /// Codes in panels.
    Packed(&'a Packed),
    /// A plain matrix `[width, n]`, already transposed.
    Rows {
        /// Row-major.
        values: &'a [f32],
        /// Outputs.
        n: usize,
    },
}

/// One product with many rows of inputs.
#[derive(Debug)]
pub(super) struct Gemm<'a> {
    pub(super) w: Source<'a>,
    /// Inputs from [`interleave`].
    pub(super) x: &'a [f32],
    /// Padded columns.
    pub(super) width: usize,
    /// Rows of inputs.
    pub(super) m: usize,
    pub(super) out: Out<'a>,
}

impl Gemm<'_> {
    /// The first row of inputs that `panel` is multiplied with.
    pub(super) fn first_row(&self, panel: usize) -> usize {
        if self.out.is_lower() { panel * ROWS } else { 0 }
    }
}

/// f32 mode: `y = x · Wᵀ` with `x [m, width]` in padded order, on any machine but the scalar one.
pub(super) fn product(
    cpu: &Cpu,
    x: &[f32],
    width: usize,
    w: Source<'_>,
    rows: usize,
    y: &mut [f32],
) {
    let m = x.len() / width;
    y.fill(0.0);
    let out = Out::new(y, m, rows, rows);
    let with_minimum = matches!(w, Source::Packed(w) if matches!(w.zeros, Zeros::Min(_)));
    if m <= FEW && !with_minimum {
        let job = Gemv { w, x, m, out };
        return tasks(cpu, rows, m * width, |panels| {
            machine::gemv(cpu.isa, &job, panels);
        });
    }
    let at_once = machine::rows_at_once(cpu.isa);
    let x = interleave(cpu, x, width, at_once, 1.0);
    let job = Gemm {
        w,
        x: &x,
        width,
        m,
        out,
    };
    tasks(cpu, rows, m * width, |panels| {
        machine::gemm(cpu.isa, &job, panels);
    });
}

/// int8 mode: `y = x · Wᵀ` with rounded inputs, on any machine but the scalar one.
pub(super) fn product_int8(cpu: &Cpu, x: &Rounded, w: &Packed, y: &mut [f32]) {
    let m = x.codes.len() / w.width();
    y.fill(0.0);
    let out = Out::new(y, m, w.rows, w.rows);
    let job = simd_int8::Job { w, x, m, out };
    tasks(cpu, w.rows, m * w.width(), |panels| {
        machine::int8(cpu.isa, &job, panels);
    });
}

/// Adds `xᵀ · x` into the lower triangle of `h[n, n]`, on any machine but the scalar one.
pub(super) fn gram(cpu: &Cpu, x: &[f32], n: usize, h: &mut [f32]) {
    let at_once = machine::rows_at_once(cpu.isa);
    for x in x.chunks(BLOCK * n) {
        let width = x.len() / n;
        let transposed = transpose(cpu, x, n, at_once);
        let job = Gemm {
            w: Source::Rows { values: x, n },
            x: &transposed,
            width,
            m: n,
            out: Out::new(h, n, n, n).lower(),
        };
        tasks(cpu, n, n * width / 2, |panels| {
            machine::gemm(cpu.isa, &job, panels);
        });
    }
}

/// `c[m, n] −= a[m, k] · b[k, n]`, on any machine but the scalar one.
pub(super) fn gemm_sub(cpu: &Cpu, a: &[f32], b: &[f32], n: usize, c: &mut [f32], stride: usize) {
    let width = b.len() / n;
    let m = a.len() / width;
    let at_once = machine::rows_at_once(cpu.isa);
    let negated = interleave(cpu, a, width, at_once, -1.0);
    let job = Gemm {
        w: Source::Rows { values: b, n },
        x: &negated,
        width,
        m,
        out: Out::new(c, m, n, stride),
    };
    tasks(cpu, n, m * width, |panels| {
        machine::gemm(cpu.isa, &job, panels);
    });
}

/// Runs `task` over the panels of `rows` outputs, each of which costs `work` multiplications.
///
/// No result depends on how panels are cut into tasks.
fn tasks(cpu: &Cpu, rows: usize, work: usize, task: impl Fn(Range<usize>) + Sync + Send) {
    let panels = rows.div_ceil(ROWS);
    let len = panels
        .div_ceil(cpu.threads() * 4)
        .next_multiple_of(TASK_PANELS);
    let parallel = work * rows >= PARALLEL_FROM;
    cpu.run(panels.div_ceil(len), parallel, |i| {
        task(i * len..((i + 1) * len).min(panels));
    });
}

/// Inputs `[m, width]` times `sign` in blocks of `3 · at_once` rows, columns outermost inside a
/// block; the last block is padded to a multiple of `at_once` rows.
fn interleave(cpu: &Cpu, x: &[f32], width: usize, at_once: usize, sign: f32) -> Vec<f32> {
    let (block, m) = (3 * at_once, x.len() / width);
    let mut out = vec![0.0; m.next_multiple_of(at_once) * width];
    let parallel = out.len() >= PARALLEL_FROM / 16;
    cpu.run_chunks(&mut out, block * width, parallel, |b, out| {
        let from = b * block * width;
        let x = &x[from..(from + block * width).min(x.len())];
        match (x.len() / width, out.len() / width) {
            (12, _) => turn::<12>(x, width, sign, out),
            (6, 6) => turn::<6>(x, width, sign, out),
            (3, 3) => turn::<3>(x, width, sign, out),
            (_, rows) => {
                for (j, row) in x.chunks_exact(width).enumerate() {
                    let places = out[j..].iter_mut().step_by(rows);
                    places.zip(row).for_each(|(out, v)| *out = v * sign);
                }
            }
        }
    });
    out
}

/// The transpose of `M` whole rows, a few columns at a time so that both sides stay in cache.
#[inline(never)]
fn turn<const M: usize>(x: &[f32], width: usize, sign: f32, out: &mut [f32]) {
    const COLUMNS: usize = 16;
    let mut rows = [[0.0f32; COLUMNS]; M];
    for (at, out) in out.chunks_mut(COLUMNS * M).enumerate() {
        let len = out.len() / M;
        for (row, x) in rows.iter_mut().zip(x.chunks_exact(width)) {
            row[..len].copy_from_slice(&x[at * COLUMNS..][..len]);
        }
        for (k, out) in out.as_chunks_mut::<M>().0.iter_mut().enumerate() {
            for (out, row) in out.iter_mut().zip(&rows) {
                *out = row[k] * sign;
            }
        }
    }
}

/// What [`interleave`] makes of the transpose of `x [width, n]`.
fn transpose(cpu: &Cpu, x: &[f32], n: usize, at_once: usize) -> Vec<f32> {
    let (block, width) = (3 * at_once, x.len() / n);
    let mut out = vec![0.0; n.next_multiple_of(at_once) * width];
    let parallel = out.len() >= PARALLEL_FROM / 16;
    cpu.run_chunks(&mut out, block * width, parallel, |b, out| {
        let rows = out.len() / width;
        let real = rows.min(n - b * block);
        for (out, x) in out.chunks_exact_mut(rows).zip(x.chunks_exact(n)) {
            out[..real].copy_from_slice(&x[b * block..][..real]);
        }
    });
    out
}

/// f32 mode for a packed matrix.
pub(super) fn product_packed(cpu: &Cpu, x: &[f32], w: &Packed, y: &mut [f32]) {
    let x = inputs::arrange(x, w);
    product(cpu, &x, w.width(), Source::Packed(w), w.rows, y);
}
