//! 64-bit Arm: 4 lanes; the dot-product extension where the host has it, which gives the same
//! integers in fewer steps.

use super::gemm::Gemm;
use super::simd::{E4M3_SCALE, Simd, methods};
use super::simd_gemm;
use super::simd_gemv::{self, Gemv};
use super::simd_int8::{self, Job};
#[allow(clippy::wildcard_imports, reason = "intrinsics carry their own prefix")]
use std::arch::aarch64::*;
use std::ops::Range;

/// The machine; `DOT` says that it has the dot-product extension.
#[derive(Debug, Clone, Copy)]
struct Neon<const DOT: bool>;

impl<const DOT: bool> Simd for Neon<DOT> {
    const LANES: usize = 4;
    const BIAS8: i32 = 128;
    type F = float32x4_t;
    type I = uint32x4_t;
    type Quad = int8x16_t;
    type Table = uint8x16x4_t;

    methods! {
        splat(v: f32) -> float32x4_t = vdupq_n_f32(v);
        load(p: *const f32) -> float32x4_t = vld1q_f32(p);
        load_f16(p: *const u16) -> float32x4_t =
            vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
        load_bf16(p: *const u16) -> float32x4_t =
            vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(p)));
        store(p: *mut f32, v: float32x4_t) -> () = vst1q_f32(p, v);
        add(a: float32x4_t, b: float32x4_t) -> float32x4_t = vaddq_f32(a, b);
        sub(a: float32x4_t, b: float32x4_t) -> float32x4_t = vsubq_f32(a, b);
        mul(a: float32x4_t, b: float32x4_t) -> float32x4_t = vmulq_f32(a, b);
        fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t = vfmaq_f32(c, a, b);
        float(v: uint32x4_t) -> float32x4_t = vcvtq_f32_s32(vreinterpretq_s32_u32(v));
        splat_i(v: i32) -> uint32x4_t = vdupq_n_u32(v as u32);
        load_words(p: *const u32) -> uint32x4_t = vld1q_u32(p);
        load_bytes(p: *const u8) -> uint32x4_t = {
            let four = vcreate_u8(u64::from(p.cast::<u32>().read_unaligned()));
            vmovl_u16(vget_low_u16(vmovl_u8(four)))
        };
        mul_i(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = vmulq_u32(a, b);
        add_i(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = vaddq_u32(a, b);
        nibble(v: uint32x4_t, shift: u32) -> float32x4_t = {
            let code = vshlq_u32(v, vdupq_n_s32(-(shift as i32)));
            vcvtq_f32_u32(vandq_u32(code, vdupq_n_u32(15)))
        };
        byte(v: uint32x4_t, shift: u32) -> float32x4_t = {
            let code = vshlq_u32(v, vdupq_n_s32(-(shift as i32)));
            vcvtq_f32_u32(vandq_u32(code, vdupq_n_u32(255)))
        };
        table(p: *const f32) -> uint8x16x4_t = vld1q_u8_x4(p.cast());
        // Each byte of a value is looked up: value c has the bytes 4c to 4c + 3.
        look_up(table: uint8x16x4_t, v: uint32x4_t, shift: u32) -> float32x4_t = {
            let code = vandq_u32(vshlq_u32(v, vdupq_n_s32(-(shift as i32))), vdupq_n_u32(15));
            let first = vmulq_u32(code, vdupq_n_u32(0x0404_0404));
            let bytes = vreinterpretq_u8_u32(vaddq_u32(first, vdupq_n_u32(0x0302_0100)));
            vreinterpretq_f32_u8(vqtbl4q_u8(table, bytes))
        };
        e4m3(v: uint32x4_t, shift: u32) -> float32x4_t = {
            let code = vshlq_u32(v, vdupq_n_s32(-(shift as i32)));
            let magnitude = vshlq_n_u32::<20>(vandq_u32(code, vdupq_n_u32(0x7f)));
            let value = vmulq_n_f32(vreinterpretq_f32_u32(magnitude), E4M3_SCALE);
            let sign = vshlq_n_u32::<24>(vandq_u32(code, vdupq_n_u32(0x80)));
            vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(value), sign))
        };
        quad(p: *const i8) -> int8x16_t =
            vreinterpretq_s8_s32(vdupq_n_s32(p.cast::<i32>().read_unaligned()));
        dot4(acc: uint32x4_t, codes: uint32x4_t, low: int8x16_t, high: int8x16_t) -> uint32x4_t = {
            let bytes = vreinterpretq_u8_u32(codes);
            let lower = vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15)));
            let upper = vreinterpretq_s8_u8(vshrq_n_u8::<4>(bytes));
            dot::<DOT>(dot::<DOT>(acc, lower, low), upper, high)
        };
        dot8(acc: uint32x4_t, codes: uint32x4_t, x: int8x16_t) -> uint32x4_t = {
            let centred = veorq_u8(vreinterpretq_u8_u32(codes), vdupq_n_u8(128));
            dot::<DOT>(acc, vreinterpretq_s8_u8(centred), x)
        };
    }
}

/// `acc + Σ` of four products in each 32-bit lane.
///
/// # Safety
/// The host is 64-bit Arm and has the extension if `DOT`.
#[inline(always)]
unsafe fn dot<const DOT: bool>(acc: uint32x4_t, codes: int8x16_t, x: int8x16_t) -> uint32x4_t {
    // SAFETY: register arithmetic only, with what the host has.
    unsafe {
        if DOT {
            // The intrinsic for this instruction is not stable yet.
            let mut acc = acc;
            std::arch::asm!(
                "sdot {acc:v}.4s, {codes:v}.16b, {x:v}.16b",
                acc = inout(vreg) acc, codes = in(vreg) codes, x = in(vreg) x,
                options(pure, nomem, nostack, preserves_flags)
            );
            return acc;
        }
        let low = vpaddlq_s16(vmull_s8(vget_low_s8(codes), vget_low_s8(x)));
        let high = vpaddlq_s16(vmull_high_s8(codes, x));
        vaddq_u32(acc, vreinterpretq_u32_s32(vpaddq_s32(low, high)))
    }
}

/// # Safety
/// As [`simd_gemv::gemv`].
pub(super) unsafe fn gemv(job: &Gemv<'_>, panels: Range<usize>) {
    // SAFETY: as this function.
    unsafe { simd_gemv::gemv::<Neon<false>, 4, 4>(job, panels) }
}

/// # Safety
/// As [`simd_gemm::gemm`].
pub(super) unsafe fn gemm(job: &Gemm<'_>, panels: Range<usize>) {
    // SAFETY: as this function.
    unsafe { simd_gemm::gemm::<Neon<false>, 4, 1, 2, 4, 6>(job, panels) }
}

/// # Safety
/// As [`simd_int8::run`].
pub(super) unsafe fn int8(job: &Job<'_>, panels: Range<usize>) {
    // SAFETY: as this function; the host has what each copy needs.
    unsafe {
        if std::arch::is_aarch64_feature_detected!("dotprod") {
            int8_dot(job, panels);
        } else {
            simd_int8::run::<Neon<false>, 4, 4, 3>(job, panels);
        }
    }
}

#[target_feature(enable = "dotprod")]
unsafe fn int8_dot(job: &Job<'_>, panels: Range<usize>) {
    // SAFETY: as `int8`.
    unsafe { simd_int8::run::<Neon<true>, 4, 4, 3>(job, panels) }
}
