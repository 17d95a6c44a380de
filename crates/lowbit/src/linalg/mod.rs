//! Linear algebra that GPTQ needs: a Cholesky factor and the tile product below it.
//!
//! Own code rather than a library: bytes must not depend on the number of threads, the kernels
//! must follow the `Isa` that the caller chose and a journal recorded, it must run on wasm, and
//! long factorizations must stop every tenth of a second. About 250 lines; faer and nalgebra
//! give the first or the last of these but not all.

pub(crate) mod cholesky;
mod cholesky_f64;
pub(crate) mod simd;

pub use cholesky::{Cholesky, NotPositive};
pub use cholesky_f64::CholeskyF64;

/// Floats that one step of the tile product handles side by side.
pub(crate) const LANES: usize = 16;

/// `LANES` values that belong to the same index of different rows.
pub(crate) type Lanes = [f32; LANES];

/// Longest run of products that one call of `product` sums; callers cut at multiples of it, so
/// that sums are rounded in the same places everywhere.
pub(crate) const DEPTH: usize = 128;

/// `a · b + c`, fused when the instruction set has it.
#[inline(always)]
pub(crate) fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `acc[m][l] += Σ_k a[k][m] · b[k][l]`, each sum in the order of k.
///
/// The order does not depend on the width of the registers, so instruction sets with fused
/// multiply-add agree bit for bit.
#[inline(always)]
pub(crate) fn product<const FMA: bool, const M: usize>(
    a: &[[f32; M]],
    b: &[Lanes],
    acc: &mut [Lanes; M],
) {
    let mut sums = *acc;
    for (a, b) in a.iter().zip(b) {
        for (sum, a) in sums.iter_mut().zip(a) {
            for (s, b) in sum.iter_mut().zip(b) {
                *s = multiply_add::<FMA>(*a, *b, *s);
            }
        }
    }
    *acc = sums;
}

/// `to += from` for as many values as `to` has.
#[inline(always)]
pub(crate) fn add(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}
