//! `y[m, rows] = x[m, cols] · Wᵀ` for dense and quantized W, and the sums that calibration needs.
//!
//! **Layout.** Rows are taken sixteen at a time, a *panel*, and lie interleaved, so that one vector
//! register holds the same column of neighbouring rows ([`panel`] has the picture). Every
//! instruction set reads this one layout.
//!
//! **f32 mode.** A weight is `fl(s · (q − z))`, the same bits as `QuantizedMatrix::dequantize_row`,
//! made in registers (few inputs) or for one panel and one block of columns (many inputs). Columns
//! are summed in order inside blocks of [`BLOCK`], blocks in order, whatever `m` and the number of
//! threads: a row of `y` has the same bits alone and in a batch. Between instruction sets results
//! differ by rounding; the bound is `|y − ref| ≤ (log₂ cols + 8) · ε · Σ|x·w|` against [`scalar`],
//! which sums in f64.
//!
//! **int8 mode.** Inputs are rounded per group ([`inputs`]), products of a group are summed as
//! integers, groups are combined in order by one multiplication and one addition, never fused; a
//! minimum is taken away times the sum of the group's inputs. The bits are the same on every
//! instruction set and equal to [`scalar`]'s.
//!
//! **Rounded inputs.** A matrix that says how its inputs are rounded ([`crate::matrix::Inputs`])
//! rounds them first, in both modes to the same values ([`activations`]).

pub mod activations;
mod arrange;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod conformance_kinds;
mod gemm;
#[cfg(feature = "gpu")]
pub(crate) mod gpu;
pub mod inputs;
#[cfg(all(feature = "gpu", not(target_arch = "wasm32")))]
pub(crate) mod many;
pub mod panel;
pub mod scalar;
mod simd;
#[cfg(target_arch = "x86_64")]
mod simd_avx2;
#[cfg(target_arch = "x86_64")]
mod simd_avx512;
mod simd_gemm;
mod simd_gemv;
mod simd_int8;
mod simd_machine;
#[cfg(target_arch = "aarch64")]
mod simd_neon;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd_wasm;
mod weight;

pub use weight::{Decode, Dense, PADDING, Packed, Weight, Zeros};

use crate::cpu::{Compute, Cpu, Isa};
use crate::scheme::{Element, Scheme, ZeroPoint};
use gemm::Source;
use std::borrow::Cow;

/// Columns that are summed before the sum is added to the output.
pub const BLOCK: usize = 256;

/// `y[m, rows] = x[m, cols] · Wᵀ`; m is `x.len() / cols`.
pub fn matmul(cpu: &Cpu, x: &[f32], w: &Weight, y: &mut [f32]) {
    let (rows, cols) = (w.rows(), w.cols());
    if cols == 0 || rows == 0 {
        return y.fill(0.0);
    }
    assert_eq!(x.len() % cols, 0, "x holds whole rows of {cols}");
    assert_eq!(y.len(), x.len() / cols * rows, "y is [m, {rows}]");
    let scalar = cpu.isa == Isa::Scalar;
    match w {
        Weight::Dense(w) if scalar => scalar::dense(x, w, y),
        Weight::Dense(w) => gemm::product(cpu, x, cols, Source::Dense(w), rows, y),
        Weight::Packed(w) if w.compute == Compute::Int8 => {
            let x = match &w.inputs {
                Some(own) => activations::round(cpu, x, w, own),
                None => inputs::round(cpu, x, w),
            };
            if scalar {
                scalar::packed_int8(&x, w, y);
            } else {
                gemm::product_int8(cpu, &x, w, y);
            }
        }
        Weight::Packed(w) => {
            let x = match &w.inputs {
                Some(own) => Cow::Owned(activations::fake_quantize(cpu, x, cols, own)),
                None => Cow::Borrowed(x),
            };
            if scalar {
                scalar::packed(&inputs::arrange(&x, w), w, y);
            } else {
                gemm::product_packed(cpu, &x, w, y);
            }
        }
    }
}

/// Whether the GPU multiplies matrices of a scheme: integers with integer zero points for inputs
/// that are left alone.
pub fn has_shader(scheme: &Scheme) -> bool {
    scheme.element == Element::Int
        && scheme.zero != ZeroPoint::Float
        && scheme.activations.is_none()
}

