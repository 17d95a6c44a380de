//! Calibration's sums on the device: products of a block and second moments of its inputs.
//!
//! ```text
//! x ─► input ─► y of every matrix that reads it ─► read back at once      one submit, one wait
//!          └──► second moments, which stay here until a tile of tokens is complete   no wait
//! ```
//! Plain f32, in the kernels' own order of sums, so that neither the cut into bindings nor the number
//! of threads can be seen in the result. At most two submits are on their way before the CPU waits.

mod block;
mod moments;
#[cfg(test)]
mod tests;

use super::bytes_from_u32;
use super::device::{Gpu, lock};
use crate::error::{Code, Error, Result};
use crate::model::accelerator::{Accelerator, Adapter, Moments, Products};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

/// Bytes of a binding, unless the adapter offers less: what every adapter offers.
const BINDING: u64 = 128 << 20;

/// Submits on their way.
const FLYING: usize = 2;

/// A GPU that multiplies for calibration.
#[derive(Debug)]
pub struct Calibrator {
    adapter: Adapter,
    room: Arc<Room>,
}

impl Calibrator {
    /// Takes a device; no binding is larger than `limit`, 128 MiB or what the adapter offers.
    pub fn new(gpu: Arc<Gpu>, limit: Option<u64>) -> Result<Self> {
        let info = gpu.info();
        let adapter = Adapter {
            name: info.name.clone(),
            backend: info.backend.clone(),
            driver: info.driver.clone(),
            software: info.software,
        };
        let limit = limit.unwrap_or(BINDING).min(info.max_binding);
        let work = Work {
            now: gpu.uniform("pass", &[0; 4])?,
            input: None,
            outputs: Vec::new(),
            staging: Vec::new(),
            flying: VecDeque::new(),
        };
        let room = Arc::new(Room {
            gpu,
            limit,
            work: Mutex::new(work),
        });
        Ok(Self { adapter, room })
    }
}

impl Accelerator for Calibrator {
    fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    fn block(&self) -> Result<Box<dyn Products>> {
        self.room.gpu.check()?;
        Ok(Box::new(block::BlockOnDevice::new(&self.room)))
    }

    fn moments(&self, n: usize) -> Result<Box<dyn Moments>> {
        let moments = moments::MomentsOnDevice::new(&self.room, n)?;
        Ok(Box::new(moments))
    }
}

/// A device with the buffers that all work on it shares.
#[derive(Debug)]
struct Room {
    gpu: Arc<Gpu>,
    /// Largest bytes of a binding.
    limit: u64,
    work: Mutex<Work>,
}

#[derive(Debug)]
struct Work {
    /// The prelude's `Pass`.
    now: wgpu::Buffer,
    input: Option<wgpu::Buffer>,
    /// By place in a batch of products.
    outputs: Vec<Option<wgpu::Buffer>>,
    staging: Vec<Option<wgpu::Buffer>>,
    flying: VecDeque<wgpu::SubmissionIndex>,
}

impl Room {
    fn work(&self) -> MutexGuard<'_, Work> {
        lock(&self.work)
    }

    /// How many rows of `width` floats fit into a binding; `unsupported` when not one does.
    fn rows(&self, width: usize) -> Result<usize> {
        let rows = self.limit / (4 * width.max(1)) as u64;
        if rows == 0 {
            let what = format!("a row of {width} values is more than one binding holds");
            return Err(Error::new(Code::Unsupported, what).remedy("use device \"cpu\""));
        }
        Ok(usize::try_from(rows).unwrap_or(usize::MAX))
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        let descriptor = wgpu::CommandEncoderDescriptor {
            label: Some("calibration"),
        };
        self.gpu.device.create_command_encoder(&descriptor)
    }
}

impl Work {
    /// Puts rows of `width` floats, padded to `stride`, where kernels read them.
    fn take_input(&mut self, room: &Room, x: &[f32], width: usize, stride: usize) -> Result<()> {
        let tokens = x.len() / width;
        let gpu = &*room.gpu;
        let bytes = (4 * tokens * stride) as u64;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let input = grown(gpu, &mut self.input, "inputs", bytes, usage)?;
        gpu.write_rows(input, x, [width, stride])?;
        gpu.write(&self.now, &bytes_from_u32(&[tokens as u32, 0, 0, 0]));
        Ok(())
    }

    /// Hands work to the device and waits for what was handed over before the last.
    fn submit(&mut self, room: &Room, encoder: wgpu::CommandEncoder) -> Result<()> {
        self.flying
            .push_back(room.gpu.queue.submit([encoder.finish()]));
        while self.flying.len() > FLYING {
            let first = self.flying.pop_front();
            room.gpu.wait(first)?;
        }
        Ok(())
    }
}

/// A buffer of at least so many bytes: the one that is there, or a new one in its place.
fn grown<'a>(
    gpu: &Gpu,
    slot: &'a mut Option<wgpu::Buffer>,
    label: &str,
    bytes: u64,
    usage: wgpu::BufferUsages,
) -> Result<&'a wgpu::Buffer> {
    if slot.as_ref().is_none_or(|b| b.size() < bytes) {
        // The old one is given back first.
        *slot = None;
        *slot = Some(gpu.allocate(label, bytes, usage)?);
    }
    let none = || Error::new(Code::Internal, "a buffer was not made");
    slot.as_ref().ok_or_else(none)
}

/// A buffer to read back through.
fn staging<'a>(
    gpu: &Gpu,
    slot: &'a mut Option<wgpu::Buffer>,
    bytes: u64,
) -> Result<&'a wgpu::Buffer> {
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    grown(gpu, slot, "read-back", bytes, usage)
}
