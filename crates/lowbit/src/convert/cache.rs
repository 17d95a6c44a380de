//! Scales of the KV cache on their way: kept where the target has a place for them, told where not.

use super::source::{Logical, Source};
use crate::kv_cache::{self, is_scale};
use crate::layout::Layout;
use serde_json::Value;

impl Source {
    /// Whether a tensor is a scale of the KV cache.
    pub(super) fn is_cache_scale(&self, tensor: &Logical) -> bool {
        self.cache.is_some() && is_scale(&tensor.name)
    }

    /// What is to be said of those scales where a format has no place for them.
    pub(super) fn cache_lost(&self, format: &str) -> Option<String> {
        let name = self.cache?.name;
        Some(format!(
            "scales of the KV cache ({name}) are left out: format {format} has no place for them"
        ))
    }

    /// Writes what the config says of the cache into that of a layout with a place for it; what is to
    /// be said of the scales.
    pub(super) fn keep_cache(&self, layout: &dyn Layout, config: &mut Value) -> Option<String> {
        if !layout.holds_cache() {
            return self.cache_lost(layout.name());
        }
        self.cache?;
        config[kv_cache::KEY] = self.config["quantization_config"][kv_cache::KEY].clone();
        let edited = self.tensors.iter().any(Logical::is_edited);
        edited.then(|| "scales of the KV cache are those of the model without the adapter".into())
    }
}
