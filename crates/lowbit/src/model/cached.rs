//! Where a model keeps the scales of its cache, and which models have none.

use super::arch::Row;
use super::config::Config;
use super::load::TensorInfo;
use super::ops::Part;
use crate::error::{Code, Error, Result};
use crate::kv_cache::{SCALES, is_scale};
use crate::tensor::{Dtype, Tensor};

/// `unsupported` for a model that keeps no keys and values of heads.
pub fn check(config: &Config) -> Result<()> {
    let name = config.arch().name;
    let what = if config.encoder.is_some() {
        format!("kvCache: {name} sees whole texts and keeps no keys and values")
    } else if config.latent.is_some() {
        format!(
            "kvCache: engines keep the narrow vector of {name}'s multi-head latent attention, \
             which has no keys and values of heads"
        )
    } else {
        return Ok(());
    };
    Err(Error::new(Code::Unsupported, what).remedy("leave kvCache out"))
}

/// Names of the scales of keys and of values of a block, beside its projections.
pub fn scale_names(config: &Config, layer: usize) -> Option<[String; 2]> {
    let rows = config.rows(layer);
    let output: &Row = rows.iter().find(|row| row.part == Part::O)?;
    let module = config.module_of(layer, output);
    let (attention, _) = module.rsplit_once('.')?;
    Some(SCALES.map(|scale| format!("{attention}.{scale}")))
}

/// The scales that a checkpoint has, block by block; none where some block has none.
///
/// `dtype` and `shape` for scales that cannot be followed, `unsupported` beside zero points.
pub fn stored_scales(
    config: &Config,
    find: impl Fn(&str) -> Option<TensorInfo>,
) -> Result<Option<Vec<[String; 2]>>> {
    let mut all = Vec::new();
    for layer in 0..config.layers {
        let Some(names) = scale_names(config, layer) else {
            return Ok(None);
        };
        for name in &names {
            let Some(info) = find(name) else {
                return Ok(None);
            };
            let count: usize = info.shape.iter().product();
            let place = |e: Error| e.at(format!("tensor {name:?}"));
            if ![Dtype::F32, Dtype::F16, Dtype::BF16].contains(&info.dtype) {
                let what = format!("dtype {}", info.dtype.name());
                return Err(place(Error::new(Code::Dtype, what)).remedy("expected a float"));
            }
            if ![1, config.kv_heads].contains(&count) {
                let what = format!("shape {:?}", info.shape);
                let remedy = format!("expected one scale, or one for each of {}", config.kv_heads);
                return Err(place(Error::new(Code::Shape, what)).remedy(remedy));
            }
            if find(&name.replace("_scale", "_zero_point")).is_some() {
                let what = "a cache with zero points";
                return Err(place(Error::new(Code::Unsupported, what)));
            }
        }
        all.push(names);
    }
    Ok(Some(all))
}

/// The values of a tensor of scales; `qparam` for one that is not above 0 and finite.
pub fn scale_values(tensor: &Tensor) -> Result<Vec<f32>> {
    debug_assert!(is_scale(&tensor.name), "{} is no scale", tensor.name);
    let values = tensor.view()?.to_f32()?;
    match values.iter().find(|v| !(v.is_finite() && **v > 0.0)) {
        None => Ok(values),
        Some(v) => Err(Error::new(Code::Qparam, format!("a scale is {v}"))
            .at(format!("tensor {:?}", tensor.name))),
    }
}
