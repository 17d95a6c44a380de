//! Second moments that are summed on the device until a tile of tokens is complete.

use super::{Room, staging};
use crate::error::{Code, Error, Result};
use crate::gpu::dispatch::align;
use crate::kernels::gram::gpu::{GramRows, SIDE, TOKENS};
use crate::model::accelerator::{Moments, Sums};
use std::ops::Range;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct MomentsOnDevice {
    room: Arc<Room>,
    n: usize,
    /// Rows that fit into a binding, as far as the diagonal.
    bands: Vec<GramRows>,
}

impl MomentsOnDevice {
    pub(super) fn new(room: &Arc<Room>, n: usize) -> Result<Self> {
        let gpu = &*room.gpu;
        let bands = bands(n, room.limit)?;
        let bands = bands
            .into_iter()
            .map(|b| GramRows::new(gpu, b.start, b.len(), n));
        Ok(Self {
            room: Arc::clone(room),
            n,
            bands: bands.collect::<Result<_>>()?,
        })
    }
}

impl Moments for MomentsOnDevice {
    fn add(&mut self, x: &[f32]) -> Result<()> {
        let stride = align(self.n);
        // Whole sums of the kernel, so that the cut cannot be seen in the result.
        let step = self.room.rows(stride)? / TOKENS * TOKENS;
        if step == 0 {
            return Err(too_wide(self.n));
        }
        for x in x.chunks(step * self.n) {
            let mut work = self.room.work();
            work.take_input(&self.room, x, self.n, stride)?;
            let mut encoder = self.room.encoder();
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for (band, input) in self.bands.iter().zip(work.input.iter().cycle()) {
                let add = band.add(&self.room.gpu, &work.now, input);
                add.record(&mut pass, 1);
            }
            drop(pass);
            work.submit(&self.room, encoder)?;
        }
        Ok(())
    }

    fn take(&mut self, each: &mut dyn FnMut(Sums<'_>)) -> Result<()> {
        let gpu = &*self.room.gpu;
        for band in &self.bands {
            let bytes = (4 * band.rows * band.stride) as u64;
            let mut work = self.room.work();
            if work.staging.is_empty() {
                work.staging.push(None);
            }
            let back = staging(gpu, &mut work.staging[0], bytes)?.clone();
            let mut encoder = self.room.encoder();
            encoder.copy_buffer_to_buffer(&band.sums, 0, &back, 0, bytes);
            encoder.clear_buffer(&band.sums, 0, None);
            work.submit(&self.room, encoder)?;
            gpu.collect(&[(&back, bytes)], |_, bytes| {
                each(Sums {
                    first_row: band.first_row,
                    stride: band.stride,
                    bytes,
                });
            })?;
        }
        Ok(())
    }
}

/// Rows of each binding: whole tiles, as many as fit.
fn bands(n: usize, limit: u64) -> Result<Vec<Range<usize>>> {
    let fits = |first: usize, rows: usize| {
        let rows = rows.min(n - first);
        (4 * rows * GramRows::stride(first, rows)) as u64 <= limit
    };
    let mut bands = Vec::new();
    let mut first = 0;
    while first < n {
        if !fits(first, SIDE) {
            return Err(too_wide(n));
        }
        let mut rows = SIDE;
        while first + rows < n && fits(first, rows + SIDE) {
            rows += SIDE;
        }
        let end = n.min(first + rows);
        bands.push(first..end);
        first = end;
    }
    Ok(bands)
}

fn too_wide(n: usize) -> Error {
    let what = format!("inputs of width {n} are more than one binding holds");
    Error::new(Code::Unsupported, what).remedy("use device \"cpu\"")
}
