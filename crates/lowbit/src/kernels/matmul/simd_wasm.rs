//! WebAssembly with 128-bit SIMD: 4 lanes; the relaxed dot product in builds that have the
//! crate's feature `relaxed-simd`, which gives the same integers in fewer steps.

use super::gemm::Gemm;
use super::simd::{E4M3_SCALE, Simd, methods};
use super::simd_gemm;
use super::simd_gemv::{self, Gemv};
use super::simd_int8::{self, Job};
#[allow(clippy::wildcard_imports, reason = "intrinsics carry their own prefix")]
use std::arch::wasm32::*;
use std::ops::Range;

/// The machine.
#[derive(Debug, Clone, Copy)]
struct Simd128;

/// Four bytes in every lane, and the same widened: bytes 0 and 2, bytes 1 and 3.
#[derive(Debug, Clone, Copy)]
struct Quad {
    #[cfg(feature = "relaxed-simd")]
    bytes: v128,
    even: v128,
    odd: v128,
}

impl Simd for Simd128 {
    const LANES: usize = 4;
    const BIAS8: i32 = 0;
    type F = v128;
    type I = v128;
    type Quad = Quad;
    type Table = [v128; 4];

    methods! {
        splat(v: f32) -> v128 = f32x4_splat(v);
        load(p: *const f32) -> v128 = v128_load(p.cast());
        // Exponents are rebased by a multiplication, which is exact for subnormals too; the
        // largest exponent stands for infinities and NaN and is set by hand.
        load_f16(p: *const u16) -> v128 = {
            let half = u32x4_load_extend_u16x4(p);
            let bits = u32x4_shl(v128_and(half, u32x4_splat(0x7fff)), 13);
            let rebased = f32x4_mul(bits, f32x4_splat(f32::from_bits(0x7780_0000)));
            let special = u32x4_ge(bits, u32x4_splat(0x0f80_0000));
            let value = v128_or(rebased, v128_and(special, u32x4_splat(0x7f80_0000)));
            v128_or(value, u32x4_shl(v128_and(half, u32x4_splat(0x8000)), 16))
        };
        load_bf16(p: *const u16) -> v128 = u32x4_shl(u32x4_load_extend_u16x4(p), 16);
        store(p: *mut f32, v: v128) -> () = v128_store(p.cast(), v);
        add(a: v128, b: v128) -> v128 = f32x4_add(a, b);
        sub(a: v128, b: v128) -> v128 = f32x4_sub(a, b);
        mul(a: v128, b: v128) -> v128 = f32x4_mul(a, b);
        fma(a: v128, b: v128, c: v128) -> v128 = f32x4_add(f32x4_mul(a, b), c);
        float(v: v128) -> v128 = f32x4_convert_i32x4(v);
        splat_i(v: i32) -> v128 = i32x4_splat(v);
        load_words(p: *const u32) -> v128 = v128_load(p.cast());
        load_bytes(p: *const u8) -> v128 =
            u32x4_extend_low_u16x8(u16x8_extend_low_u8x16(v128_load32_zero(p.cast())));
        mul_i(a: v128, b: v128) -> v128 = i32x4_mul(a, b);
        add_i(a: v128, b: v128) -> v128 = i32x4_add(a, b);
        nibble(v: v128, shift: u32) -> v128 =
            f32x4_convert_i32x4(v128_and(u32x4_shr(v, shift), u32x4_splat(15)));
        byte(v: v128, shift: u32) -> v128 =
            f32x4_convert_i32x4(v128_and(u32x4_shr(v, shift), u32x4_splat(255)));
        table(p: *const f32) -> [v128; 4] = {
            let p: *const v128 = p.cast();
            [v128_load(p), v128_load(p.add(1)), v128_load(p.add(2)), v128_load(p.add(3))]
        };
        // Each byte of a value is looked up: value c has the bytes 4c to 4c + 3. A place outside a
        // quarter of the table gives zero there.
        look_up(table: [v128; 4], v: v128, shift: u32) -> v128 = {
            let code = v128_and(u32x4_shr(v, shift), u32x4_splat(15));
            let first = i32x4_mul(code, u32x4_splat(0x0404_0404));
            let bytes = i32x4_add(first, u32x4_splat(0x0302_0100));
            let quarter = |q: usize| {
                i8x16_swizzle(table[q], i8x16_sub(bytes, u8x16_splat(16 * q as u8)))
            };
            v128_or(v128_or(quarter(0), quarter(1)), v128_or(quarter(2), quarter(3)))
        };
        e4m3(v: v128, shift: u32) -> v128 = {
            let code = u32x4_shr(v, shift);
            let magnitude = u32x4_shl(v128_and(code, u32x4_splat(0x7f)), 20);
            let value = f32x4_mul(magnitude, f32x4_splat(E4M3_SCALE));
            v128_or(value, u32x4_shl(v128_and(code, u32x4_splat(0x80)), 24))
        };
        quad(p: *const i8) -> Quad = {
            let bytes = v128_load32_splat(p.cast());
            Quad {
                #[cfg(feature = "relaxed-simd")]
                bytes,
                even: i16x8_shr(i16x8_shl(bytes, 8), 8),
                odd: i16x8_shr(bytes, 8),
            }
        };
        dot4(acc: v128, codes: v128, low: Quad, high: Quad) -> v128 = dot4(acc, codes, low, high);
        dot8(acc: v128, codes: v128, x: Quad) -> v128 = {
            let even = i32x4_dot_i16x8(v128_and(codes, u16x8_splat(255)), x.even);
            let odd = i32x4_dot_i16x8(u16x8_shr(codes, 8), x.odd);
            i32x4_add(acc, i32x4_add(even, odd))
        };
    }
}

