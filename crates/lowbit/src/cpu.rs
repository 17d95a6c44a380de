//! What the host gives: instruction set and threads. Chosen once by the caller, passed everywhere.

use crate::error::{Code, Error, Result, nearest};

/// How matrix products are computed; the same names everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compute {
    /// Weights are dequantized in registers and summed in f32: the reference.
    F32,
    /// Activations are rounded to 8 bits per group for integer dot products: fast.
    Int8,
}

impl Compute {
    /// Every mode with its name.
    pub const ALL: &[(&'static str, Compute)] = &[("f32", Compute::F32), ("int8", Compute::Int8)];

    /// The mode's name.
    pub fn name(self) -> &'static str {
        match self {
            Compute::F32 => "f32",
            Compute::Int8 => "int8",
        }
    }
}

/// Instruction sets that kernels are written for, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust: the specification.
    Scalar,
    /// WebAssembly 128-bit SIMD.
    Simd128,
    /// 64-bit Arm.
    Neon,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, VL and VNNI.
    Avx512,
}

impl Isa {
    /// Every instruction set with its name.
    pub const ALL: &[(&'static str, Isa)] = &[
        ("scalar", Isa::Scalar),
        ("simd128", Isa::Simd128),
        ("neon", Isa::Neon),
        ("avx2", Isa::Avx2),
        ("avx512", Isa::Avx512),
    ];

    /// The name shown to people and written into journals.
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, i)| *i == self)
            .map_or("scalar", |(n, _)| n)
    }

    /// Whether this host can run it.
    pub fn available(self) -> bool {
        match self {
            Isa::Scalar => true,
            Isa::Simd128 => cfg!(all(target_arch = "wasm32", target_feature = "simd128")),
            Isa::Neon => cfg!(target_arch = "aarch64"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                Isa::Avx2.available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 => false,
        }
    }

    /// The best one that this host can run.
    pub fn detect() -> Isa {
        let mut usable = Self::ALL.iter().map(|(_, i)| *i).filter(|i| i.available());
        usable.next_back().unwrap_or(Isa::Scalar)
    }

    /// Looks one up by name; `option` when unknown, `no-device` when this host lacks it.
    pub fn parse(name: &str) -> Result<Isa> {
        let Some((_, isa)) = Self::ALL.iter().find(|(n, _)| *n == name) else {
            let near = nearest(name, Self::ALL.iter().map(|(n, _)| *n)).unwrap_or("scalar");
            let what = format!("unknown instruction set {name:?}");
            return Err(Error::new(Code::Option, what).remedy(format!("did you mean {near:?}?")));
        };
        if isa.available() {
            Ok(*isa)
        } else {
            let what = format!("this host has no {name}");
            Err(Error::new(Code::NoDevice, what))
        }
    }
}

/// Instruction set and threads for one piece of work.
pub struct Cpu {
    /// The kernels to use.
    pub isa: Isa,
    #[cfg(feature = "parallel")]
    pool: Option<rayon::ThreadPool>,
}

impl std::fmt::Debug for Cpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cpu({}, {} threads)", self.isa.name(), self.threads())
    }
}

impl Cpu {
    /// One thread, best instruction set.
    pub fn single() -> Self {
        Self::with_isa(Isa::detect())
    }

    /// One thread and a given instruction set, which the caller has checked.
    pub fn with_isa(isa: Isa) -> Self {
        assert!(
            isa.available(),
            "{} is not available on this host",
            isa.name()
        );
        Self {
            isa,
            #[cfg(feature = "parallel")]
            pool: None,
        }
    }

    /// `threads` workers; without the `parallel` feature always one.
    pub fn new(isa: Isa, threads: usize) -> Result<Self> {
        let mut cpu = Self::with_isa(isa);
        cpu.start(threads)?;
        Ok(cpu)
    }

    #[cfg(feature = "parallel")]
    fn start(&mut self, threads: usize) -> Result<()> {
        if threads > 1 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            self.pool = Some(pool.map_err(|e| Error::new(Code::Internal, e.to_string()))?);
        }
        Ok(())
    }

    #[cfg(not(feature = "parallel"))]
    #[expect(
        clippy::unnecessary_wraps,
        clippy::unused_self,
        reason = "same shape as with threads"
    )]
    fn start(&mut self, _threads: usize) -> Result<()> {
        Ok(())
    }

    /// How many threads work at once.
    pub fn threads(&self) -> usize {
        #[cfg(feature = "parallel")]
        if let Some(pool) = &self.pool {
            return pool.current_num_threads();
        }
        1
    }

    /// Runs `task(i)` for every `i < count`, in parallel when `parallel` says that it pays.
    ///
    /// Tasks must not share results: each writes its own place, so that the outcome does not
    /// depend on the number of threads.
    pub fn run(&self, count: usize, parallel: bool, task: impl Fn(usize) + Sync + Send) {
        #[cfg(feature = "parallel")]
        if let Some(pool) = self.pool.as_ref().filter(|_| parallel && count > 1) {
            use rayon::prelude::*;
            pool.install(|| (0..count).into_par_iter().with_max_len(1).for_each(&task));
            return;
        }
        let _ = parallel;
        (0..count).for_each(task);
    }

    /// Cuts `out` into chunks of `len` and runs `task(chunk index, chunk)` on each.
    pub fn run_chunks<T: Send>(
        &self,
        out: &mut [T],
        len: usize,
        parallel: bool,
        task: impl Fn(usize, &mut [T]) + Sync + Send,
    ) {
        #[cfg(feature = "parallel")]
        if let Some(pool) = self.pool.as_ref().filter(|_| parallel && out.len() > len) {
            use rayon::prelude::*;
            pool.install(|| {
                let chunks = out.par_chunks_mut(len).enumerate().with_max_len(1);
                chunks.for_each(|(i, c)| task(i, c));
            });
            return;
        }
        let _ = parallel;
        out.chunks_mut(len)
            .enumerate()
            .for_each(|(i, c)| task(i, c));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detect_is_available_and_parse_knows_it() {
        let isa = Isa::detect();
        assert!(isa.available());
        assert_eq!(Isa::parse(isa.name()).unwrap(), isa);
        assert_eq!(Isa::parse("avx3").unwrap_err().code, Code::Option);
    }

    #[test]
    fn chunks_are_all_visited() {
        let mut out = vec![0usize; 103];
        Cpu::new(Isa::Scalar, 2)
            .unwrap()
            .run_chunks(&mut out, 10, true, |i, c| c.fill(i));
        assert_eq!(out[102], 10);
    }
}
