//! Blocks to floats, in the order of ggml's arithmetic, so that the floats are the same bits.
//!
//! Each function takes whole blocks and writes all their values.

use super::encode_32::IQ4;
use super::encode_plain::{MXFP4, TQ1_RUNS, mxfp4_scale};
use half::{bf16, f16};

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Runs `decode(block, values)` over blocks of `bytes` bytes and `N` values.
fn each<const N: usize>(
    bytes: usize,
    blocks: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8], &mut [f32; N]),
) {
    for (block, out) in blocks.chunks_exact(bytes).zip(out.as_chunks_mut::<N>().0) {
        decode(block, out);
    }
}

pub(super) fn f32(blocks: &[u8], out: &mut [f32]) {
    for (o, b) in out.iter_mut().zip(blocks.as_chunks::<4>().0) {
        *o = f32::from_le_bytes(*b);
    }
}

pub(super) fn f16(blocks: &[u8], out: &mut [f32]) {
    for (o, b) in out.iter_mut().zip(blocks.as_chunks::<2>().0) {
        *o = f16::from_le_bytes(*b).to_f32();
    }
}

pub(super) fn bf16(blocks: &[u8], out: &mut [f32]) {
    for (o, b) in out.iter_mut().zip(blocks.as_chunks::<2>().0) {
        *o = bf16::from_le_bytes(*b).to_f32();
    }
}

/// Codes of a block of 32 from nibbles and, if given, fifth bits.
pub(super) fn codes_32(nibbles: &[u8], fifth: Option<&[u8]>) -> [u8; 32] {
    std::array::from_fn(|i| {
        let low = nibbles[i % 16] >> (4 * (i / 16)) & 15;
        low | fifth.map_or(0, |f| (f[i / 8] >> (i % 8) & 1) << 4)
    })
}

fn legacy(blocks: &[u8], out: &mut [f32], bytes: usize, five: bool, min: bool) {
    each::<32>(bytes, blocks, out, |b, out| {
        let d = half_at(b, 0);
        let start = if min { 4 } else { 2 };
        let (fifth, nibbles) = b[start..].split_at(if five { 4 } else { 0 });
        let codes = codes_32(nibbles, five.then_some(fifth));
        for (o, q) in out.iter_mut().zip(codes) {
            *o = if min {
                f32::from(q) * d + half_at(b, 2)
            } else {
                (f32::from(q) - if five { 16.0 } else { 8.0 }) * d
            };
        }
    });
}

pub(super) fn q4_0(blocks: &[u8], out: &mut [f32]) {
    legacy(blocks, out, 18, false, false);
}

pub(super) fn q4_1(blocks: &[u8], out: &mut [f32]) {
    legacy(blocks, out, 20, false, true);
}

pub(super) fn q5_0(blocks: &[u8], out: &mut [f32]) {
    legacy(blocks, out, 22, true, false);
}

pub(super) fn q5_1(blocks: &[u8], out: &mut [f32]) {
    legacy(blocks, out, 24, true, true);
}

pub(super) fn q8_0(blocks: &[u8], out: &mut [f32]) {
    each::<32>(34, blocks, out, |b, out| {
        let d = half_at(b, 0);
        for (o, q) in out.iter_mut().zip(&b[2..]) {
            *o = f32::from(q.cast_signed()) * d;
        }
    });
}

/// Two-bit codes: byte l of each half holds values l, l+32, l+64 and l+96 of it.
pub(super) fn pairs(bytes: &[u8]) -> [u8; 256] {
    std::array::from_fn(|i| bytes[32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32)) & 3)
}

/// Six-bit scales of Q3_K, from 0.
pub(super) fn six_bits(bytes: &[u8]) -> [u8; 16] {
    std::array::from_fn(|j| {
        let low = bytes[j % 8] >> (4 * (j / 8)) & 15;
        low | (bytes[8 + j % 4] >> (2 * (j / 4)) & 3) << 4
    })
}

/// Six-bit scales and minima of Q4_K and Q5_K.
pub(super) fn scales_and_mins(s: &[u8]) -> ([u8; 8], [u8; 8]) {
    let scale = |j: usize| {
        if j < 4 {
            s[j] & 63
        } else {
            s[j + 4] & 15 | s[j - 4] >> 6 << 4
        }
    };
    let min = |j: usize| {
        if j < 4 {
            s[j + 4] & 63
        } else {
            s[j + 4] >> 4 | s[j] >> 6 << 4
        }
    };
    (std::array::from_fn(scale), std::array::from_fn(min))
}

/// Codes of Q4_K and, with a plane of fifth bits, Q5_K.
pub(super) fn codes_k32(low: &[u8], fifth: Option<&[u8]>) -> [u8; 256] {
    std::array::from_fn(|i| {
        let (run, l) = (i / 32, i % 32);
        let code = low[32 * (run / 2) + l] >> (4 * (run % 2)) & 15;
        code | fifth.map_or(0, |f| (f[l] >> run & 1) << 4)
    })
}

/// Codes of Q6_K, from 0.
pub(super) fn codes_q6(b: &[u8]) -> [u8; 256] {
    std::array::from_fn(|i| {
        let (h, k, l) = (i / 128, i % 128 / 32, i % 32);
        let low = b[64 * h + 32 * (k % 2) + l] >> (4 * (k / 2)) & 15;
        low | (b[128 + 32 * h + l] >> (2 * k) & 3) << 4
    })
}

