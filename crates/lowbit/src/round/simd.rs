//! The loops over a row, compiled once per instruction set.
//!
//! Every version runs the same operations on the same sixteen lanes and no multiply-add is fused,
//! so all give the same bits; the wider registers only give them sooner.

#![allow(
    unsafe_code,
    reason = "calls into functions that need an instruction set"
)]

use super::observer::{Grid, Observer};
use crate::cpu::Isa;

/// A row of weights and how to round it.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) weights: &'a [f32],
    pub(super) group: usize,
    pub(super) grid: Grid,
    pub(super) observer: Observer,
}

/// What rounding a row gives; scales and zeros one per group, codes one per weight.
pub(super) struct Rounded<'a> {
    pub(super) scales: &'a mut [f32],
    pub(super) zeros: &'a mut [u8],
    pub(super) codes: &'a mut [u8],
}

/// Whether every weight is finite.
pub(super) fn all_finite(weights: &[f32]) -> bool {
    weights
        .iter()
        .fold(true, |all, w| all & (w.abs() <= f32::MAX))
}

/// Chooses each group's scale and zero and rounds its weights.
#[inline(always)]
fn round_row(row: Row<'_>, out: &mut Rounded<'_>) {
    let groups = row.weights.chunks_exact(row.group);
    let codes = out.codes.chunks_exact_mut(row.group);
    for (g, (values, codes)) in groups.zip(codes).enumerate() {
        let params = row.grid.observe(values, row.observer);
        row.grid.codes(values, params, codes);
        out.scales[g] = params.scale;
        out.zeros[g] = row.grid.unsigned(params.zero);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn round_avx2(row: Row<'_>, out: &mut Rounded<'_>) {
    round_row(row, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn round_avx512(row: Row<'_>, out: &mut Rounded<'_>) {
    round_row(row, out);
}

/// Rounds a row with the registers of `isa`.
pub(super) fn round(isa: Isa, row: Row<'_>, out: &mut Rounded<'_>) {
    match isa {
        // SAFETY: an `Isa` is only used after `Isa::available` found its features on this host.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { round_avx2(row, out) },
        // SAFETY: as above; Avx512 stands for F, BW, VL and VNNI.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { round_avx512(row, out) },
        _ => round_row(row, out),
    }
}
