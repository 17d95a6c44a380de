//! Asks for an adapter and a device, and turns everything a GPU does wrong into an `Error`.

use super::pipeline::Pipelines;
use crate::error::{Code, Error, Result};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// What the caller asks of a device; `default()` takes the best adapter with all that it offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GpuOptions {
    /// Largest bytes of one binding, below what the adapter offers; tests cut matrices with it.
    pub max_binding: Option<u64>,
}

/// What was got: for reports, `doctor` and the model's info.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuInfo {
    /// Name that the driver gives; most browsers give none.
    pub name: String,
    /// `vulkan`, `metal`, `dx12` or `webgpu`.
    pub backend: String,
    /// Driver and its version; most browsers give none.
    pub driver: String,
    /// The adapter runs on the CPU: right for tests, slower than the CPU path.
    pub software: bool,
    /// Largest bytes of one storage binding; matrices are cut at it.
    pub max_binding: u64,
    /// Largest bytes of one buffer.
    pub max_buffer: u64,
}

/// What a pass needs from any device, beyond the defaults of the WebGPU specification.
const INVOCATIONS: u32 = 256;
const WORKGROUP_BYTES: u32 = 16 << 10;
const STORAGE_BUFFERS: u32 = 8;

#[cfg(not(target_arch = "wasm32"))]
type Scope = Pin<Box<dyn Future<Output = Option<wgpu::Error>> + Send>>;
#[cfg(target_arch = "wasm32")]
type Scope = Pin<Box<dyn Future<Output = Option<wgpu::Error>>>>;

/// A device with its queue, its pipelines and the first thing that went wrong on it.
pub struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(super) pipelines: Mutex<Pipelines>,
    info: GpuInfo,
    fault: Arc<Mutex<Option<Error>>>,
    /// Allocations whose out-of-memory scope has not answered yet: browsers answer later.
    scopes: Mutex<Vec<Scope>>,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu({:?})", self.info)
    }
}

impl Gpu {
    /// Takes the best adapter, a software one if there is no other; `no-device` without any.
    ///
    /// In a browser the caller looks for `navigator.gpu` first: outside windows and workers wgpu
    /// panics when an instance is made.
    pub async fn request(options: &GpuOptions) -> Result<Self> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let wanted = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        let adapter = instance.request_adapter(&wanted).await.map_err(|e| {
            Error::new(Code::NoDevice, format!("no GPU adapter: {e}"))
                .remedy("use device \"cpu\", or install a Vulkan driver")
        })?;
        let mut limits = adapter.limits();
        check_limits(&limits)?;
        if let Some(bytes) = options.max_binding {
            limits.max_storage_buffer_binding_size =
                limits.max_storage_buffer_binding_size.min(bytes);
        }
        let wanted = wgpu::DeviceDescriptor {
            label: Some("lowbit"),
            required_limits: limits.clone(),
            ..Default::default()
        };
        let (device, queue) = adapter.request_device(&wanted).await.map_err(|e| {
            Error::new(
                Code::NoDevice,
                format!("the GPU adapter gives no device: {e}"),
            )
        })?;
        let fault = watch(&device);
        Ok(Self {
            pipelines: Mutex::default(),
            info: info(&adapter.get_info(), &limits),
            fault,
            scopes: Mutex::default(),
            device,
            queue,
        })
    }

    /// What was got.
    pub fn info(&self) -> &GpuInfo {
        &self.info
    }

    /// The first error since the last check: `device-lost` for ever, others once.
    pub fn check(&self) -> Result<()> {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        match fault.as_ref() {
            None => Ok(()),
            Some(e) if e.code == Code::DeviceLost => Err(e.clone()),
            Some(_) => Err(fault.take().expect("it was matched as Some")),
        }
    }

    /// Makes a zeroed buffer; `out-of-memory` where the device says so at once.
    ///
    /// Browsers say it later: [`Gpu::settle`] waits for their answers.
    pub(crate) fn allocate(
        &self,
        label: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer> {
        let refused = |what: String| {
            Error::new(Code::OutOfMemory, what)
                .at(label)
                .remedy("keep fewer layers on the GPU or use a shorter context")
        };
        let limit = self.info.max_buffer;
        if bytes > limit {
            let what = format!("{bytes} bytes are more than the device's largest buffer, {limit}");
            return Err(refused(what));
        }
        let guard = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes.next_multiple_of(16).max(16),
            usage,
            mapped_at_creation: false,
        });
        let mut scope: Scope = Box::pin(guard.pop());
        match scope.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(None) => {}
            Poll::Ready(Some(_)) => return Err(refused(format!("the GPU refused {bytes} bytes"))),
            Poll::Pending => lock(&self.scopes).push(scope),
        }
        Ok(buffer)
    }

    /// Waits until every allocation so far is known to have worked.
    pub(crate) async fn settle(&self) -> Result<()> {
        let scopes = std::mem::take(&mut *lock(&self.scopes));
        for scope in scopes {
            if scope.await.is_some() {
                return Err(
                    Error::new(Code::OutOfMemory, "the GPU refused a buffer of the model")
                        .remedy("keep fewer layers on the GPU or use a shorter context"),
                );
            }
        }
        self.check()
    }

    /// Gives the device up at once, as a test of what its loss does.
    #[cfg(test)]
    pub(crate) fn destroy(&self) {
        self.device.destroy();
        let _ = self.device.poll(wgpu::PollType::wait_indefinitely());
    }
}

