//! Cosines and sines of the rotary embedding, by position.
//!
//! Frequencies are computed in f32 in the order of operations of transformers
//! (`modeling_rope_utils.py`), because an angle at position p carries p times their error. Its
//! power function is within an ulp; the correctly rounded one here agrees with it where tested.

use super::config::{Config, RopeScaling};
use crate::maths;

/// `base^(−2i / rotary)`.
fn plain(config: &Config, base: f64) -> impl Iterator<Item = f32> {
    let (dim, theta) = (config.rotary as f32, base as f32);
    (0..config.rotary / 2).map(move |i| {
        let exponent = (2 * i) as f32 / dim;
        1.0 / power(theta, exponent)
    })
}

fn power(theta: f32, exponent: f32) -> f32 {
    maths::pow_f64(f64::from(theta), f64::from(exponent)) as f32
}

/// Radians per position of each pair of a head, `config.rotary / 2` of them.
pub fn frequencies(config: &Config) -> Vec<f32> {
    let plain = plain(config, config.rope_theta);
    match &config.rope_scaling {
        RopeScaling::None => plain.collect(),
        RopeScaling::Linear { factor } => plain.map(|f| f / *factor as f32).collect(),
        RopeScaling::Llama3 {
            factor,
            low,
            high,
            original,
        } => {
            let scaled = |f| llama3(f, *factor as f32, (*low, *high), *original);
            plain.map(scaled).collect()
        }
        RopeScaling::Yarn {
            factor, low, high, ..
        } => {
            let (factor, low, high) = (*factor as f32, *low as f32, *high as f32);
            let width = if low == high { 0.001 } else { high - low };
            let scaled = |(i, f): (usize, f32)| {
                let kept = 1.0 - ((i as f32 - low) / width).clamp(0.0, 1.0);
                // transformers divides 1 by the product, not the quotient.
                let divided = 1.0 / (factor * (1.0 / f));
                divided * (1.0 - kept) + f * kept
            };
            plain.enumerate().map(scaled).collect()
        }
        RopeScaling::Long { short, .. } => {
            let (dim, theta) = (config.rotary as f32, config.rope_theta as f32);
            let scaled = |(i, factor): (usize, &f64)| {
                1.0 / (*factor as f32 * power(theta, (2 * i) as f32 / dim))
            };
            short.iter().enumerate().map(scaled).collect()
        }
    }
}

/// One frequency by the rule of Llama 3.1: kept when its wavelength is short against the original
/// context, divided by `factor` when long, a blend of the two between.
fn llama3(frequency: f32, factor: f32, (low, high): (f64, f64), original: f64) -> f32 {
    let wavelength = std::f32::consts::TAU / frequency;
    if wavelength < (original / high) as f32 {
        return frequency;
    }
    if wavelength > (original / low) as f32 {
        return frequency / factor;
    }
    let kept = (original as f32 / wavelength - low as f32) / (high - low) as f32;
    (1.0 - kept) * frequency / factor + kept * frequency
}

/// The cosines and sines of a run of positions, kept until another run is asked for.
#[derive(Debug, Clone)]
pub struct Rotary {
    frequencies: Vec<f32>,
    /// Cosines and sines are multiplied with it.
    amplitude: f32,
    first: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rotary {
    /// Empty tables for one model.
    pub fn new(config: &Config) -> Self {
        let mut rotary = Self::of(frequencies(config));
        if let RopeScaling::Long { attention, .. } | RopeScaling::Yarn { attention, .. } =
            config.rope_scaling
        {
            rotary.amplitude = attention as f32;
        }
        rotary
    }

    /// Empty tables for the blocks whose attention slides, if they have a base of their own.
    pub fn local(config: &Config) -> Option<Self> {
        let theta = config.local_theta?;
        Some(Self::of(plain(config, theta).collect()))
    }

    fn of(frequencies: Vec<f32>) -> Self {
        Self {
            frequencies,
            amplitude: 1.0,
            first: 0,
            cos: Vec::new(),
            sin: Vec::new(),
        }
    }

    /// Cosines and sines, each `[count, rotary / 2]`, of the positions from `first` on.
    ///
    /// All blocks of a pass ask for the same run, so only the first of them computes it.
    pub fn tables(&mut self, first: usize, count: usize) -> (&[f32], &[f32]) {
        let len = count * self.frequencies.len();
        if self.first != first || self.cos.len() != len {
            self.first = first;
            self.cos.clear();
            self.sin.clear();
            for position in first..first + count {
                for f in &self.frequencies {
                    let (sin, cos) = maths::sin_cos(position as f32 * f);
                    self.cos.push(cos * self.amplitude);
                    self.sin.push(sin * self.amplitude);
                }
            }
        }
        (&self.cos, &self.sin)
    }

    /// Radians per position of each pair of a head.
    pub fn frequencies(&self) -> &[f32] {
        &self.frequencies
    }
}
