//! Blocks as quantized matrices, where the matrix gives exactly the floats that the blocks give.
//!
//! | types | codes | scales | zero |
//! |---|---|---|---|
//! | Q4_0, Q5_0, Q8_0 | integers | one half per 32 | centre |
//! | Q4_1, Q5_1 | integers | one half per 32 | minimum |
//! | Q2_K, Q4_K, Q5_K | integers | half per super-block times small integers | minimum |
//! | Q3_K, Q6_K | integers | f32 per 16, the exact product of a half and an integer | centre |
//! | TQ1_0, TQ2_0 | 2-bit integers | one half per 256 | integer 1 |
//! | IQ4_NL, IQ4_XS, MXFP4 | table | half or exact f32 per 32 | |

use super::decode::{
    codes_32, codes_k32, codes_q3, codes_q6, pairs, scales_and_mins, scales_iq4, six_bits, trits,
};
use super::encode_32::IQ4;
use super::encode_plain::{MXFP4, mxfp4_scale};
use super::types::Type;
use crate::error::{Code, Error, Result};
use crate::matrix::{Codes, Floats, Integer, QuantizedMatrix, Scales, Table, Values, Zero};
use crate::pack;
use half::f16;

/// What the blocks of a matrix are taken apart into; scales and minima per group.
#[derive(Default)]
struct Parts {
    codes: Vec<u8>,
    halves: Vec<u16>,
    floats: Vec<f32>,
    inner: Vec<u8>,
    min_halves: Vec<u16>,
    min_floats: Vec<f32>,
}

fn half_bits(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_bits(half_bits(block, at)).to_f32()
}

