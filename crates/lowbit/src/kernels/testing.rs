//! What conformance tests share: hosts to run on and seeded values.

use crate::cpu::{Cpu, Isa};

/// One thread and two threads of every instruction set that this host has, but the scalar one.
pub(crate) fn each_isa() -> Vec<Cpu> {
    let isas = Isa::ALL.iter().map(|(_, isa)| *isa);
    let usable = isas.filter(|isa| *isa != Isa::Scalar && isa.available());
    usable
        .flat_map(|isa| [1, 2].map(|threads| Cpu::new(isa, threads).expect("a small pool starts")))
        .collect()
}

/// `n` values in `−size..size`, the same for the same seed (SplitMix64).
pub(crate) fn random(seed: u64, n: usize, size: f32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) >> 40
    };
    (0..n)
        .map(|_| (next() as f32 / 8_388_608.0 - 1.0) * size)
        .collect()
}
