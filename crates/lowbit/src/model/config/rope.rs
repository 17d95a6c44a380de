//! The rotary embedding as config.json states it.

use super::Config;
use crate::error::{Code, Error, Result};
use crate::maths;
use crate::model::arch::Arch;
use crate::model::fields::Fields;
use serde_json::Value;
use std::ops::RangeInclusive;

/// Rotary embedding as the config states it.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// No scaling.
    None,
    /// Positions divided by `factor`.
    Linear {
        /// Divisor of positions.
        factor: f64,
    },
    /// Llama 3.1: long wavelengths divided by `factor`, short ones kept, a ramp between.
    Llama3 {
        /// Divisor of long wavelengths.
        factor: f64,
        /// Wavelengths above `original / low` are divided.
        low: f64,
        /// Wavelengths below `original / high` are kept.
        high: f64,
        /// Context the model was trained at first.
        original: f64,
    },
    /// `YaRN`: long wavelengths divided by `factor`, short ones kept, a ramp over the frequencies
    /// between; cosines and sines multiplied with `attention`.
    Yarn {
        /// Divisor of long wavelengths.
        factor: f64,
        /// Index of the frequency where the ramp begins.
        low: f64,
        /// Index of the frequency where it ends.
        high: f64,
        /// Cosines and sines are multiplied with it.
        attention: f64,
        /// Scores are multiplied with its square where the family does so (`mscale_all_dim`).
        score: f64,
    },
    /// `LongRoPE`: each frequency divided by its own factor, cosines and sines multiplied with
    /// `attention`. There is a second list of factors for sequences beyond the original context;
    /// keys of both kinds do not go together, so `Config::context` is the original one.
    Long {
        /// Divisors, one per frequency.
        short: Vec<f64>,
        /// Cosines and sines are multiplied with it.
        attention: f64,
    },
}

const THETA: RangeInclusive<f64> = 1.0..=1e15;
const FACTOR: RangeInclusive<f64> = 1e-3..=1e6;
const PARTIAL: &str = "partial_rotary_factor";
const ORIGINAL: &str = "original_max_position_embeddings";
const CONTEXT: RangeInclusive<usize> = 1..=1 << 28;

/// Bases, scaling and rotated part of a model; `config` for values out of range, `unsupported` for
/// other kinds.
pub(super) fn read(fields: &Fields<'_>, arch: &Arch, config: &mut Config) -> Result<()> {
    let keys = ["rope_parameters", "rope_scaling"];
    let key = keys.into_iter().find(|k| fields.get(k).is_some());
    let outer = fields.number("rope_theta", THETA, Some(arch.rope.theta))?;
    config.rope_theta = outer;
    config.local_theta = match arch.rope.local_theta {
        Some(absent) => Some(fields.number("rope_local_base_freq", THETA, Some(absent))?),
        None => None,
    };
    config.rotary = rotary(fields, arch, config)?;
    let Some(key) = key else {
        return Ok(());
    };
    let empty = Value::Object(serde_json::Map::new());
    let value = fields.get(key).unwrap_or(&empty);
    let path = format!("{key}.");
    let inner = Fields::new(value, &path)?;
    // Phi-3 keeps it beside the object, others inside.
    let original = fields.count(ORIGINAL, CONTEXT, Some(config.context))?;
    let by_kind = config.local_theta.is_some()
        && ["full_attention", "sliding_attention"]
            .iter()
            .any(|k| inner.get(k).is_some());
    if !by_kind {
        return scaled(&inner, arch, config, original);
    }
    let (full, sliding) = (
        format!("{path}full_attention."),
        format!("{path}sliding_attention."),
    );
    scaled(
        &Fields::new(inner.get("full_attention").unwrap_or(&empty), &full)?,
        arch,
        config,
        original,
    )?;
    let local = Fields::new(inner.get("sliding_attention").unwrap_or(&empty), &sliding)?;
    config.local_theta = Some(local.number("rope_theta", THETA, config.local_theta)?);
    match kind(&local)? {
        "default" => Ok(()),
        other => Err(unknown(&sliding, other)),
    }
}

fn kind<'a>(fields: &Fields<'a>) -> Result<&'a str> {
    Ok(fields
        .text("rope_type")?
        .or(fields.text("type")?)
        .unwrap_or("default"))
}

/// What one object of the config says about the rotation of all blocks, or of those that see all.
fn scaled(inner: &Fields<'_>, arch: &Arch, config: &mut Config, outer: usize) -> Result<()> {
    config.rope_theta = inner.number("rope_theta", THETA, Some(config.rope_theta))?;
    if inner.get("partial_rotary_factor").is_some() {
        config.rotary = rotary(inner, arch, config)?;
    }
    config.rope_scaling = match kind(inner)? {
        "default" => RopeScaling::None,
        "mrope" | "axial" if arch.rope.sections => RopeScaling::None,
        "linear" => RopeScaling::Linear {
            factor: inner.number("factor", FACTOR, None)?,
        },
        "llama3" => llama3(inner, config)?,
        // Phi-3 called it by two other names before.
        "longrope" | "su" => long(inner, config, outer)?,
        "yarn" if inner.get("short_factor").is_some() => long(inner, config, outer)?,
        "yarn" => yarn(inner, config, outer)?,
        other => return Err(unknown(inner.path(), other)),
    };
    Ok(())
}

