//! E4M3 floats: scale = max|w| / 448 of a row, a run, a block of rows and columns, or the matrix,
//! as compressed-tensors 0.19 rounds (`calculate_qparams`, `float-quantized`).
//!
//! As for integers, equal weights c ≠ 0 get s = |c| and come back exactly.

use super::rows::{all_finite, bad};
use super::{RoundOptions, Weights};
use crate::cpu::Cpu;
use crate::error::Result;
use crate::matrix::{Floats, Inputs, Minifloat, QuantizedMatrix, Values};
use crate::minifloat::{E4M3_MAX, e4m3_from_f32};
use crate::scheme::{Group, Scheme};
use crate::tensor::{Dtype, round_to};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rounds to E4M3; errors as `rtn::round`.
pub(super) fn round(
    weights: Weights<'_>,
    scheme: &Scheme,
    options: &RoundOptions,
    cpu: &Cpu,
) -> Result<QuantizedMatrix> {
    let (rows, cols) = (weights.rows, weights.cols);
    let (height, width) = match scheme.group {
        Group::Tensor => (rows, cols),
        Group::Block { rows, cols } => (rows, cols),
        Group::Row | Group::Run(_) | Group::Flat(_) => (1, scheme.group_cols(cols)?),
    };
    let per_band = cols.div_ceil(width);
    let mut scales = vec![0.0f32; rows.div_ceil(height) * per_band];
    let bad_row = AtomicUsize::new(usize::MAX);
    cpu.run_chunks(&mut scales, per_band, true, |band, scales| {
        let last = rows.min((band + 1) * height);
        let mut ranges = vec![(f32::INFINITY, f32::NEG_INFINITY); per_band];
        for row in band * height..last {
            let values = &weights.values[row * cols..][..cols];
            if !all_finite(values) {
                bad_row.fetch_min(row, Ordering::Relaxed);
                return;
            }
            for (range, values) in ranges.iter_mut().zip(values.chunks(width)) {
                let grow = |r: (f32, f32), w: &f32| (r.0.min(*w), r.1.max(*w));
                *range = values.iter().fold(*range, grow);
            }
        }
        for (scale, range) in scales.iter_mut().zip(ranges) {
            *scale = scale_of(range, options.scale_dtype);
        }
        if !all_finite(scales) {
            bad_row.fetch_min(band * height, Ordering::Relaxed);
        }
    });
    match bad_row.into_inner() {
        usize::MAX => {}
        row => return Err(bad(weights, row)),
    }
    let mut bytes = vec![0u8; rows * cols];
    cpu.run_chunks(&mut bytes, cols, true, |row, bytes| {
        let scales = &scales[row / height * per_band..];
        let values = weights.values[row * cols..][..cols].chunks(width);
        for ((bytes, values), scale) in bytes.chunks_mut(width).zip(values).zip(scales) {
            for (byte, w) in bytes.iter_mut().zip(values) {
                *byte = e4m3_from_f32(w / scale);
            }
        }
    });
    Ok(QuantizedMatrix {
        rows,
        cols,
        inputs: Inputs::of(scheme),
        values: Values::Minifloat(Minifloat {
            dtype: Dtype::F8E4M3,
            bytes,
            block: (height, width),
            scales: Floats::from_f32(options.scale_dtype, &scales)?,
        }),
    })
}

/// The stored scale of a range, never 0.
fn scale_of((min, max): (f32, f32), dtype: Dtype) -> f32 {
    let scale = if min == max {
        max.abs()
    } else {
        max.max(-min) / E4M3_MAX
    };
    match round_to(dtype, scale) {
        0.0 => dtype.epsilon(),
        stored => stored,
    }
}
