//! The rotary embedding as config.json states it.

use crate::error::{Code, Error, Result};
use crate::model::fields::Fields;
use serde_json::Value;

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
}

/// Base and scaling; `config` for values out of range, `unsupported` for other kinds.
pub(super) fn rope(fields: &Fields<'_>, context: usize) -> Result<(f64, RopeScaling)> {
    const THETA: std::ops::RangeInclusive<f64> = 1.0..=1e15;
    const FACTOR: std::ops::RangeInclusive<f64> = 1e-3..=1e6;
    refuse_partial(fields)?;
    let outer = fields.number("rope_theta", THETA, Some(10_000.0))?;
    let found = ["rope_parameters", "rope_scaling"]
        .into_iter()
        .find(|k| fields.get(k).is_some());
    let Some(key) = found else {
        return Ok((outer, RopeScaling::None));
    };
    let path = format!("{key}.");
    let inner = Fields::new(fields.get(key).unwrap_or(&Value::Null), &path)?;
    let theta = inner.number("rope_theta", THETA, Some(outer))?;
    refuse_partial(&inner)?;
    let kind = inner
        .text("rope_type")?
        .or(inner.text("type")?)
        .unwrap_or("default");
    let scaling = match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear {
            factor: inner.number("factor", FACTOR, None)?,
        },
        "llama3" => RopeScaling::Llama3 {
            factor: inner.number("factor", FACTOR, None)?,
            low: inner.number("low_freq_factor", FACTOR, None)?,
            high: inner.number("high_freq_factor", FACTOR, None)?,
            original: inner.number(
                "original_max_position_embeddings",
                1.0..=268_435_456.0,
                Some(context as f64),
            )?,
        },
        other => {
            let what = format!(
                "{path}rope_type {:?}",
                other.chars().take(60).collect::<String>()
            );
            return Err(Error::new(Code::Unsupported, what)
                .at("config.json")
                .remedy("known: default, linear, llama3"));
        }
    };
    if let RopeScaling::Llama3 { low, high, .. } = scaling
        && low >= high
    {
        let allowed = format!("more than low_freq_factor, {low}");
        return Err(inner.refuse("high_freq_factor", &high.into(), allowed));
    }
    Ok((theta, scaling))
}

/// Rotation of a part of each head is another model's.
fn refuse_partial(fields: &Fields<'_>) -> Result<()> {
    match fields.number("partial_rotary_factor", 0.0..=1.0, Some(1.0))? {
        1.0 => Ok(()),
        part => {
            let what = format!("partial_rotary_factor {part}; only 1 is computed here");
            Err(Error::new(Code::Unsupported, what).at("config.json"))
        }
    }
}