fn unknown(path: &str, kind: &str) -> Error {
    let what = format!(
        "{path}rope_type {:?}",
        kind.chars().take(60).collect::<String>()
    );
    Error::new(Code::Unsupported, what)
        .at("config.json")
        .remedy("known: default, linear, llama3, yarn, longrope")
}

fn llama3(inner: &Fields<'_>, config: &Config) -> Result<RopeScaling> {
    let low = inner.number("low_freq_factor", FACTOR, None)?;
    let high = inner.number("high_freq_factor", FACTOR, None)?;
    if low >= high {
        let allowed = format!("more than low_freq_factor, {low}");
        return Err(inner.refuse("high_freq_factor", &high.into(), allowed));
    }
    Ok(RopeScaling::Llama3 {
        factor: inner.number("factor", FACTOR, None)?,
        low,
        high,
        original: inner.number(ORIGINAL, 1.0..=268_435_456.0, Some(config.context as f64))?,
    })
}

fn long(inner: &Fields<'_>, config: &mut Config, outer: usize) -> Result<RopeScaling> {
    let original = inner.count(ORIGINAL, CONTEXT, Some(outer))?;
    let stretched = config.context as f64 / original as f64;
    let factor = inner.number("factor", FACTOR, Some(stretched.max(1e-3)))?;
    let usual = if factor <= 1.0 || original < 2 {
        1.0
    } else {
        (1.0 + maths::ln_f64(factor) / maths::ln_f64(original as f64)).sqrt()
    };
    let count = config.rotary / 2;
    let list = |key| {
        let list = inner.numbers(key, FACTOR)?;
        if list.len() == count {
            return Ok(list);
        }
        let allowed = format!("{count} numbers, one per frequency");
        Err(inner.refuse(key, &list.into(), allowed))
    };
    list("long_factor")?;
    config.context = config.context.min(original);
    Ok(RopeScaling::Long {
        short: list("short_factor")?,
        attention: inner.number("attention_factor", FACTOR, Some(usual))?,
    })
}

/// Peng et al., 2023: between `beta_fast` and `beta_slow` turns over the original context,
/// frequencies go over from kept to divided.
fn yarn(inner: &Fields<'_>, config: &Config, outer: usize) -> Result<RopeScaling> {
    let original = inner.count(ORIGINAL, CONTEXT, Some(outer))? as f64;
    let stretched = (config.context as f64 / original).max(1e-3);
    let factor = inner.number("factor", FACTOR, Some(stretched))?;
    let fast = inner.number("beta_fast", FACTOR, Some(32.0))?;
    let slow = inner.number("beta_slow", FACTOR, Some(1.0))?;
    let dim = config.rotary as f64;
    let index = |turns: f64| {
        let ratio = original / (turns * std::f64::consts::TAU);
        dim * maths::ln_f64(ratio) / (2.0 * maths::ln_f64(config.rope_theta))
    };
    let (low, high) = if inner.flag("truncate", true)? {
        (index(fast).floor(), index(slow).ceil())
    } else {
        (index(fast), index(slow))
    };
    let strength = |by: f64| {
        if factor <= 1.0 {
            1.0
        } else {
            0.1 * by * maths::ln_f64(factor) + 1.0
        }
    };
    let of = |key| inner.number(key, 0.0..=1e3, Some(0.0));
    let (own, all) = (of("mscale")?, of("mscale_all_dim")?);
    let usual = if own > 0.0 && all > 0.0 {
        strength(own) / strength(all)
    } else {
        strength(1.0)
    };
    Ok(RopeScaling::Yarn {
        factor,
        low: low.max(0.0),
        high: high.min(dim - 1.0),
        attention: inner.number("attention_factor", FACTOR, Some(usual))?,
        score: if all > 0.0 { strength(all) } else { 1.0 },
    })
}

/// How many values of a head are rotated. Only some families have the key; for others a value
/// below 1 means another model.
fn rotary(fields: &Fields<'_>, arch: &Arch, config: &Config) -> Result<usize> {
    if let Some(latent) = config.latent {
        return Ok(latent.rope);
    }
    let part = fields.number(PARTIAL, 0.0..=1.0, Some(arch.rope.part.unwrap_or(1.0)))?;
    if arch.rope.part.is_none() && part != 1.0 {
        let what = format!("{PARTIAL} {part}; only 1 is computed here");
        return Err(Error::new(Code::Unsupported, what).at("config.json"));
    }
    let rotary = (config.head_dim as f64 * part) as usize;
    if rotary < 2 || !rotary.is_multiple_of(2) {
        let allowed = format!("a part of {} that is an even number", config.head_dim);
        return Err(fields.refuse(PARTIAL, &part.into(), allowed));
    }
    Ok(rotary)
}
