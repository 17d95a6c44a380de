//! The encoders, compiled once per instruction set.
//!
//! Each version runs the same operations on the same sixteen lanes and fuses none of them, so all
//! give the same bytes; wider registers only give them sooner.

#![allow(
    unsafe_code,
    reason = "calls into functions that need an instruction set"
)]

use super::rows::Rows;
use super::{encode_32, encode_k16, encode_k32, encode_plain};
use crate::cpu::Isa;

/// Declares `name(isa, rows, out)` for bodies that are always inlined.
macro_rules! encoders {
    ($($name:ident = $body:path;)*) => {
        $(
            /// Encodes whole rows into blocks with the registers of `isa`.
            pub(super) fn $name(isa: Isa, rows: Rows<'_>, out: &mut [u8]) {
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx2,f16c")]
                fn avx2(rows: Rows<'_>, out: &mut [u8]) {
                    $body(rows, out);
                }
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512vl")]
                fn avx512(rows: Rows<'_>, out: &mut [u8]) {
                    $body(rows, out);
                }
                match isa {
                    // SAFETY: an `Isa` is only used after `Isa::available` found its features.
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => unsafe { avx2(rows, out) },
                    // SAFETY: as above; Avx512 stands for F, BW, VL and VNNI.
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => unsafe { avx512(rows, out) },
                    _ => $body(rows, out),
                }
            }
        )*
    };
}

encoders! {
    f32 = encode_plain::f32;
    f16 = encode_plain::f16;
    bf16 = encode_plain::bf16;
    q4_0 = encode_32::q4_0;
    q4_1 = encode_32::q4_1;
    q5_0 = encode_32::q5_0;
    q5_1 = encode_32::q5_1;
    q8_0 = encode_plain::q8_0;
    q2_k = encode_k16::q2_k;
    q3_k = encode_k16::q3_k;
    q4_k = encode_k32::q4_k;
    q5_k = encode_k32::q5_k;
    q6_k = encode_k16::q6_k;
    iq4_nl = encode_32::iq4_nl;
    iq4_xs = encode_32::iq4_xs;
    tq1_0 = encode_plain::tq1_0;
    tq2_0 = encode_plain::tq2_0;
    mxfp4 = encode_plain::mxfp4;
}
