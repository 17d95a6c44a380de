//! Transcendental functions, the same bits on every host: from the `libm` crate or made of plain
//! additions and multiplications, never from the platform.

/// Natural exponential of f64 (libm).
pub fn exp_f64(x: f64) -> f64 {
    libm::exp(x)
}

/// Natural logarithm of f64 (libm).
pub fn ln_f64(x: f64) -> f64 {
    libm::log(x)
}

/// `x` to the power `y` in f64 (libm).
pub fn pow_f64(x: f64, y: f64) -> f64 {
    libm::pow(x, y)
}

/// Hyperbolic tangent of f64 (libm).
pub fn tanh_f64(x: f64) -> f64 {
    libm::tanh(x)
}

/// Complementary error function of f64 (libm).
pub fn erfc_f64(x: f64) -> f64 {
    libm::erfc(x)
}

/// Sine and cosine of f32 (libm).
pub fn sin_cos(x: f32) -> (f32, f32) {
    libm::sincosf(x)
}

/// Natural exponential of f32 within 1 ulp or so, shaped so that loops over it vectorize.
///
/// Range reduction by ln 2 in two parts, then a polynomial of degree 6 (Cody and Waite). Below −87
/// the result is 0, above 88.7 it is infinite; NaN stays NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it rounds to an integer
    let clamped = x.clamp(-87.3, 88.8);
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    for c in [
        1.398_2e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        p = p * r + c;
    }
    let y = (p * r) * r + r + 1.0;
    // n sits in the low bits of `shifted`: reading it there needs no conversion and no checks,
    // which would keep loops from becoming vectors. 2^n goes in as two factors, so that n = 128
    // stays representable until the end.
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    let power = |k: i32| f32::from_bits((k.wrapping_add(127) << 23) as u32);
    let result = y * power(half) * power(n.wrapping_sub(half));
    if x < -87.3 { 0.0 } else { result }
}

/// `x · σ(x)`, the SiLU activation.
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// `x · Φ(x)` by the tanh formula of GELU: `x/2 · (1 + tanh u)` with `u = √(2/π)(x + .044715 x³)`,
/// which is `x · σ(2u)`.
#[inline(always)]
pub fn gelu_tanh(x: f32) -> f32 {
    const TWICE: f32 = 1.595_769; // 2 √(2/π)
    let u = TWICE * (x + 0.044_715 * (x * x * x));
    x / (1.0 + exp(-u))
}

/// `x · Φ(x)`, the GELU activation by the normal distribution's Φ, shaped so that loops over it
/// vectorize.
///
/// `erfc z = t · e^(P(t) − z²)` with `t = 1 / (1 + z/2)`: P is a polynomial of degree 9, fitted at
/// Chebyshev's points to within 5e-8 for z up to 10, which is a relative error of the result.
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * z);
    let mut p = 0.144_930_21;
    for c in [
        -0.680_827_2,
        1.156_733_8,
        -0.696_251_9,
        -0.080_280_43,
        1.267_587_2e-3,
        0.034_602_8,
        0.386_640_4,
        0.998_632_8,
        -1.265_448,
    ] {
        p = p * t + c;
    }
    // Half of erfc z: what is left of the distribution beyond |x|.
    let beyond = 0.5 * t * exp(p - z * z);
    let below = if x < 0.0 { beyond } else { 1.0 - beyond };
    x * below
}

/// Hyperbolic tangent within 2 ulp or so, shaped so that loops over it vectorize.
///
/// `1 − 2 / (e^2x + 1)`, and below 0.625, where that cancels, an odd polynomial (Cephes).
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let z = x * x;
    let mut p = -5.704_988_7e-3;
    for c in [
        2.063_908_8e-2,
        -5.373_971_6e-2,
        1.333_144_2e-1,
        -3.333_328e-1,
    ] {
        p = p * z + c;
    }
    let near = p * z * x + x;
    let far = 1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0);
    if x.abs() < 0.625 {
        near
    } else {
        far.copysign(x)
    }
}

/// `x` squeezed into ± `cap`: `cap · tanh(x / cap)`.
#[inline(always)]
pub fn cap(x: f32, cap: f32) -> f32 {
    cap * tanh(x / cap)
}

