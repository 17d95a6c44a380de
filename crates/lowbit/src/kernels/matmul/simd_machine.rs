//! Which machine's copy of a kernel runs.

use super::gemm::Gemm;
use super::simd_gemv::Gemv;
use super::simd_int8::Job;
use crate::cpu::Isa;
use std::ops::Range;

#[cfg(target_arch = "aarch64")]
use super::simd_neon as neon;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
use super::simd_wasm as simd128;
#[cfg(target_arch = "x86_64")]
use super::{simd_avx2 as avx2, simd_avx512 as avx512};

/// Declares a dispatching function over the machines that this target has.
macro_rules! dispatch {
    ($($(#[$doc:meta])* $name:ident($job:ty);)*) => {$(
        $(#[$doc])*
        pub(super) fn $name(isa: Isa, job: &$job, panels: Range<usize>) {
            // SAFETY: `Cpu` only holds machines that the host has; the panels exist and belong to
            // the caller's task alone.
            unsafe {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => avx512::$name(job, panels),
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => avx2::$name(job, panels),
                    #[cfg(target_arch = "aarch64")]
                    Isa::Neon => neon::$name(job, panels),
                    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
                    Isa::Simd128 => simd128::$name(job, panels),
                    other => unreachable!("{} has no vectors on this target: {job:?} {panels:?}", other.name()),
                }
            }
        }
    )*};
}

dispatch! {
    /// Few rows of inputs in f32 mode.
    gemv(Gemv<'_>);
    /// Many rows of inputs in f32 mode.
    gemm(Gemm<'_>);
    /// int8 mode.
    int8(Job<'_>);
}

/// Rows that the inputs of [`gemm`] are padded to; it takes up to three times as many at once.
pub(super) const fn rows_at_once(isa: Isa) -> usize {
    match isa {
        Isa::Avx512 => 4,
        Isa::Avx2 | Isa::Neon => 2,
        Isa::Simd128 | Isa::Scalar => 1,
    }
}
