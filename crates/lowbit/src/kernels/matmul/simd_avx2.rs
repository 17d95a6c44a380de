//! x86-64 with AVX2, FMA and F16C: 8 lanes; AVX-VNNI's dot product where the host has it.

use super::gemm::Gemm;
use super::simd::{E4M3_SCALE, Simd, methods};
use super::simd_gemm;
use super::simd_gemv::{self, Gemv};
use super::simd_int8::{self, Job};
#[allow(clippy::wildcard_imports, reason = "intrinsics carry their own prefix")]
use std::arch::x86_64::*;
use std::ops::Range;

/// The machine; `VNNI` says that it has AVX-VNNI, which gives the same integers in fewer steps.
#[derive(Debug, Clone, Copy)]
struct Avx2<const VNNI: bool>;

impl<const VNNI: bool> Simd for Avx2<VNNI> {
    const LANES: usize = 8;
    const BIAS8: i32 = 0;
    type F = __m256;
    type I = __m256i;
    type Quad = __m256i;
    type Table = [__m256; 2];

    #[inline(always)]
    fn prefetch(line: *const u8) {
        // SAFETY: prefetching reads nothing and cannot fault; SSE belongs to every x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
    }

    methods! {
        splat(v: f32) -> __m256 = _mm256_set1_ps(v);
        load(p: *const f32) -> __m256 = _mm256_loadu_ps(p);
        load_f16(p: *const u16) -> __m256 = _mm256_cvtph_ps(_mm_loadu_si128(p.cast()));
        load_bf16(p: *const u16) -> __m256 = {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        };
        store(p: *mut f32, v: __m256) -> () = _mm256_storeu_ps(p, v);
        add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        fma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        float(v: __m256i) -> __m256 = _mm256_cvtepi32_ps(v);
        splat_i(v: i32) -> __m256i = _mm256_set1_epi32(v);
        load_words(p: *const u32) -> __m256i = _mm256_loadu_si256(p.cast());
        load_bytes(p: *const u8) -> __m256i = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()));
        mul_i(a: __m256i, b: __m256i) -> __m256i = _mm256_mullo_epi32(a, b);
        add_i(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi32(a, b);
        nibble(v: __m256i, shift: u32) -> __m256 = {
            let code = _mm256_srlv_epi32(v, _mm256_set1_epi32(shift as i32));
            _mm256_cvtepi32_ps(_mm256_and_si256(code, _mm256_set1_epi32(15)))
        };
        byte(v: __m256i, shift: u32) -> __m256 = {
            let code = _mm256_srlv_epi32(v, _mm256_set1_epi32(shift as i32));
            _mm256_cvtepi32_ps(_mm256_and_si256(code, _mm256_set1_epi32(255)))
        };
        table(p: *const f32) -> [__m256; 2] = [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))];
        // The permutation looks at the lowest three bits; the fourth, moved to the sign, chooses.
        look_up(table: [__m256; 2], v: __m256i, shift: u32) -> __m256 = {
            let code = _mm256_srlv_epi32(v, _mm256_set1_epi32(shift as i32));
            let low = _mm256_permutevar8x32_ps(table[0], code);
            let high = _mm256_permutevar8x32_ps(table[1], code);
            _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(code)))
        };
        e4m3(v: __m256i, shift: u32) -> __m256 = {
            let code = _mm256_srlv_epi32(v, _mm256_set1_epi32(shift as i32));
            let magnitude = _mm256_and_si256(code, _mm256_set1_epi32(0x7f));
            let scaled = _mm256_castsi256_ps(_mm256_slli_epi32::<20>(magnitude));
            let value = _mm256_mul_ps(scaled, _mm256_set1_ps(E4M3_SCALE));
            let sign = _mm256_slli_epi32::<24>(_mm256_and_si256(code, _mm256_set1_epi32(0x80)));
            _mm256_or_ps(value, _mm256_castsi256_ps(sign))
        };
        quad(p: *const i8) -> __m256i = _mm256_set1_epi32(p.cast::<i32>().read_unaligned());
        // Nibbles keep pair sums at 2 · 2 · 15 · 127 = 7620, far from what 16 bits saturate at.
        dot4(acc: __m256i, codes: __m256i, low: __m256i, high: __m256i) -> __m256i = {
            let mask = _mm256_set1_epi8(15);
            let lower = _mm256_and_si256(codes, mask);
            let upper = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), mask);
            if VNNI {
                _mm256_dpbusd_avx_epi32(_mm256_dpbusd_avx_epi32(acc, lower, low), upper, high)
            } else {
                let pairs = _mm256_add_epi16(
                    _mm256_maddubs_epi16(lower, low),
                    _mm256_maddubs_epi16(upper, high),
                );
                _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
            }
        };
        // Bytes up to 255 would saturate in `maddubs`: even and odd ones are widened instead.
        dot8(acc: __m256i, codes: __m256i, x: __m256i) -> __m256i = {
            if VNNI {
                _mm256_dpbusd_avx_epi32(acc, codes, x)
            } else {
                let even = _mm256_and_si256(codes, _mm256_set1_epi16(255));
                let x_even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x));
                let acc = _mm256_add_epi32(acc, _mm256_madd_epi16(even, x_even));
                let odd = _mm256_srli_epi16::<8>(codes);
                _mm256_add_epi32(acc, _mm256_madd_epi16(odd, _mm256_srai_epi16::<8>(x)))
            }
        };
    }
}

