//! Small floats and tables of values: E4M3, E8M0, E2M1, NF4, FP4.
//!
//! ```text
//! E4M3  s eeee mmm   bias 7, no infinities, 0x7f and 0xff are NaN, largest 448   (OCP 8-bit floats)
//! E8M0  eeeeeeee     2^(e − 127), 0xff is NaN                                    (OCP Microscaling 1.0)
//! E2M1  s ee m       bias 1, every code is a number, largest 6                   (OCP Microscaling 1.0)
//! ```

/// The largest E4M3.
pub const E4M3_MAX: f32 = 448.0;

/// The largest E2M1.
pub const E2M1_MAX: f32 = 6.0;

/// E2M1 by its code.
pub const E2M1: [f32; 16] = [
    0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0,
];

/// bitsandbytes' 4-bit normal floats: quantiles of a normal distribution (arXiv 2305.14314, E).
pub const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// bitsandbytes' 4-bit floats by code, the highest bit a sign, scaled to a maximum of 1. Both zeros
/// are the positive one.
pub const FP4: [f32; 16] = [
    0.0,
    0.005_208_333_5,
    0.666_666_7,
    1.0,
    0.333_333_34,
    0.5,
    0.166_666_67,
    0.25,
    0.0,
    -0.005_208_333_5,
    -0.666_666_7,
    -1.0,
    -0.333_333_34,
    -0.5,
    -0.166_666_67,
    -0.25,
];

/// An E4M3 as f32, exactly.
pub fn f32_from_e4m3(code: u8) -> f32 {
    let sign = u32::from(code & 0x80) << 24;
    let magnitude = code & 0x7f;
    if magnitude == 0x7f {
        return f32::from_bits(sign | f32::NAN.to_bits());
    }
    // Exponent and mantissa at their places in an f32 stand for 2^−120 of the value, subnormals too.
    let scaled = f32::from_bits(u32::from(magnitude) << 20) * f32::from_bits((127 + 120) << 23);
    f32::from_bits(sign | scaled.to_bits())
}

/// The nearest E4M3, ties to even; beyond ±448 it is ±448, NaN stays NaN.
pub fn e4m3_from_f32(value: f32) -> u8 {
    let bits = value.to_bits();
    let sign = ((bits >> 24) & 0x80) as u8;
    if value.is_nan() {
        return sign | 0x7f;
    }
    let magnitude = f32::from_bits(bits & 0x7fff_ffff).min(E4M3_MAX);
    // Below 2^−6 steps are 2^−9, which is what a sum with 2^14 rounds to.
    if magnitude < 0.015_625 {
        let code = (magnitude + 16_384.0).to_bits() - 16_384f32.to_bits();
        return sign | code as u8;
    }
    let bits = magnitude.to_bits();
    let rounded = bits + 0x7_ffff + ((bits >> 20) & 1);
    sign | ((rounded >> 20) - (120 << 3)) as u8
}

/// The nearest E2M1 code, a value half way to the even code; ±6 beyond.
#[inline(always)]
pub fn e2m1_from_f32(value: f32) -> u8 {
    let sign = (value.to_bits() >> 28 & 8) as u8;
    let x = value.abs();
    let steps = [
        x > 0.25,
        x >= 0.75,
        x > 1.25,
        x >= 1.75,
        x > 2.5,
        x >= 3.5,
        x > 5.0,
    ];
    sign | steps.into_iter().map(u8::from).sum::<u8>()
}

/// An E8M0 as f32, exactly; NaN for 0xff.
pub fn f32_from_e8m0(code: u8) -> f32 {
    match code {
        0 => f32::from_bits(1 << 22),
        255 => f32::NAN,
        e => f32::from_bits(u32::from(e) << 23),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e4m3_rounds_to_the_nearest_with_ties_to_even() {
        let magnitudes: Vec<f32> = (0..0x7f).map(f32_from_e4m3).collect();
        assert_eq!(magnitudes[1], 0.001_953_125);
        assert_eq!((magnitudes[8], magnitudes[0x7e]), (0.015_625, 448.0));
        for (code, pair) in magnitudes.windows(2).enumerate() {
            let code = code as u8;
            let middle = f32::midpoint(pair[0], pair[1]);
            let even = code + (code & 1);
            assert_eq!(e4m3_from_f32(pair[0]), code);
            assert_eq!(e4m3_from_f32(-pair[0]), code | 0x80);
            assert_eq!(e4m3_from_f32(middle), even, "{middle}");
            assert_eq!(e4m3_from_f32(middle.next_down()), code, "{middle}");
            assert_eq!(e4m3_from_f32(middle.next_up()), code + 1, "{middle}");
        }
        assert_eq!(e4m3_from_f32(1e9), 0x7e);
        assert_eq!(e4m3_from_f32(f32::NEG_INFINITY), 0xfe);
        assert!(f32_from_e4m3(e4m3_from_f32(f32::NAN)).is_nan());
    }

    #[test]
    fn e2m1_rounds_to_the_nearest_with_ties_to_even() {
        for code in 0..7u8 {
            let (low, high) = (E2M1[usize::from(code)], E2M1[usize::from(code) + 1]);
            let middle = f32::midpoint(low, high);
            let even = code + (code & 1);
            assert_eq!(e2m1_from_f32(middle), even, "{middle}");
            assert_eq!(e2m1_from_f32(-middle), even | 8);
            assert_eq!(e2m1_from_f32(middle.next_down()), code);
            assert_eq!(e2m1_from_f32(middle.next_up()), code + 1);
        }
        assert_eq!((e2m1_from_f32(100.0), e2m1_from_f32(-100.0)), (7, 15));
    }

    #[test]
    fn e8m0_is_a_power_of_two() {
        assert_eq!(f32_from_e8m0(127), 1.0);
        assert_eq!(f32_from_e8m0(0), 2f32.powi(-127));
        assert_eq!(f32_from_e8m0(254), 2f32.powi(127));
        assert!(f32_from_e8m0(255).is_nan());
    }
}