/// Codes of Q3_K, from 0.
pub(super) fn codes_q3(b: &[u8]) -> [u8; 256] {
    let mut codes = pairs(&b[32..96]);
    for (i, code) in codes.iter_mut().enumerate() {
        *code |= (b[i % 32] >> (i / 32) & 1) << 2;
    }
    codes
}

pub(super) fn q2_k(blocks: &[u8], out: &mut [f32]) {
    each::<256>(84, blocks, out, |b, out| {
        let (d, min) = (half_at(b, 80), half_at(b, 82));
        let codes = pairs(&b[16..80]);
        for (i, o) in out.iter_mut().enumerate() {
            let s = b[i / 16];
            *o = d * f32::from(s & 15) * f32::from(codes[i]) - min * f32::from(s >> 4);
        }
    });
}

pub(super) fn q3_k(blocks: &[u8], out: &mut [f32]) {
    each::<256>(110, blocks, out, |b, out| {
        let d = half_at(b, 108);
        let (scales, codes) = (six_bits(&b[96..108]), codes_q3(b));
        for (i, o) in out.iter_mut().enumerate() {
            let scale = d * (f32::from(scales[i / 16]) - 32.0);
            *o = scale * (f32::from(codes[i]) - 4.0);
        }
    });
}

fn k32(blocks: &[u8], out: &mut [f32], five: bool) {
    each::<256>(if five { 176 } else { 144 }, blocks, out, |b, out| {
        let (d, min) = (half_at(b, 0), half_at(b, 2));
        let (scales, mins) = scales_and_mins(&b[4..16]);
        let (fifth, low) = b[16..].split_at(if five { 32 } else { 0 });
        let codes = codes_k32(low, five.then_some(fifth));
        for (i, o) in out.iter_mut().enumerate() {
            let (s, m) = (f32::from(scales[i / 32]), f32::from(mins[i / 32]));
            *o = d * s * f32::from(codes[i]) - min * m;
        }
    });
}

pub(super) fn q4_k(blocks: &[u8], out: &mut [f32]) {
    k32(blocks, out, false);
}

pub(super) fn q5_k(blocks: &[u8], out: &mut [f32]) {
    k32(blocks, out, true);
}

pub(super) fn q6_k(blocks: &[u8], out: &mut [f32]) {
    each::<256>(210, blocks, out, |b, out| {
        let d = half_at(b, 208);
        let codes = codes_q6(b);
        for (i, o) in out.iter_mut().enumerate() {
            let scale = d * f32::from(b[192 + i / 16].cast_signed());
            *o = scale * (f32::from(codes[i]) - 32.0);
        }
    });
}

pub(super) fn iq4_nl(blocks: &[u8], out: &mut [f32]) {
    each::<32>(18, blocks, out, |b, out| {
        let d = half_at(b, 0);
        for (o, q) in out.iter_mut().zip(codes_32(&b[2..], None)) {
            *o = d * f32::from(IQ4[usize::from(q)]);
        }
    });
}

/// Six-bit scales of IQ4_XS, from 0.
pub(super) fn scales_iq4(b: &[u8]) -> [u8; 8] {
    std::array::from_fn(|j| {
        let low = b[4 + j / 2] >> (4 * (j % 2)) & 15;
        low | (b[2 + j / 4] >> (2 * (j % 4)) & 3) << 4
    })
}

pub(super) fn iq4_xs(blocks: &[u8], out: &mut [f32]) {
    each::<256>(136, blocks, out, |b, out| {
        let (d, scales) = (half_at(b, 0), scales_iq4(b));
        for (j, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let scale = d * (f32::from(scales[j]) - 32.0);
            for (o, q) in out.iter_mut().zip(codes_32(&b[8 + 16 * j..][..16], None)) {
                *o = scale * f32::from(IQ4[usize::from(q)]);
            }
        }
    });
}

/// Trits of TQ1_0: 0, 1 and 2.
pub(super) fn trits(b: &[u8]) -> [u8; 256] {
    let mut out = [0; 256];
    let mut at = 0;
    for (first, bytes, count) in TQ1_RUNS {
        for m in 0..bytes {
            let mut rest = b[at];
            for k in 0..count {
                out[first + m + k * bytes] = ((u16::from(rest) * 3) >> 8) as u8;
                rest = rest.wrapping_mul(3);
            }
            at += 1;
        }
    }
    out
}

fn ternary(out: &mut [f32; 256], trits: [u8; 256], d: f32) {
    for (o, q) in out.iter_mut().zip(trits) {
        *o = (f32::from(q) - 1.0) * d;
    }
}

pub(super) fn tq1_0(blocks: &[u8], out: &mut [f32]) {
    each::<256>(54, blocks, out, |b, out| {
        ternary(out, trits(b), half_at(b, 52));
    });
}

pub(super) fn tq2_0(blocks: &[u8], out: &mut [f32]) {
    each::<256>(66, blocks, out, |b, out| {
        ternary(out, pairs(&b[..64]), half_at(b, 64));
    });
}

pub(super) fn mxfp4(blocks: &[u8], out: &mut [f32]) {
    each::<32>(17, blocks, out, |b, out| {
        let d = mxfp4_scale(b[0]);
        for (o, q) in out.iter_mut().zip(codes_32(&b[1..], None)) {
            *o = f32::from(MXFP4[usize::from(q)]) * d;
        }
    });
}