/// # Safety
/// The host has the instruction set; otherwise as [`simd_gemv::gemv`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn gemv(job: &Gemv<'_>, panels: Range<usize>) {
    // SAFETY: as this function.
    unsafe { simd_gemv::gemv::<Avx2<false>, 4, 2>(job, panels) }
}

/// # Safety
/// The host has the instruction set; otherwise as [`simd_gemm::gemm`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn gemm(job: &Gemm<'_>, panels: Range<usize>) {
    // SAFETY: as this function.
    unsafe { simd_gemm::gemm::<Avx2<false>, 2, 1, 2, 4, 6>(job, panels) }
}

/// # Safety
/// The host has the instruction set; otherwise as [`simd_int8::run`].
pub(super) unsafe fn int8(job: &Job<'_>, panels: Range<usize>) {
    // SAFETY: the host has what each copy needs.
    unsafe {
        if is_x86_feature_detected!("avxvnni") {
            int8_vnni(job, panels);
        } else {
            int8_plain(job, panels);
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
unsafe fn int8_vnni(job: &Job<'_>, panels: Range<usize>) {
    // SAFETY: as `int8`.
    unsafe { simd_int8::run::<Avx2<true>, 2, 2, 3>(job, panels) }
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn int8_plain(job: &Job<'_>, panels: Range<usize>) {
    // SAFETY: as `int8`.
    unsafe { simd_int8::run::<Avx2<false>, 2, 2, 3>(job, panels) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;
    use crate::kernels::shapes::Random;

    /// Both products of one vector of codes with four (eight) inputs.
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn plain(codes: &[u32; 8], x: [i8; 8]) -> [[i32; 8]; 2] {
        // SAFETY: the caller has AVX2.
        unsafe { dots::<false>(codes, x) }
    }

    #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
    unsafe fn vnni(codes: &[u32; 8], x: [i8; 8]) -> [[i32; 8]; 2] {
        // SAFETY: the caller has AVX-VNNI.
        unsafe { dots::<true>(codes, x) }
    }

    #[inline(always)]
    unsafe fn dots<const VNNI: bool>(codes: &[u32; 8], x: [i8; 8]) -> [[i32; 8]; 2] {
        let mut out = [[0; 8]; 2];
        // SAFETY: the caller has the instruction set; arrays are as long as vectors.
        unsafe {
            let (c, zero) = (
                Avx2::<VNNI>::load_words(codes.as_ptr()),
                Avx2::<VNNI>::splat_i(0),
            );
            let low = Avx2::<VNNI>::quad(x.as_ptr());
            let high = Avx2::<VNNI>::quad(x[4..].as_ptr());
            let four = Avx2::<VNNI>::dot4(zero, c, low, high);
            let eight = Avx2::<VNNI>::dot8(zero, c, low);
            _mm256_storeu_si256(out[0].as_mut_ptr().cast(), four);
            _mm256_storeu_si256(out[1].as_mut_ptr().cast(), eight);
        }
        out
    }

    fn expected(codes: &[u32; 8], x: [i8; 8]) -> [[i32; 8]; 2] {
        let byte = |w: u32, b: usize| (w >> (8 * b) & 255) as i32;
        let x = x.map(i32::from);
        [
            codes.map(|w| {
                (0..4)
                    .map(|b| (byte(w, b) & 15) * x[b] + (byte(w, b) >> 4) * x[4 + b])
                    .sum()
            }),
            codes.map(|w| (0..4).map(|b| byte(w, b) * x[b]).sum()),
        ]
    }

    #[test]
    fn dot_products_are_exact_with_and_without_vnni() {
        if !Isa::Avx2.available() {
            return;
        }
        let mut random = Random(6);
        for turn in 0..1000 {
            let codes = [0; 8].map(|_: u32| {
                if turn % 3 == 0 {
                    u32::MAX
                } else {
                    random.bits()
                }
            });
            let x = [0; 8].map(|_: i8| match turn % 4 {
                0 => 127,
                1 => -127,
                _ => (random.bits() % 255) as u8 as i8,
            });
            let wanted = expected(&codes, x);
            // SAFETY: checked above and below.
            unsafe {
                assert_eq!(plain(&codes, x), wanted, "{codes:x?} {x:?}");
                if is_x86_feature_detected!("avxvnni") {
                    assert_eq!(vnni(&codes, x), wanted, "{codes:x?} {x:?}");
                }
            }
        }
    }
}
