//! 4-bit codes into tables: NF4, FP4, MXFP4, NVFP4, each as its reference tool rounds.
//!
//! ```text
//! NF4, FP4   s = max|w|                      v = w · (1/s), up to the next value above midpoints
//! MXFP4      s = 2^⌊log₂ max|w|⌋ / 4         max|w| counts as the next power of two from 1.75 on
//! NVFP4      s = E4M3(g · max|w|/6) / g      g = 2688 / largest weight of the matrix
//! ```
//! Sources: bitsandbytes 0.50 (`quantize_4bit` on a CPU), compressed-tensors 0.19
//! (`generate_mx_scales`, `generate_gparam`, `calculate_qparams`).

use super::Weights;
use super::nested::nested;
use super::rows::{self, RoundGroup};
use crate::cpu::Cpu;
use crate::error::Result;
use crate::matrix::{Floats, Inputs, QuantizedMatrix, Scales, Table, Values};
use crate::minifloat::{
    E2M1, FP4, NF4, e2m1_from_f32, e4m3_from_f32, f32_from_e4m3, f32_from_e8m0,
};
use crate::scheme::{Element, Scheme};

/// Rounds to a table element; errors as `rtn::round`. Scales have the element's own type.
///
/// `largest` is the largest magnitude under NVFP4's scale for the matrix; that of `weights` without.
pub(super) fn round(
    weights: Weights<'_>,
    scheme: &Scheme,
    largest: Option<f32>,
    cpu: &Cpu,
) -> Result<QuantizedMatrix> {
    let group = scheme.group_cols(weights.cols)?;
    let weights = Weights {
        importance: None,
        ..weights
    };
    let shape = (group, 4);
    let (codes, values, scales) = match scheme.element {
        Element::Mxfp4 => {
            let rounded = rows::round(weights, shape, Mxfp4, cpu)?;
            let exponents = rounded.scales.iter().map(|s| exponent(*s)).collect();
            (rounded.codes, E2M1, Scales::Flat(Floats::E8m0(exponents)))
        }
        Element::Nvfp4 => {
            let divisor = divisor(largest.unwrap_or_else(|| absmax(weights.values)));
            let rounded = rows::round(weights, shape, Nvfp4 { divisor }, cpu)?;
            let bytes = rounded.scales.iter().map(|s| e4m3_from_f32(*s)).collect();
            let values = Floats::E4m3(bytes);
            (rounded.codes, E2M1, Scales::Divided { values, divisor })
        }
        element => {
            let (table, order) = match element {
                Element::Nf4 => (NF4, ASCENDING),
                _ => (FP4, FP4_ASCENDING),
            };
            let rounded = rows::round(weights, shape, Normal::new(&table, order), cpu)?;
            let scales = if scheme.nested {
                Scales::Nested(nested(&rounded.scales))
            } else {
                Scales::Flat(Floats::F32(rounded.scales))
            };
            (rounded.codes, table, scales)
        }
    };
    Ok(QuantizedMatrix {
        rows: weights.rows,
        cols: weights.cols,
        inputs: Inputs::of(scheme),
        values: Values::Table(Table {
            codes,
            values: values.to_vec(),
            group,
            scales,
        }),
    })
}

/// Codes whose values are in order already.
const ASCENDING: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// FP4's codes by ascending value; of the two zeros, 0 comes first.
const FP4_ASCENDING: [u8; 16] = [11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3];

/// The largest magnitude.
#[inline(always)]
pub(super) fn absmax(values: &[f32]) -> f32 {
    let largest = |m: f32, w: &f32| if w.abs() > m { w.abs() } else { m };
    let (chunks, rest) = values.as_chunks::<16>();
    let mut lanes = [0.0f32; 16];
    for chunk in chunks {
        for (m, w) in lanes.iter_mut().zip(chunk) {
            *m = largest(*m, w);
        }
    }
    lanes.iter().chain(rest).fold(0.0, largest)
}

/// NF4 and FP4.
#[derive(Clone, Copy)]
struct Normal {
    /// Midpoints between neighbouring values.
    bounds: [f32; 15],
    /// Codes by ascending value.
    order: [u8; 16],
}

impl Normal {
    fn new(table: &[f32; 16], order: [u8; 16]) -> Self {
        let value = |place: usize| table[usize::from(order[place])];
        Self {
            bounds: std::array::from_fn(|i| f32::midpoint(value(i), value(i + 1))),
            order,
        }
    }
}

impl RoundGroup for Normal {
    #[inline(always)]
    fn round(self, values: &[f32], _importance: &[f32], codes: &mut [u8]) -> (f32, f32) {
        let scale = absmax(values);
        let inverse = 1.0 / scale.max(1.0e-38);
        for (code, w) in codes.iter_mut().zip(values) {
            let v = (w * inverse).clamp(-1.0, 1.0);
            *code = self.bounds.iter().map(|b| u8::from(v > *b)).sum();
        }
        for code in codes {
            *code = self.order[usize::from(*code)];
        }
        (scale, 0.0)
    }
}

#[derive(Clone, Copy)]
struct Mxfp4;

impl RoundGroup for Mxfp4 {
    #[inline(always)]
    fn round(self, values: &[f32], _importance: &[f32], codes: &mut [u8]) -> (f32, f32) {
        // Half a step of the largest values, so that 1.75 and more round up to the next power.
        let power = (absmax(values).to_bits() + (1 << 21)) >> 23;
        let scale = f32_from_e8m0(power.saturating_sub(2) as u8);
        for (code, w) in codes.iter_mut().zip(values) {
            *code = e2m1_from_f32(w / scale);
        }
        (scale, 0.0)
    }
}

/// The E8M0 byte of a power of two.
fn exponent(scale: f32) -> u8 {
    (scale.to_bits() >> 23) as u8
}

/// NVFP4's scale for a matrix: what its E4M3 scales are divided by.
pub(super) fn divisor(largest: f32) -> f32 {
    // A number over a tensor is a product with the reciprocal there.
    let divisor = (1.0 / largest.max(f32::MIN_POSITIVE)) * 2688.0;
    if divisor.is_finite() { divisor } else { 1.0 }
}

#[derive(Clone, Copy)]
struct Nvfp4 {
    divisor: f32,
}

impl RoundGroup for Nvfp4 {
    /// The scale is given as it is stored, before the division.
    #[inline(always)]
    fn round(self, values: &[f32], _importance: &[f32], codes: &mut [u8]) -> (f32, f32) {
        let stored = f32_from_e4m3(e4m3_from_f32(self.divisor * (absmax(values) / 6.0)));
        let stored = if stored == 0.0 { 0.125 } else { stored };
        let scale = stored / self.divisor;
        for (code, w) in codes.iter_mut().zip(values) {
            *code = e2m1_from_f32(w / scale);
        }
        (stored, 0.0)
    }
}
