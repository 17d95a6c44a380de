//! The types whose codes stand for several values at once, from tables: read, not written.
//!
//! ```text
//! IQ2_XXS  d | 8 × (4 indices u8, 4 × 7 sign bits, 4-bit scale)
//! IQ2_XS   d | 32 × (9-bit index, 7 sign bits) | 8 × two 4-bit scales
//! IQ2_S    d | 32 indices | 32 signs | 8 × four 2-bit highs of indices | 8 × two 4-bit scales
//! IQ3_XXS  d | 64 indices | 8 × (4 × 7 sign bits, 4-bit scale)
//! IQ3_S    d | 64 indices | 8 × eight high bits | 32 signs | 4 × two 4-bit scales
//! IQ1_S    d | 32 indices | 8 × (four 3-bit highs, 3-bit scale, sign of the shift)
//! IQ1_M    32 indices | 16 × two of (3-bit high, sign of the shift) | 4 × (12 bits of scales, 4 of d)
//! ```
//! Seven sign bits are completed by an eighth that makes their sum even. The tables lie in
//! `iq_grids.bin` as bits (made by `test/fixtures/make_gguf.py`).

use half::f16;

static GRIDS: &[u8] = include_bytes!("iq_grids.bin");

/// A table: where it begins, values per entry, bits per value, and what the bits stand for.
struct Grid {
    start: usize,
    width: usize,
    bits: usize,
    values: &'static [i8],
}

const TWO: &[i8] = &[0x08, 0x19, 0x2b, 0];
const IQ2_XXS: Grid = grid(0, 8, 2, TWO);
const IQ2_XS: Grid = grid(512, 8, 2, TWO);
const IQ2_S: Grid = grid(1536, 8, 2, TWO);
const IQ3_XXS: Grid = grid(
    3584,
    4,
    4,
    &[0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3e],
);
const IQ3_S: Grid = grid(4096, 4, 4, &[1, 3, 5, 7, 9, 11, 13, 15]);
const IQ1: Grid = grid(5120, 8, 2, &[-1, 0, 1, 0]);

const fn grid(start: usize, width: usize, bits: usize, values: &'static [i8]) -> Grid {
    Grid {
        start,
        width,
        bits,
        values,
    }
}

impl Grid {
    /// Value `j` of entry `index`.
    fn get(&self, index: usize, j: usize) -> f32 {
        let bit = (index * self.width + j) * self.bits;
        let code = GRIDS[self.start + bit / 8] >> (bit % 8) & ((1 << self.bits) - 1);
        f32::from(self.values[usize::from(code) % self.values.len()])
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn word(block: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([block[at], block[at + 1]]))
}

fn double(block: &[u8], at: usize) -> usize {
    word(block, at) | word(block, at + 2) << 16
}

/// Eight sign bits of seven.
fn signs(seven: usize) -> usize {
    let seven = seven & 127;
    seven | (seven.count_ones() as usize & 1) << 7
}

/// Scale times table value, with its sign bit.
fn signed(scale: f32, value: f32, signs: usize, j: usize) -> f32 {
    scale * value * if signs >> j & 1 == 1 { -1.0 } else { 1.0 }
}

/// A nibble of byte `at + i / 2`.
fn nibble(block: &[u8], at: usize, i: usize) -> f32 {
    f32::from(block[at + i / 2] >> (4 * (i % 2)) & 15)
}

/// Runs `value(block, octet, j)` for the 8 values of each of the 32 octets of every block.
fn octets(
    bytes: usize,
    blocks: &[u8],
    out: &mut [f32],
    value: impl Fn(&[u8], usize, usize) -> f32,
) {
    for (block, out) in blocks.chunks_exact(bytes).zip(out.chunks_exact_mut(256)) {
        for (i, o) in out.iter_mut().enumerate() {
            *o = value(block, i / 8, i % 8);
        }
    }
}

pub(super) fn iq2_xxs(blocks: &[u8], out: &mut [f32]) {
    octets(66, blocks, out, |b, o, j| {
        let (run, l) = (2 + o / 4 * 8, o % 4);
        let rest = double(b, run + 4);
        let scale = half_at(b, 0) * (0.5 + (rest >> 28) as f32) * 0.25;
        let value = IQ2_XXS.get(usize::from(b[run + l]), j);
        signed(scale, value, signs(rest >> (7 * l)), j)
    });
}

pub(super) fn iq2_xs(blocks: &[u8], out: &mut [f32]) {
    octets(74, blocks, out, |b, o, j| {
        let entry = word(b, 2 + 2 * o);
        let scale = half_at(b, 0) * (0.5 + nibble(b, 66, o / 2)) * 0.25;
        signed(scale, IQ2_XS.get(entry & 511, j), signs(entry >> 9), j)
    });
}

pub(super) fn iq2_s(blocks: &[u8], out: &mut [f32]) {
    octets(82, blocks, out, |b, o, j| {
        let high = usize::from(b[66 + o / 4]) >> (2 * (o % 4)) & 3;
        let scale = half_at(b, 0) * (0.5 + nibble(b, 74, o / 2)) * 0.25;
        let value = IQ2_S.get(usize::from(b[2 + o]) | high << 8, j);
        signed(scale, value, usize::from(b[34 + o]), j)
    });
}

pub(super) fn iq3_xxs(blocks: &[u8], out: &mut [f32]) {
    octets(98, blocks, out, |b, o, j| {
        let rest = double(b, 66 + o / 4 * 4);
        let scale = half_at(b, 0) * (0.5 + (rest >> 28) as f32) * 0.5;
        let value = IQ3_XXS.get(usize::from(b[2 + 2 * o + j / 4]), j % 4);
        signed(scale, value, signs(rest >> (7 * (o % 4))), j)
    });
}

pub(super) fn iq3_s(blocks: &[u8], out: &mut [f32]) {
    octets(110, blocks, out, |b, o, j| {
        let four = 2 * o + j / 4;
        let high = usize::from(b[66 + four / 8]) >> (four % 8) & 1;
        let scale = half_at(b, 0) * (1.0 + 2.0 * nibble(b, 106, o / 4));
        let value = IQ3_S.get(usize::from(b[2 + four]) | high << 8, j % 4);
        signed(scale, value, usize::from(b[74 + o]), j)
    });
}

/// What IQ1 types add to every value of an octet.
fn shift(negative: bool) -> f32 {
    if negative { -0.125 } else { 0.125 }
}

pub(super) fn iq1_s(blocks: &[u8], out: &mut [f32]) {
    octets(50, blocks, out, |b, o, j| {
        let rest = word(b, 34 + o / 4 * 2);
        let scale = half_at(b, 0) * (2 * (rest >> 12 & 7) + 1) as f32;
        let index = usize::from(b[2 + o]) | (rest >> (3 * (o % 4)) & 7) << 8;
        scale * (IQ1.get(index, j) + shift(rest & 0x8000 != 0))
    });
}

pub(super) fn iq1_m(blocks: &[u8], out: &mut [f32]) {
    octets(56, blocks, out, |b, o, j| {
        let bits = (0..4).fold(0, |d, k| d | (word(b, 48 + 2 * k) >> 12) << (4 * k));
        let d = f16::from_bits(bits as u16).to_f32();
        let rest = usize::from(b[32 + o / 2]) >> (4 * (o % 2));
        let scales = word(b, 48 + o / 8 * 2) >> (3 * (o / 2 % 4));
        let index = usize::from(b[o]) | (rest & 7) << 8;
        d * (2 * (scales & 7) + 1) as f32 * (IQ1.get(index, j) + shift(rest & 8 != 0))
    });
}