/// Adds `x[m, n]ᵀ · x` into the lower triangle of `h[n, n]`.
///
/// Rows of x are summed in order inside blocks of [`BLOCK`], blocks in order, so that the result
/// does not depend on the number of threads. What lies above the diagonal is kept.
pub fn gram(cpu: &Cpu, x: &[f32], n: usize, h: &mut [f32]) {
    assert!(
        n > 0 && x.len().is_multiple_of(n),
        "x holds whole rows of {n}"
    );
    assert_eq!(h.len(), n * n, "h is [{n}, {n}]");
    match cpu.isa {
        Isa::Scalar => scalar::gram(x, n, h),
        _ => gemm::gram(cpu, x, n, h),
    }
}

/// `c[m, n] −= a[m, k] · b[k, n]`, the trailing update of a blocked elimination.
///
/// `c_stride` is the distance between rows of `c`, so that `c` may be a part of a wider matrix.
pub fn gemm_sub(cpu: &Cpu, a: &[f32], b: &[f32], n: usize, c: &mut [f32], c_stride: usize) {
    if a.is_empty() || b.is_empty() {
        return;
    }
    assert!(b.len().is_multiple_of(n), "b holds whole rows of {n}");
    assert!(a.len().is_multiple_of(b.len() / n), "a holds whole rows");
    match cpu.isa {
        Isa::Scalar => scalar::gemm_sub(a, b, n, c, c_stride),
        _ => gemm::gemm_sub(cpu, a, b, n, c, c_stride),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{Codes, Floats, Integer, QuantizedMatrix, Scales, Values, Zero};
    use crate::pack::{words_from_codes, words_len};
    use crate::tensor::{Dtype, TensorRef, bytes_from_f32};

    #[test]
    fn dense_product_and_row_are_those_of_the_source() {
        let values: Vec<f32> = (0..17 * 5).map(|i| (i % 7) as f32 - 3.0).collect();
        let bytes = bytes_from_f32(Dtype::BF16, &values).unwrap();
        let w = Weight::dense(TensorRef::new(Dtype::BF16, &[17, 5], &bytes).unwrap()).unwrap();
        let x = [1.0, -2.0, 0.5, 3.0, 0.0];
        let mut y = [0.0; 17];
        matmul(&Cpu::single(), &x, &w, &mut y);
        for (r, y) in y.iter().enumerate() {
            let row = &values[r * 5..][..5];
            let mut found = [0.0; 5];
            w.row(r, &mut found).unwrap();
            assert_eq!(found, row);
            let mut stored = [0; 10];
            w.row_bytes(r, &mut stored);
            assert_eq!(stored, bytes[r * 10..][..10]);
            assert_eq!(*y, row.iter().zip(x).map(|(a, b)| a * b).sum::<f32>());
        }
    }

    #[test]
    fn packed_rows_equal_dequantized_rows() {
        let (rows, cols) = (19, 36);
        for bits in [2, 3, 4, 8] {
            let codes: Vec<u8> = (0..rows * cols)
                .map(|i| (i * 7 % (1 << bits)) as u8)
                .collect();
            let words = codes
                .chunks(cols)
                .flat_map(|c| words_from_codes(c, bits))
                .collect();
            let scales: Vec<f32> = (0..rows * 3).map(|i| 0.5 + i as f32).collect();
            let zero = (0..rows * 3).map(|i| (i % (1 << bits)) as u8).collect();
            let matrix = QuantizedMatrix {
                rows,
                cols,
                inputs: None,
                values: Values::Integer(Integer {
                    codes: Codes {
                        bits,
                        row_words: words_len(cols, bits),
                        words,
                    },
                    group: 12,
                    scales: Scales::Flat(Floats::F32(scales)),
                    zero: Zero::Int(zero),
                    group_of_col: Some((0..36).map(|j| j % 3).collect()),
                }),
            };
            let w = Weight::packed(&matrix, Compute::F32, Isa::Scalar).unwrap();
            for r in 0..rows {
                let (mut found, mut wanted) = ([0.0; 36], [0.0; 36]);
                w.row(r, &mut found).unwrap();
                matrix.dequantize_row(r, &mut wanted).unwrap();
                assert_eq!(found, wanted, "{bits} bits, row {r}");
                let mut stored = [0; 4 * 36];
                w.row_bytes(r, &mut stored);
                let wanted = bytes_from_f32(w.row_dtype(), &wanted).unwrap();
                assert_eq!(stored, wanted[..]);
            }
        }
    }
}