/// `x^2.4` for x ≥ 0 within 1e-6, without a table or a branch, so that loops over it vectorize.
///
/// `y = x^(−1/5)` by Newton's method, then `(x · y)³`. The first guess divides the exponent by −5 on
/// the float's bits (the trick of the fast inverse square root), in shifts, since neither an integer
/// division nor a checked conversion vectorizes.
#[inline(always)]
pub fn pow_2_4(x: f32) -> f32 {
    const GUESS: u32 = 1_277_850_000; // ≈ 1.2 · 127 · 2^23, least worst error
    let b = x.to_bits();
    // 1/5 in binary is 0.0011 0011 0011.
    let fifth = (b >> 3)
        .wrapping_add(b >> 4)
        .wrapping_add(b >> 7)
        .wrapping_add(b >> 8)
        .wrapping_add(b >> 11)
        .wrapping_add(b >> 12);
    let mut y = f32::from_bits(GUESS.wrapping_sub(fifth));
    for _ in 0..3 {
        let y2 = y * y;
        y = y * (1.2 - 0.2 * ((x * y) * (y2 * y2)));
    }
    let root = x * y;
    root * root * root
}

/// `x^(−0.3)` for x ≥ 0 within 1e-6, finite at 0; made like [`pow_2_4`], from `y = x^(−1/10)`.
#[inline(always)]
pub fn pow_minus_0_3(x: f32) -> f32 {
    const GUESS: u32 = 1_171_388_537; // ≈ 1.1 · 127 · 2^23, least worst error
    let b = x.to_bits();
    // 1/10 in binary is 0.0001 1001 1001.
    let tenth = (b >> 4)
        .wrapping_add(b >> 5)
        .wrapping_add(b >> 8)
        .wrapping_add(b >> 9)
        .wrapping_add(b >> 12)
        .wrapping_add(b >> 13);
    let mut y = f32::from_bits(GUESS.wrapping_sub(tenth));
    for _ in 0..3 {
        let y2 = y * y;
        let y4 = y2 * y2;
        y *= 1.1 - 0.1 * ((x * y2) * (y4 * y4));
    }
    y * y * y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_libm() {
        let mut worst = 0.0f64;
        for i in -87_000..88_700 {
            let x = i as f32 / 1000.0;
            let want = exp_f64(f64::from(x));
            worst = worst.max((f64::from(exp(x)) - want).abs() / want);
        }
        assert!(worst < 2.0e-7, "worst relative error {worst:e}");
    }

    #[test]
    fn exp_has_defined_ends() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-1000.0), 0.0);
        assert_eq!(exp(1000.0), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn gelu_is_close_to_libm() {
        let mut worst = 0.0f64;
        for i in -90_000..90_000 {
            let x = i as f32 / 10_000.0;
            let wide = f64::from(x);
            let want = 0.5 * wide * erfc_f64(-wide * std::f64::consts::FRAC_1_SQRT_2);
            let error = (f64::from(gelu(x)) - want).abs() / want.abs().max(1e-30);
            worst = worst.max(error / (1.0 + 0.25 * wide * wide));
        }
        assert!(worst < 5.0e-7, "worst error {worst:e}");
        assert_eq!([gelu(0.0), gelu(100.0), gelu(-100.0)], [0.0, 100.0, 0.0]);
        assert!(gelu(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_is_close_to_libm() {
        let mut worst = 0.0f64;
        for i in -200_000..200_000 {
            let x = i as f32 / 10_000.0;
            let want = tanh_f64(f64::from(x));
            let error = (f64::from(tanh(x)) - want).abs() / want.abs().max(1e-30);
            worst = worst.max(if want == 0.0 { 0.0 } else { error });
        }
        assert!(worst < 3.0e-7, "worst relative error {worst:e}");
        assert_eq!([tanh(0.0), tanh(100.0), tanh(-100.0)], [0.0, 1.0, -1.0]);
        assert!(tanh(f32::NAN).is_nan());
        assert_eq!(cap(f32::INFINITY, 30.0), 30.0);
    }

    #[test]
    fn pow_minus_0_3_is_close_to_libm() {
        assert!(pow_minus_0_3(0.0).is_finite());
        let mut worst = 0.0f64;
        for i in 0..300_000 {
            let x = (1.0e-12f64 * 1.000_13f64.powi(i)) as f32;
            let want = libm::pow(f64::from(x), -0.3);
            worst = worst.max((f64::from(pow_minus_0_3(x)) - want).abs() / want);
        }
        assert!(worst < 1.5e-6, "worst relative error {worst:e}");
    }

    #[test]
    fn pow_2_4_is_close_to_libm() {
        assert_eq!(pow_2_4(0.0), 0.0);
        let mut worst = 0.0f64;
        for i in 0..400_000 {
            let x = (1.0e-12f64 * 1.000_13f64.powi(i)) as f32;
            let want = libm::pow(f64::from(x), 2.4);
            worst = worst.max((f64::from(pow_2_4(x)) - want).abs() / want);
        }
        assert!(worst < 1.0e-6, "worst relative error {worst:e}");
    }
}
