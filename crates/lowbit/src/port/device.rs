//! Which GPU a model gets, if any.

use super::Host;
use crate::error::{Code, Error, Result};
use crate::model::config::Config;
use crate::session::device::GpuModel;
use serde_json::Value;

/// The device that was chosen for a model's last blocks and head.
#[derive(Debug)]
pub(super) struct Chosen {
    /// Takes the blocks.
    pub(super) model: GpuModel,
    /// JSON `{ name, backend, software }`.
    pub(super) info: Value,
    /// Longest context that fits into a binding.
    pub(super) context_max: usize,
}

/// The GPU that is shared by the models of a port.
#[derive(Debug, Default)]
pub(super) struct Gpus {
    #[cfg(feature = "gpu")]
    open: std::sync::Mutex<Option<std::sync::Arc<crate::gpu::Gpu>>>,
}

impl Gpus {
    /// Follows `device`: `cpu` never, `gpu` or `no-device`, `auto` only a real one.
    pub(super) async fn choose(
        &self,
        host: Host,
        device: &str,
        config: &Config,
    ) -> Result<Option<Chosen>> {
        if device == "cpu" {
            return Ok(None);
        }
        match self.open(host, config).await {
            // A software driver is slower than the CPU path: only who asks for it gets it.
            Ok(chosen) if device == "auto" && chosen.info["software"] != false => Ok(None),
            Ok(chosen) => Ok(Some(chosen)),
            Err(_) if device == "auto" => Ok(None),
            Err(error) => Err(error),
        }
    }

    #[cfg(feature = "gpu")]
    async fn open(&self, host: Host, config: &Config) -> Result<Chosen> {
        if !host.gpu {
            return Err(none());
        }
        let known = super::shelf::lock(&self.open).clone();
        let gpu = match known.filter(|g| g.check().is_ok()) {
            Some(gpu) => gpu,
            None => std::sync::Arc::new(crate::gpu::Gpu::request(&<_>::default()).await?),
        };
        *super::shelf::lock(&self.open) = Some(std::sync::Arc::clone(&gpu));
        let info = gpu.info();
        let position_bytes = 4 * (config.kv_heads * config.head_dim) as u64;
        Ok(Chosen {
            info: serde_json::json!({
                "name": info.name, "backend": info.backend, "software": info.software,
            }),
            context_max: usize::try_from(info.max_binding / position_bytes).unwrap_or(usize::MAX),
            model: GpuModel::new(gpu, config)?,
        })
    }

    #[cfg(not(feature = "gpu"))]
    #[expect(clippy::unused_async, reason = "same shape as with a GPU")]
    async fn open(&self, _host: Host, _config: &Config) -> Result<Chosen> {
        Err(none())
    }
}

fn none() -> Error {
    Error::new(Code::NoDevice, "no GPU can be reached from here").remedy("use device \"cpu\"")
}
