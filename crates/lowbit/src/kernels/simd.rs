//! One loop, compiled once per instruction set and chosen at run time.
//!
//! The bodies are plain loops over fixed-size arrays, which the compiler turns into vectors of
//! whatever width a copy is compiled for; there are no intrinsics to keep in step.

/// `a · b + c`: one rounding where the host has an instruction for it, two elsewhere.
///
/// Without such an instruction `mul_add` is a slow library call, so it is chosen at compile time.
#[inline(always)]
pub(crate) fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Declares a function that runs `$scalar` on `Isa::Scalar`, and `$body::<FUSED, LANES>` compiled
/// for the instruction set that its first argument names otherwise.
///
/// `FUSED`: multiply and add in one instruction. `LANES`: how many floats two vectors hold.
macro_rules! per_isa {
    (
        $(#[$meta:meta])*
        fn $name:ident($($arg:ident: $ty:ty),* $(,)?) { scalar: $scalar:path, body: $body:ident }
    ) => {
        $(#[$meta])*
        pub(super) fn $name(isa: $crate::cpu::Isa, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) {
                $body::<true, 16>($($arg),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
            fn avx512($($arg: $ty),*) {
                $body::<true, 32>($($arg),*);
            }
            match isa {
                $crate::cpu::Isa::Scalar => $scalar($($arg),*),
                // SAFETY: a `Cpu` only carries an instruction set that this host was seen to have.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::Isa::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::Isa::Avx512 => unsafe { avx512($($arg),*) },
                _ => $body::<{ cfg!(target_arch = "aarch64") }, 16>($($arg),*),
            }
        }
    };
}
pub(crate) use per_isa;
