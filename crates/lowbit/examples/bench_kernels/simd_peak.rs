//! What the machine can do at best: multiply-adds in registers, bytes from memory.

use lowbit::Isa;

/// Rounds of the multiply-add loop.
const ROUNDS: usize = 1 << 22;

/// Independent sums of a round, enough to hide the latency of an addition.
const SUMS: usize = 12;

/// Runs the multiply-add loop; gives the floating-point operations it did and a value to keep.
pub(crate) fn multiply_adds(isa: Isa) -> (f64, f32) {
    match isa {
        // SAFETY: the caller runs only what the host has.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512() },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2() },
        _ => plain(),
    }
}

/// The sum of many words: as fast as memory gives them.
pub(crate) fn read(words: &[u64]) -> u64 {
    let mut sums = [0u64; 32];
    for chunk in words.as_chunks::<32>().0 {
        for (s, w) in sums.iter_mut().zip(chunk) {
            *s = s.wrapping_add(*w);
        }
    }
    sums.iter().fold(0, |a, b| a.wrapping_add(*b))
}

fn operations(lanes: usize) -> f64 {
    (ROUNDS * SUMS * lanes * 2) as f64
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512() -> (f64, f32) {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps};
    let (a, b) = (
        _mm512_set1_ps(std::hint::black_box(0.999)),
        _mm512_set1_ps(0.001),
    );
    let mut sums = [b; SUMS];
    for _ in 0..ROUNDS {
        for s in &mut sums {
            *s = _mm512_fmadd_ps(*s, a, b);
        }
    }
    let sum = sums.iter().map(|s| _mm512_reduce_add_ps(*s)).sum();
    (operations(16), sum)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2() -> (f64, f32) {
    use std::arch::x86_64::{_mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps};
    let (a, b) = (
        _mm256_set1_ps(std::hint::black_box(0.999)),
        _mm256_set1_ps(0.001),
    );
    let mut sums = [b; SUMS];
    for _ in 0..ROUNDS {
        for s in &mut sums {
            *s = _mm256_fmadd_ps(*s, a, b);
        }
    }
    (
        operations(8),
        sums.iter().map(|s| _mm256_cvtss_f32(*s)).sum(),
    )
}

fn plain() -> (f64, f32) {
    let (a, b) = (std::hint::black_box(0.999f32), 0.001f32);
    let mut sums = [[b; 4]; SUMS];
    for _ in 0..ROUNDS {
        for s in &mut sums {
            *s = s.map(|s| s * a + b);
        }
    }
    (operations(4), sums.iter().flatten().sum())
}