/// Locks even after a panic elsewhere: the values guarded here are whole after every statement.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Installs the handlers without which wgpu panics, and returns where they write.
fn watch(device: &wgpu::Device) -> Arc<Mutex<Option<Error>>> {
    let fault = Arc::new(Mutex::new(None::<Error>));
    let uncaptured = Arc::clone(&fault);
    device.on_uncaptured_error(Arc::new(move |e| {
        let code = match &e {
            wgpu::Error::OutOfMemory { .. } => Code::OutOfMemory,
            wgpu::Error::Validation { .. } | wgpu::Error::Internal { .. } => Code::Internal,
        };
        lock(&uncaptured).get_or_insert_with(|| Error::new(code, format!("the GPU reports: {e}")));
    }));
    let lost = Arc::clone(&fault);
    device.set_device_lost_callback(move |reason, message| {
        let what = format!("the GPU was lost ({reason:?}): {message}");
        let error = Error::new(Code::DeviceLost, what).remedy("load the model again");
        *lock(&lost) = Some(error);
    });
    fault
}

fn check_limits(limits: &wgpu::Limits) -> Result<()> {
    let found = [
        limits.max_compute_invocations_per_workgroup,
        limits.max_compute_workgroup_storage_size,
        limits.max_storage_buffers_per_shader_stage,
    ];
    let wanted = [INVOCATIONS, WORKGROUP_BYTES, STORAGE_BUFFERS];
    let names = [
        "invocations",
        "bytes of workgroup memory",
        "storage buffers",
    ];
    for i in 0..wanted.len() {
        if found[i] < wanted[i] {
            let what = format!(
                "the GPU offers {} {}, {} are needed",
                found[i], names[i], wanted[i]
            );
            return Err(Error::new(Code::NoDevice, what).remedy("use device \"cpu\""));
        }
    }
    Ok(())
}

fn info(adapter: &wgpu::AdapterInfo, limits: &wgpu::Limits) -> GpuInfo {
    GpuInfo {
        name: match &*adapter.name {
            "" => "unnamed adapter".into(),
            name => name.to_owned(),
        },
        driver: format!("{} {}", adapter.driver, adapter.driver_info)
            .trim()
            .to_owned(),
        software: adapter.device_type == wgpu::DeviceType::Cpu,
        backend: match adapter.backend {
            wgpu::Backend::BrowserWebGpu => "webgpu".into(),
            other => other.to_str().to_owned(),
        },
        max_binding: limits.max_storage_buffer_binding_size,
        max_buffer: limits.max_buffer_size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::block_on;
    use crate::gpu::testing::device;
    use wgpu::BufferUsages;

    #[test]
    fn a_lost_device_is_an_error_and_stays_one() {
        let Some(gpu) = device("lost device", &GpuOptions::default()) else {
            return;
        };
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let staging = gpu.allocate("staging", 64, usage).unwrap();
        gpu.destroy();
        for _ in 0..2 {
            let e = block_on(gpu.read(&staging, 64)).unwrap_err();
            assert_eq!(e.code, Code::DeviceLost, "{e}");
            assert_eq!(gpu.check().unwrap_err().code, Code::DeviceLost);
        }
    }

    #[test]
    fn misuse_is_an_error_and_not_a_panic() {
        let Some(gpu) = device("uncaptured error", &GpuOptions::default()) else {
            return;
        };
        let _ = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 64,
            usage: BufferUsages::MAP_READ | BufferUsages::MAP_WRITE | BufferUsages::STORAGE,
            mapped_at_creation: false,
        });
        assert_eq!(gpu.check().unwrap_err().code, Code::Internal);
        gpu.check().unwrap();
    }

    #[test]
    fn buffers_beyond_the_limits_are_refused_by_name() {
        let options = GpuOptions {
            max_binding: Some(1 << 20),
        };
        let Some(gpu) = device("refused buffer", &options) else {
            return;
        };
        let e = gpu.storage("keys", (1 << 20) + 1).unwrap_err();
        assert_eq!((e.code, &*e.place), (Code::OutOfMemory, "keys"));
        let usage = BufferUsages::STORAGE;
        let e = gpu
            .allocate("huge", gpu.info().max_buffer + 1, usage)
            .unwrap_err();
        assert_eq!(e.code, Code::OutOfMemory);
        gpu.check().unwrap();
    }
}
