//! How a loaded model keeps keys and values: as they are, or in 8 bits with a checkpoint's scales.

use crate::error::{Code, Error, Result};
use crate::kv_cache::{self, KvCache, Rounding};
use crate::model::cached;
use crate::model::config::Config;
use crate::model::load::{Loader, TensorInfo};
use crate::tensor::Tensor;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The cache of a model that is being loaded.
#[derive(Debug)]
pub(super) struct Caching {
    cache: KvCache,
    /// What the checkpoint's scales were made for.
    of: KvCache,
    dim: usize,
    layers: usize,
    /// Names of the scales of keys and values, block by block; none to round without.
    names: Option<Vec<[String; 2]>>,
    roundings: Vec<Arc<Rounding>>,
}

impl Caching {
    /// What a request asks for, if it does: `option` for an unknown scheme, `unsupported` for a model
    /// without such a cache and on a GPU, and codes as in `cached::stored_scales`.
    pub(super) fn new(
        asked: Option<&str>,
        device: &str,
        loader: &Loader,
        infos: &BTreeMap<String, TensorInfo>,
    ) -> Result<Option<Self>> {
        let Some(name) = asked else {
            return Ok(None);
        };
        let config: &Config = loader.config();
        let cache = kv_cache::find(name)?;
        if cache.per_head {
            let what = format!("kvCache {name}: the checkpoint says whether heads have their own");
            return Err(Error::new(Code::Option, what).remedy("use fp8 or int8"));
        }
        if device == "gpu" {
            let what =
                format!("kvCache {name} on the GPU, which keeps keys and values as they are");
            return Err(Error::new(Code::Unsupported, what).remedy("use device \"cpu\""));
        }
        cached::check(config)?;
        let names = cached::stored_scales(config, |name| infos.get(name).cloned())?;
        let said = loader.resolver().and_then(|r| r.cache);
        Ok(Some(Self {
            cache,
            // Without a scheme, scales are those of E4M3: other checkpoints hold no others.
            of: said.unwrap_or(kv_cache::KV_CACHES[0]),
            dim: config.head_dim,
            layers: config.layers,
            names,
            roundings: Vec::new(),
        }))
    }

    /// The tensors that are not read yet.
    pub(super) fn wants(&self) -> Vec<String> {
        let unread = self.roundings.is_empty();
        let names = self.names.iter().filter(|_| unread);
        names.flatten().flatten().cloned().collect()
    }

    /// Takes those tensors, in that order.
    pub(super) fn supply(&mut self, tensors: &[Tensor]) -> Result<()> {
        for pair in tensors.chunks_exact(2) {
            let scales = [
                cached::scale_values(&pair[0])?,
                cached::scale_values(&pair[1])?,
            ];
            let rounding = Rounding::new(self.cache, self.dim, self.of, scales);
            self.roundings.push(Arc::new(rounding));
        }
        Ok(())
    }

    /// What is worth knowing of it: `{ scheme, scales }`.
    pub(super) fn info(&self) -> Value {
        let scales = match (&self.names, self.cache.float) {
            (Some(_), _) => "checkpoint",
            (None, true) => "one",
            (None, false) => "token",
        };
        json!({ "scheme": self.cache.name, "scales": scales })
    }

    /// A rounding for each block.
    pub(super) fn roundings(self) -> Vec<Arc<Rounding>> {
        if self.names.is_some() {
            return self.roundings;
        }
        let same = Arc::new(Rounding::uncalibrated(self.cache, self.dim));
        vec![same; self.layers]
    }
}
