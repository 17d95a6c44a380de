//! The loops over a row, compiled once per instruction set.
//!
//! Every version runs the same operations on the same sixteen lanes and no multiply-add is fused,
//! so all give the same bits; the wider registers only give them sooner.

#![allow(
    unsafe_code,
    reason = "calls into functions that need an instruction set"
)]

use super::observer::{Grid, Params, improvements, range};
use crate::cpu::Isa;

/// A row of weights and where its groups' scales and zeros are.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) weights: &'a [f32],
    pub(super) group: usize,
    pub(super) grid: Grid,
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

/// The steps that improved each group, as bits.
#[inline(always)]
fn search_row(row: Row<'_>, improved: &mut [u32]) {
    for (values, improved) in row.weights.chunks_exact(row.group).zip(improved) {
        *improved = improvements(values, range(values), row.grid);
    }
}

/// Rounds each group with its range shrunk by its step.
#[inline(always)]
fn round_row(row: Row<'_>, step: &dyn Fn(usize) -> u32, out: &mut Rounded<'_>) {
    let groups = row.weights.chunks_exact(row.group);
    let codes = out.codes.chunks_exact_mut(row.group);
    for (g, (values, codes)) in groups.zip(codes).enumerate() {
        let params: Params = row.grid.params(range(values), step(g));
        row.grid.codes(values, params, codes);
        out.scales[g] = params.scale;
        out.zeros[g] = row.grid.unsigned(params.zero);
    }
}

/// Compiles the two loops for one instruction set.
macro_rules! versions {
    ($($search:ident, $round:ident: $features:literal;)*) => {
        $(
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = $features)]
            fn $search(row: Row<'_>, improved: &mut [u32]) {
                search_row(row, improved);
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = $features)]
            fn $round(row: Row<'_>, step: &dyn Fn(usize) -> u32, out: &mut Rounded<'_>) {
                round_row(row, step, out);
            }
        )*
    };
}

versions! {
    search_avx2, round_avx2: "avx2";
    search_avx512, round_avx512: "avx512f,avx512bw,avx512vl";
}

/// `search_row` with the registers of `isa`.
pub(super) fn search(isa: Isa, row: Row<'_>, improved: &mut [u32]) {
    match isa {
        // SAFETY: an `Isa` is only made after `Isa::available` found its features on this host.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { search_avx2(row, improved) },
        // SAFETY: as above; Avx512 stands for F, BW, VL and VNNI.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { search_avx512(row, improved) },
        _ => search_row(row, improved),
    }
}

/// `round_row` with the registers of `isa`.
pub(super) fn round(isa: Isa, row: Row<'_>, step: &dyn Fn(usize) -> u32, out: &mut Rounded<'_>) {
    match isa {
        // SAFETY: an `Isa` is only made after `Isa::available` found its features on this host.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { round_avx2(row, step, out) },
        // SAFETY: as above; Avx512 stands for F, BW, VL and VNNI.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { round_avx512(row, step, out) },
        _ => round_row(row, step, out),
    }
}
