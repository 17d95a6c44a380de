//! bitsandbytes' double quantization: absolute maxima as 8-bit codes (arXiv 2110.02861, 2305.14314).

use crate::matrix::Nested;

/// Maxima that share a scale of their own.
const PER: usize = 256;

/// The 256 values of the signed dynamic map: seven decades, each cut into twice as many steps as
/// the one below, with 0 and 1.
pub(super) fn dynamic_map() -> Vec<f32> {
    let mut map = vec![0.0f32, 1.0];
    for decade in 0..7u32 {
        let steps = 1u32 << decade;
        let power = 10.0f64.powi(decade as i32 - 6) as f32;
        // Points of [0.1, 1] as the tool lays them out: from both ends to the middle.
        let step = 0.9f32 / steps as f32;
        let point = |i: u32| {
            if i < steps.div_ceil(2) + u32::from(steps.is_multiple_of(2)) {
                step.mul_add(i as f32, 0.1)
            } else {
                (-step).mul_add((steps - i) as f32, 1.0)
            }
        };
        for i in 0..steps {
            let mean = f32::midpoint(point(i), point(i + 1));
            map.extend([power * mean, -(power * mean)]);
        }
    }
    map.sort_by(f32::total_cmp);
    map
}

/// Rounds absolute maxima, in the order of the matrix.
pub(super) fn nested(scales: &[f32]) -> Nested {
    let map = dynamic_map();
    let offset = scales.iter().map(|s| f64::from(*s)).sum::<f64>() / scales.len().max(1) as f64;
    let offset = offset as f32;
    let mut codes = Vec::with_capacity(scales.len());
    let mut absmax = Vec::with_capacity(scales.len().div_ceil(PER));
    for block in scales.chunks(PER) {
        let largest = block.iter().fold(0.0f32, |m, s| m.max((s - offset).abs()));
        absmax.push(largest);
        let inverse = if largest > 0.0 { 1.0 / largest } else { 0.0 };
        codes.extend(block.iter().map(|s| nearest(&map, (s - offset) * inverse)));
    }
    Nested {
        codes,
        map,
        absmax,
        per: PER,
        offset,
    }
}

/// The code of the nearest value.
fn nearest(map: &[f32], x: f32) -> u8 {
    let above = map.partition_point(|v| *v < x).clamp(1, map.len() - 1);
    let down = (x - map[above - 1]).abs() <= (map[above] - x).abs();
    (above - usize::from(down)) as u8
}
