//! Keys and values of the cache in 8 bits: the schemes, their scales, the rounding that they mean.
//!
//! ```text
//! scale = max |x| / 448 (E4M3), / 127.5 (integers), over all heads or for each head of keys
//! q     = E4M3(x / scale), or round(clamp(x / scale, −128, 127)), ties to even
//! ```
//! The cache holds q, attention reads q · scale. `k_scale` and `v_scale` lie beside the projections
//! of a block's attention, `[1]` or `[kv_heads, 1, 1]`; `kv_cache_scheme` in the config says which.
//! Source: compressed-tensors 0.19, `modeling/kvcache.py` and `quantization/`.

use crate::error::{Code, Error, Result, nearest};
use crate::minifloat::{E4M3_MAX, e4m3_from_f32, f32_from_e4m3};
use crate::tensor::{Dtype, round_to};
use serde_json::{Value, json};
use std::fmt;

/// Tensors of the scales, behind the module of the attention.
pub const SCALES: [&str; 2] = ["k_scale", "v_scale"];

/// The key of `quantization_config`.
pub const KEY: &str = "kv_cache_scheme";

/// How the cache holds keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvCache {
    /// Name in options.
    pub name: &'static str,
    /// E4M3 rather than integers.
    pub float: bool,
    /// A scale for each head rather than one for all.
    pub per_head: bool,
}

/// Every scheme, in the order of help texts.
pub static KV_CACHES: [KvCache; 4] = [
    row("fp8", true, false),
    row("int8", false, false),
    row("fp8-head", true, true),
    row("int8-head", false, true),
];

const fn row(name: &'static str, float: bool, per_head: bool) -> KvCache {
    KvCache {
        name,
        float,
        per_head,
    }
}

/// Looks a scheme up by name; `option` with the nearest name otherwise.
pub fn find(name: &str) -> Result<KvCache> {
    let found = KV_CACHES.iter().find(|c| c.name == name).copied();
    found.ok_or_else(|| {
        let near = nearest(name, KV_CACHES.iter().map(|c| c.name)).unwrap_or_default();
        Error::new(
            Code::Option,
            format!("unknown scheme of the KV cache {name:?}"),
        )
        .remedy(format!("did you mean {near:?}?"))
    })
}

/// Reads a `kv_cache_scheme`: none when it is null or empty, `unsupported` for one that is not 8 bits
/// with a scale for all heads or for each.
pub fn from_config(scheme: &Value) -> Result<Option<KvCache>> {
    let absent = match scheme {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    if absent {
        return Ok(None);
    }
    let float = scheme["type"] == "float";
    let strategy = &scheme["strategy"];
    let per_head = strategy == "attn_head";
    let known = scheme["num_bits"] == 8
        && (float || scheme["type"] == "int")
        && (per_head || strategy.is_null() || strategy == "tensor");
    let row = KV_CACHES
        .iter()
        .find(|c| known && c.float == float && c.per_head == per_head);
    row.copied().map(Some).ok_or_else(|| {
        let what = format!("{KEY}: other than 8 bits with a scale per matrix or head");
        Error::new(Code::Unsupported, what).at("quantization_config")
    })
}

/// Whether a tensor is a scale of the cache, by its name.
pub fn is_scale(name: &str) -> bool {
    let last = name.rsplit_once('.').map(|(_, last)| last);
    last.is_some_and(|last| SCALES.contains(&last) || last == "q_scale")
}

impl fmt::Display for KvCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kvCache {}", self.name)
    }
}

impl KvCache {
    /// Half of the range of codes: what the largest magnitude is divided by.
    fn half(self) -> f32 {
        if self.float { E4M3_MAX } else { 127.5 }
    }

    /// `kv_cache_scheme`, with the keys that every version of compressed-tensors knows.
    pub fn to_config(self) -> Value {
        json!({
            "actorder": null,
            "block_structure": null,
            "dynamic": false,
            "group_size": null,
            "num_bits": 8,
            "strategy": if self.per_head { "attn_head" } else { "tensor" },
            "symmetric": true,
            "type": if self.float { "float" } else { "int" },
        })
    }

    /// Shape of the scales of keys, or of values, of one block.
    pub fn shape(self, kv_heads: usize) -> Vec<usize> {
        if self.per_head {
            vec![kv_heads, 1, 1]
        } else {
            vec![1]
        }
    }

    /// Scales, as `dtype` stores them, from the largest magnitude of each head.
    ///
    /// `nonfinite-activation` when `dtype` cannot hold one.
    pub fn scales(self, largest: &[f32], dtype: Dtype) -> Result<Vec<f32>> {
        let all = [largest.iter().fold(0.0f32, |a, v| a.max(*v))];
        let each = if self.per_head { largest } else { &all };
        each.iter()
            .map(|largest| {
                let scale = round_to(dtype, largest / self.half());
                if !scale.is_finite() {
                    let what = format!(
                        "{largest} in the cache gives a scale beyond {}",
                        dtype.name()
                    );
                    return Err(
                        Error::new(Code::NonfiniteActivation, what).remedy("use --scale-dtype F32")
                    );
                }
                Ok(if scale == 0.0 { dtype.epsilon() } else { scale })
            })
            .collect()
    }

    /// A value as the cache gives it back under a scale.
    fn rounded(self, value: f32, scale: f32) -> f32 {
        let x = value / scale;
        let code = if self.float {
            f32_from_e4m3(e4m3_from_f32(x))
        } else {
            x.clamp(-128.0, 127.0).round_ties_even()
        };
        code * scale
    }
}

/// Rounds what enters the cache of one block.
#[derive(Debug, Clone, PartialEq)]
pub struct Rounding {
    cache: KvCache,
    /// Width of a head.
    dim: usize,
    /// Scales of keys and of values: one, or one per head; none for a scale of its own for each head
    /// of each token.
    scales: [Vec<f32>; 2],
}

impl Rounding {
    /// Rounding with the scales of a checkpoint, which were made for `of`; for another element they
    /// are those of the same largest magnitudes.
    pub fn new(cache: KvCache, dim: usize, of: KvCache, scales: [Vec<f32>; 2]) -> Self {
        let factor = of.half() / cache.half();
        let scales = scales.map(|s| s.into_iter().map(|v| v * factor).collect());
        Self { cache, dim, scales }
    }

    /// Rounding without scales, as vLLM does it: E4M3 as it is, integers with a scale for each head
    /// of each token.
    pub fn uncalibrated(cache: KvCache, dim: usize) -> Self {
        let scale = || if cache.float { vec![1.0] } else { Vec::new() };
        Self {
            cache,
            dim,
            scales: [scale(), scale()],
        }
    }

    /// Keys `[positions, kv_heads · dim]`, in place.
    pub fn keys(&self, keys: &mut [f32]) {
        self.round(keys, &self.scales[0]);
    }

    /// Values `[positions, kv_heads · dim]`, in place.
    pub fn values(&self, values: &mut [f32]) {
        self.round(values, &self.scales[1]);
    }

    fn round(&self, rows: &mut [f32], scales: &[f32]) {
        for (i, head) in rows.chunks_exact_mut(self.dim).enumerate() {
            let own = || head.iter().fold(0.0f32, |a, v| a.max(v.abs())) / self.cache.half();
            let scale = match scales {
                [] => own(),
                _ => scales[i % scales.len()],
            };
            let scale = if scale == 0.0 { f32::EPSILON } else { scale };
            for value in head {
                *value = self.cache.rounded(*value, scale);
            }
        }
    }
}

#[cfg(test)]
#[path = "kv_cache_tests.rs"]
mod tests;
