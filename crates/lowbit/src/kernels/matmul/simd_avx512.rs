//! x86-64 with AVX-512 F, BW, VL and VNNI: 16 lanes.

use super::gemm::Gemm;
use super::simd::{E4M3_SCALE, Simd, methods};
use super::simd_gemv::{self, Gemv};
use super::simd_int8::{self, Job};
use super::{panel, simd_gemm};
#[allow(clippy::wildcard_imports, reason = "intrinsics carry their own prefix")]
use std::arch::x86_64::*;
use std::ops::Range;

/// The machine.
#[derive(Debug, Clone, Copy)]
struct Avx512;

impl Simd for Avx512 {
    const LANES: usize = panel::ROWS;
    const BIAS8: i32 = 0;
    type F = __m512;
    type I = __m512i;
    type Quad = __m512i;
    type Table = __m512;

    #[inline(always)]
    fn prefetch(line: *const u8) {
        // SAFETY: prefetching reads nothing and cannot fault; SSE belongs to every x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
    }

    methods! {
        splat(v: f32) -> __m512 = _mm512_set1_ps(v);
        load(p: *const f32) -> __m512 = _mm512_loadu_ps(p);
        load_f16(p: *const u16) -> __m512 = _mm512_cvtph_ps(_mm256_loadu_si256(p.cast()));
        load_bf16(p: *const u16) -> __m512 = {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        };
        store(p: *mut f32, v: __m512) -> () = _mm512_storeu_ps(p, v);
        add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        float(v: __m512i) -> __m512 = _mm512_cvtepi32_ps(v);
        splat_i(v: i32) -> __m512i = _mm512_set1_epi32(v);
        load_words(p: *const u32) -> __m512i = _mm512_loadu_si512(p.cast());
        load_bytes(p: *const u8) -> __m512i = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()));
        mul_i(a: __m512i, b: __m512i) -> __m512i = _mm512_mullo_epi32(a, b);
        add_i(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi32(a, b);
        // The permutation looks at the lowest four bits only: a table of 0.0 to 15.0 takes the
        // place of a mask and a conversion.
        nibble(v: __m512i, shift: u32) -> __m512 = {
            let table = _mm512_setr_ps(
                0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0,
            );
            _mm512_permutexvar_ps(_mm512_srlv_epi32(v, _mm512_set1_epi32(shift as i32)), table)
        };
        byte(v: __m512i, shift: u32) -> __m512 = {
            let byte = _mm512_srlv_epi32(v, _mm512_set1_epi32(shift as i32));
            _mm512_cvtepi32_ps(_mm512_and_si512(byte, _mm512_set1_epi32(255)))
        };
        table(p: *const f32) -> __m512 = _mm512_loadu_ps(p);
        look_up(table: __m512, v: __m512i, shift: u32) -> __m512 =
            _mm512_permutexvar_ps(_mm512_srlv_epi32(v, _mm512_set1_epi32(shift as i32)), table);
        e4m3(v: __m512i, shift: u32) -> __m512 = {
            let code = _mm512_srlv_epi32(v, _mm512_set1_epi32(shift as i32));
            let magnitude = _mm512_and_si512(code, _mm512_set1_epi32(0x7f));
            let scaled = _mm512_castsi512_ps(_mm512_slli_epi32::<20>(magnitude));
            let value = _mm512_mul_ps(scaled, _mm512_set1_ps(E4M3_SCALE));
            let sign = _mm512_slli_epi32::<24>(_mm512_and_si512(code, _mm512_set1_epi32(0x80)));
            _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(value), sign))
        };
        quad(p: *const i8) -> __m512i = _mm512_set1_epi32(p.cast::<i32>().read_unaligned());
        dot4(acc: __m512i, codes: __m512i, low: __m512i, high: __m512i) -> __m512i = {
            let mask = _mm512_set1_epi8(15);
            let acc = _mm512_dpbusd_epi32(acc, _mm512_and_si512(codes, mask), low);
            let upper = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), mask);
            _mm512_dpbusd_epi32(acc, upper, high)
        };
        dot8(acc: __m512i, codes: __m512i, x: __m512i) -> __m512i =
            _mm512_dpbusd_epi32(acc, codes, x);
    }
}

/// # Safety
/// The host has the instruction set; otherwise as [`simd_gemv::gemv`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn gemv(job: &Gemv<'_>, panels: Range<usize>) {
    // SAFETY: as this function.
    unsafe { simd_gemv::gemv::<Avx512, 4, 1>(job, panels) }
}

/// # Safety
/// The host has the instruction set; otherwise as [`simd_gemm::gemm`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn gemm(job: &Gemm<'_>, panels: Range<usize>) {
    // SAFETY: as this function.
    unsafe { simd_gemm::gemm::<Avx512, 2, 2, 4, 8, 12>(job, panels) }
}

/// # Safety
/// The host has the instruction set; otherwise as [`simd_int8::run`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn int8(job: &Job<'_>, panels: Range<usize>) {
    // SAFETY: as this function.
    unsafe { simd_int8::run::<Avx512, 4, 1, 3>(job, panels) }
}
