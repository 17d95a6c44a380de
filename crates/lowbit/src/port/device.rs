//! Which GPU a model gets, if any.

use super::Host;
use crate::error::{Code, Error, Result};
use crate::model::accelerator::Accelerator;
use crate::model::config::Config;
use crate::session::device::GpuModel;
use serde_json::Value;
use std::sync::Arc;
#[cfg(all(feature = "gpu", not(target_arch = "wasm32")))]
use std::{
    future::Future,
    task::{Context, Poll, Waker},
};

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
    open: std::sync::Mutex<Option<Arc<crate::gpu::Gpu>>>,
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
        let gpu = self.gpu().await?;
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

    /// The GPU that was opened before, or a new one.
    #[cfg(feature = "gpu")]
    async fn gpu(&self) -> Result<Arc<crate::gpu::Gpu>> {
        let known = super::shelf::lock(&self.open).clone();
        let gpu = match known.filter(|g| g.check().is_ok()) {
            Some(gpu) => gpu,
            None => Arc::new(crate::gpu::Gpu::request(&<_>::default()).await?),
        };
        *super::shelf::lock(&self.open) = Some(Arc::clone(&gpu));
        Ok(gpu)
    }

    /// The GPU for calibration; `no-device` without one, `unsupported` where it cannot be waited for.
    #[cfg(all(feature = "gpu", not(target_arch = "wasm32")))]
    pub(super) fn accelerator(&self, host: Host) -> Result<Arc<dyn Accelerator>> {
        if !host.gpu {
            return Err(none());
        }
        // Natively adapters and devices answer at once.
        let asked = std::pin::pin!(self.gpu());
        let Poll::Ready(gpu) = asked.poll(&mut Context::from_waker(Waker::noop())) else {
            return Err(Error::new(Code::Internal, "the GPU driver did not answer"));
        };
        Ok(Arc::new(crate::gpu::Calibrator::new(gpu?, None)?))
    }

    #[cfg(all(feature = "gpu", target_arch = "wasm32"))]
    #[expect(clippy::unused_self, reason = "same shape as where it waits")]
    pub(super) fn accelerator(&self, _host: Host) -> Result<Arc<dyn Accelerator>> {
        let what = "calibration on a GPU that cannot be waited for";
        Err(Error::new(Code::Unsupported, what).remedy("use device \"cpu\", or quantize in Node"))
    }

    #[cfg(not(feature = "gpu"))]
    #[expect(clippy::unused_self, reason = "same shape as where it waits")]
    pub(super) fn accelerator(&self, _host: Host) -> Result<Arc<dyn Accelerator>> {
        Err(none())
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
