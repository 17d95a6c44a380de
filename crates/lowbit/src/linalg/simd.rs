//! Runs plain loops compiled for the caller's instruction set.

use crate::cpu::Isa;

/// Loops that are compiled once per instruction set.
pub(crate) trait Task {
    /// What the loops give.
    type Out;

    /// The loops; `FMA` says that `mul_add` is one instruction, `M` how many rows of `LANES`
    /// sums fit the registers.
    fn run<const FMA: bool, const M: usize>(self) -> Self::Out;
}

/// Runs `task` with the instructions of `isa`, or without any when the host lacks them.
pub(crate) fn dispatch<T: Task>(isa: Isa, task: T) -> T::Out {
    #[cfg(target_arch = "x86_64")]
    {
        if isa == Isa::Avx512 && isa.available() {
            // SAFETY: the host has every feature that `avx512` enables.
            return unsafe { avx512(task) };
        }
        if isa == Isa::Avx2 && isa.available() {
            // SAFETY: the host has every feature that `avx2` enables.
            return unsafe { avx2(task) };
        }
    }
    if cfg!(target_arch = "aarch64") && isa == Isa::Neon {
        return task.run::<true, 4>();
    }
    task.run::<false, 4>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma")]
fn avx512<T: Task>(task: T) -> T::Out {
    task.run::<true, 4>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<T: Task>(task: T) -> T::Out {
    task.run::<true, 4>()
}
