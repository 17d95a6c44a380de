//! Devices, buffers, shader assembly and the recorded model pass.
//!
//! Every operation's host code and WGSL lie in its folder under `kernels/`; this folder holds what
//! they share: [`Gpu`] (device, pipelines, errors), [`GpuModel`] (blocks on the device, one command
//! buffer per pass) and [`GpuCache`] (keys and values of one sequence).
//! Only core WGSL with f32 sums: no f16, no subgroups, at most 256 invocations, 16 KiB of workgroup
//! memory and 8 storage buffers, so that software drivers and every browser run the same text.

mod buffers;
mod cache;
#[cfg(not(target_arch = "wasm32"))]
mod calibrate;
mod device;
mod dispatch;
mod head;
mod matrix;
mod model;
mod order;
mod pipeline;
mod product;
mod record;
mod shader;
mod support;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(not(target_arch = "wasm32"))]
mod wait;

pub use cache::GpuCache;
#[cfg(not(target_arch = "wasm32"))]
pub use calibrate::Calibrator;
pub use device::{Gpu, GpuInfo, GpuOptions};
pub use model::{Counts, GpuModel};
pub use product::GpuProduct;
pub use support::check as supports;
#[cfg(not(target_arch = "wasm32"))]
pub use wait::block_on;

#[cfg(test)]
pub(crate) use buffers::f32_from_bytes;
pub(crate) use buffers::{bytes_from_f32, bytes_from_u32};
pub(crate) use dispatch::{Dispatch, Grid, align};
pub(crate) use matrix::Matrix;
pub(crate) use shader::{Binding, Shader};