/// How the matrix of a type is put together.
struct Form {
    name: &'static str,
    bits: u8,
    group: usize,
    kind: Kind,
    take: fn(&[u8], &mut Parts),
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Centre,
    Min,
    Super,
    Products,
    Ternary,
    Table(&'static [i8; 16], bool),
}

const fn form(
    name: &'static str,
    bits: u8,
    group: usize,
    kind: Kind,
    take: fn(&[u8], &mut Parts),
) -> Form {
    Form {
        name,
        bits,
        group,
        kind,
        take,
    }
}

static FORMS: &[Form] = &[
    form("Q4_0", 4, 32, Kind::Centre, |b, p| legacy(b, p, 2, false)),
    form("Q4_1", 4, 32, Kind::Min, |b, p| legacy(b, p, 4, false)),
    form("Q5_0", 5, 32, Kind::Centre, |b, p| legacy(b, p, 2, true)),
    form("Q5_1", 5, 32, Kind::Min, |b, p| legacy(b, p, 4, true)),
    form("Q8_0", 8, 32, Kind::Centre, |b, p| {
        p.halves.push(half_bits(b, 0));
        p.codes.extend(b[2..].iter().map(|q| q ^ 0x80));
    }),
    form("Q2_K", 2, 16, Kind::Super, |b, p| {
        p.codes.extend(pairs(&b[16..80]));
        let inner = b[..16].iter().map(|s| s & 15);
        let mins = b[..16].iter().map(|s| s >> 4);
        super_block(p, (half_bits(b, 80), half_at(b, 82)), inner, mins);
    }),
    form("Q3_K", 3, 16, Kind::Products, |b, p| {
        p.codes.extend(codes_q3(b));
        let scales = six_bits(&b[96..108]).map(|s| f32::from(s) - 32.0);
        p.floats.extend(scales.map(|s| half_at(b, 108) * s));
    }),
    form("Q4_K", 4, 32, Kind::Super, |b, p| k32(b, p, false)),
    form("Q5_K", 5, 32, Kind::Super, |b, p| k32(b, p, true)),
    form("Q6_K", 6, 16, Kind::Products, |b, p| {
        p.codes.extend(codes_q6(b));
        let scales = b[192..208].iter().map(|s| f32::from(s.cast_signed()));
        p.floats.extend(scales.map(|s| half_at(b, 208) * s));
    }),
    form("TQ1_0", 2, 256, Kind::Ternary, |b, p| {
        p.codes.extend(trits(b));
        p.halves.push(half_bits(b, 52));
    }),
    form("TQ2_0", 2, 256, Kind::Ternary, |b, p| {
        p.codes.extend(pairs(&b[..64]));
        p.halves.push(half_bits(b, 64));
    }),
    form("IQ4_NL", 4, 32, Kind::Table(&IQ4, true), |b, p| {
        p.codes.extend(codes_32(&b[2..], None));
        p.halves.push(half_bits(b, 0));
    }),
    form("IQ4_XS", 4, 32, Kind::Table(&IQ4, false), |b, p| {
        b[8..]
            .chunks_exact(16)
            .for_each(|q| p.codes.extend(codes_32(q, None)));
        let scales = scales_iq4(b).map(|s| f32::from(s) - 32.0);
        p.floats.extend(scales.map(|s| half_at(b, 0) * s));
    }),
    form("MXFP4", 4, 32, Kind::Table(&MXFP4, false), |b, p| {
        p.codes.extend(codes_32(&b[1..], None));
        p.floats.push(mxfp4_scale(b[0]));
    }),
];

fn legacy(b: &[u8], p: &mut Parts, start: usize, five: bool) {
    let (fifth, nibbles) = b[start..].split_at(if five { 4 } else { 0 });
    p.codes.extend(codes_32(nibbles, five.then_some(fifth)));
    p.halves.push(half_bits(b, 0));
    if start == 4 {
        // The file adds its minimum, the matrix takes its own away: only the sign differs.
        p.min_halves.push(half_bits(b, 2) ^ 0x8000);
    }
}

fn k32(b: &[u8], p: &mut Parts, five: bool) {
    let (fifth, low) = b[16..].split_at(if five { 32 } else { 0 });
    p.codes.extend(codes_k32(low, five.then_some(fifth)));
    let (scales, mins) = scales_and_mins(&b[4..16]);
    super_block(p, (half_bits(b, 0), half_at(b, 2)), scales, mins);
}

fn super_block(
    p: &mut Parts,
    (d, dmin): (u16, f32),
    inner: impl IntoIterator<Item = u8>,
    mins: impl IntoIterator<Item = u8>,
) {
    p.halves.push(d);
    p.inner.extend(inner);
    p.min_floats
        .extend(mins.into_iter().map(|m| dmin * f32::from(m)));
}

/// Whether the GPU multiplies matrices of a type: integers around a centre or an integer zero.
pub fn has_shader(ty: &Type) -> bool {
    FORMS
        .iter()
        .find(|f| f.name == ty.name)
        .is_some_and(|form| {
            let kinds = [Kind::Centre, Kind::Products, Kind::Ternary];
            kinds.contains(&form.kind)
        })
}

/// Bits of the codes in a type's quantized matrix; none where `matrix` gives none.
pub fn bits(ty: &Type) -> Option<u8> {
    let form = FORMS.iter().find(|f| f.name == ty.name);
    form.map(|f| f.bits)
}

/// The blocks of a matrix of `cols` columns as a quantized matrix, nothing for types of floats and
/// those whose codes stand for several values.
///
/// `unsupported` for types that are not read here, `block` and `shape` when rows or bytes do not
/// fit, `qparam` when a scale is not finite.
pub fn matrix(ty: &Type, blocks: &[u8], cols: usize) -> Result<Option<QuantizedMatrix>> {
    let row_bytes = ty.row_bytes(cols)?;
    let Some(codec) = &ty.codec else {
        let what = format!("blocks of {} are not read here", ty.name);
        return Err(Error::new(Code::Unsupported, what));
    };
    let Some(form) = FORMS.iter().find(|f| f.name == ty.name) else {
        return Ok(None);
    };
    if row_bytes == 0 || !blocks.len().is_multiple_of(row_bytes) {
        let what = format!("{} bytes are no whole rows of {row_bytes}", blocks.len());
        return Err(Error::new(Code::Shape, what));
    }
    if !codec.finite(ty, blocks) {
        let what = format!("a scale of {} is not finite", ty.name);
        return Err(Error::new(Code::Qparam, what).remedy("download the file again"));
    }
    let mut parts = Parts::default();
    for block in blocks.chunks_exact(ty.bytes) {
        (form.take)(block, &mut parts);
    }
    let rows = blocks.len() / row_bytes;
    Ok(Some(QuantizedMatrix {
        rows,
        cols,
        values: values(form, parts, cols, ty.block),
        inputs: None,
    }))
}

fn values(form: &Form, parts: Parts, cols: usize, block: usize) -> Values {
    let row_words = pack::words_len(cols, form.bits);
    let mut words = vec![0; parts.codes.len() / cols * row_words];
    let rows = parts.codes.chunks_exact(cols);
    for (codes, words) in rows.zip(words.chunks_exact_mut(row_words)) {
        pack::pack(codes, form.bits, words);
    }
    let codes = Codes {
        bits: form.bits,
        row_words,
        words,
    };
    let flat_halves = |halves| Scales::Flat(Floats::F16(halves));
    let (scales, zero) = match form.kind {
        Kind::Table(values, halves) => {
            return Values::Table(Table {
                codes,
                values: values.iter().map(|v| f32::from(*v)).collect(),
                group: form.group,
                scales: if halves {
                    flat_halves(parts.halves)
                } else {
                    Scales::Flat(Floats::F32(parts.floats))
                },
            });
        }
        Kind::Centre => (flat_halves(parts.halves), Zero::Centre),
        Kind::Min => (
            flat_halves(parts.halves),
            Zero::Min(Floats::F16(parts.min_halves)),
        ),
        Kind::Products => (Scales::Flat(Floats::F32(parts.floats)), Zero::Centre),
        Kind::Ternary => {
            let ones = vec![1; parts.halves.len()];
            (flat_halves(parts.halves), Zero::Int(ones))
        }
        Kind::Super => {
            let scales = Scales::Super {
                outer: Floats::F16(parts.halves),
                inner: parts.inner,
                per: block / form.group,
            };
            (scales, Zero::Min(Floats::F32(parts.min_floats)))
        }
    };
    Values::Integer(Integer {
        codes,
        group: form.group,
        scales,
        zero,
        group_of_col: None,
    })
}
