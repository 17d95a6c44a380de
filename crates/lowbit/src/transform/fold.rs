//! Puts scales into weights so that the function stays what it was.

use super::mapping::{Mapping, Producer};
use super::{FloatBlock, matrix_mut, vector_mut};
use crate::tensor::{Dtype, round_to};

/// Divides a mapping's producer by `scales` and multiplies the columns of its consumers.
///
/// A norm is rounded to the type it is stored in first (`norm_offset` apart, which families with
/// weights of 1 + w have), and consumers get what the rounded norm really divides by. Channels that
/// a norm switches off, or whose norm could not be stored, stay as they are. Returns the scales
/// that took effect; `scales` are finite and positive, one per channel.
pub fn fold(
    block: &mut FloatBlock,
    mapping: &Mapping,
    scales: &[f32],
    stored: Dtype,
    norm_offset: f32,
) -> Vec<f32> {
    let effective = match mapping.producer {
        Producer::Norm(part) => {
            let norm = vector_mut(block, part);
            assert_eq!(norm.len(), scales.len(), "one scale per channel");
            let fold = |(g, s): (&mut f32, &f32)| divide(g, *s, stored, norm_offset);
            norm.iter_mut().zip(scales).map(fold).collect()
        }
        Producer::Rows(part) => {
            let (matrix, bias) = matrix_mut(block, part);
            let first = matrix.rows - scales.len();
            let rows = matrix.values.chunks_exact_mut(matrix.cols).skip(first);
            for (row, s) in rows.zip(scales) {
                for w in row.iter_mut() {
                    *w /= s;
                }
            }
            for (b, s) in bias.into_iter().flat_map(|b| &mut b[first..]).zip(scales) {
                *b /= s;
            }
            scales.to_vec()
        }
    };
    for part in &mapping.consumers {
        let (matrix, _) = matrix_mut(block, *part);
        assert_eq!(matrix.cols, scales.len(), "one scale per column");
        for row in matrix.values.chunks_exact_mut(effective.len()) {
            row.iter_mut().zip(&effective).for_each(|(w, s)| *w *= s);
        }
    }
    effective
}

/// Divides a norm's weight as far as its type allows; gives the divisor that took effect.
fn divide(g: &mut f32, s: f32, stored: Dtype, offset: f32) -> f32 {
    let rounded = round_to(stored, *g / s - offset) + offset;
    let effective = *g / rounded;
    if rounded == 0.0 || !rounded.is_finite() || !(effective.is_finite() && effective > 0.0) {
        return 1.0;
    }
    *g = rounded;
    effective
}