/// Nibbles are masked where they lie in their 16-bit lanes: four planes, four products.
#[cfg(not(feature = "relaxed-simd"))]
#[inline(always)]
fn dot4(acc: v128, codes: v128, low: Quad, high: Quad) -> v128 {
    let mask = u16x8_splat(15);
    let planes = [
        i32x4_dot_i16x8(v128_and(codes, mask), low.even),
        i32x4_dot_i16x8(v128_and(u16x8_shr(codes, 4), mask), high.even),
        i32x4_dot_i16x8(v128_and(u16x8_shr(codes, 8), mask), low.odd),
        i32x4_dot_i16x8(u16x8_shr(codes, 12), high.odd),
    ];
    let sums = i32x4_add(
        i32x4_add(planes[0], planes[1]),
        i32x4_add(planes[2], planes[3]),
    );
    i32x4_add(acc, sums)
}

/// Nibbles fit the 7-bit operand, so every engine gives the same, exact result.
#[cfg(feature = "relaxed-simd")]
#[inline]
#[target_feature(enable = "relaxed-simd")]
fn dot4(acc: v128, codes: v128, low: Quad, high: Quad) -> v128 {
    let lower = v128_and(codes, u8x16_splat(15));
    let acc = i32x4_relaxed_dot_i8x16_i7x16_add(low.bytes, lower, acc);
    i32x4_relaxed_dot_i8x16_i7x16_add(high.bytes, u8x16_shr(codes, 4), acc)
}

/// # Safety
/// As [`simd_gemv::gemv`].
pub(super) unsafe fn gemv(job: &Gemv<'_>, panels: Range<usize>) {
    // SAFETY: as this function.
    unsafe { simd_gemv::gemv::<Simd128, 4, 4>(job, panels) }
}

/// # Safety
/// As [`simd_gemm::gemm`].
pub(super) unsafe fn gemm(job: &Gemm<'_>, panels: Range<usize>) {
    // SAFETY: as this function.
    unsafe { simd_gemm::gemm::<Simd128, 4, 1, 1, 2, 3>(job, panels) }
}

/// # Safety
/// As [`simd_int8::run`]; with the feature `relaxed-simd` the engine has it.
#[cfg_attr(feature = "relaxed-simd", target_feature(enable = "relaxed-simd"))]
pub(super) unsafe fn int8(job: &Job<'_>, panels: Range<usize>) {
    // SAFETY: as this function.
    unsafe { simd_int8::run::<Simd128, 4, 4, 2>(job, panels) }
}
