//! The matrices of one block, brought to the device when they are first asked for.
//!
//! Floats lie there in the type they are stored in, codes as the floats that they stand for.

use super::{Room, Work, grown, staging};
use crate::cpu::Cpu;
use crate::error::Result;
use crate::gpu::device::lock;
use crate::gpu::dispatch::align;
use crate::kernels::matmul::Weight;
use crate::kernels::matmul::activations::fake_quantize;
use crate::kernels::matmul::many::gpu::DenseRows;
use crate::model::accelerator::{Output, Products};
use crate::model::ops::Part;
use crate::tensor::Dtype;
use std::borrow::Cow;
use std::sync::{Arc, Mutex};

/// Bytes of a matrix that are handed over at once.
const STEP_BYTES: usize = 16 << 20;

/// A matrix in parts that fit into a binding.
type Parts = Arc<Vec<DenseRows>>;

#[derive(Debug)]
pub(super) struct BlockOnDevice {
    room: Arc<Room>,
    matrices: Mutex<Vec<(Part, Parts)>>,
}

impl BlockOnDevice {
    pub(super) fn new(room: &Arc<Room>) -> Self {
        Self {
            room: Arc::clone(room),
            matrices: Mutex::default(),
        }
    }

    fn matrix(&self, cpu: &Cpu, output: &Output<'_>) -> Result<Parts> {
        let mut matrices = lock(&self.matrices);
        if let Some((_, parts)) = matrices.iter().find(|(part, _)| *part == output.part) {
            return Ok(Arc::clone(parts));
        }
        let parts = Arc::new(upload(&self.room, cpu, output.weight)?);
        matrices.push((output.part, Arc::clone(&parts)));
        Ok(parts)
    }

    /// Products of one input, rounded already.
    fn batch(&self, cpu: &Cpu, x: &[f32], mut outputs: Vec<&mut Output<'_>>) -> Result<()> {
        let matrices = outputs.iter().map(|o| self.matrix(cpu, o));
        let matrices = matrices.collect::<Result<Vec<_>>>()?;
        let cols = outputs.first().map_or(1, |o| o.weight.cols());
        let widest = outputs.iter().map(|o| o.weight.rows()).max().unwrap_or(0);
        let step = self.room.rows(widest.max(align(cols)))?;
        let rows: Vec<_> = outputs.iter().map(|o| o.weight.rows()).collect();
        for (i, x) in x.chunks(step * cols).enumerate() {
            let tokens = x.len() / cols;
            let bytes: Vec<_> = rows.iter().map(|r| (4 * tokens * r) as u64).collect();
            let mut work = self.room.work();
            work.take_input(&self.room, x, cols, align(cols))?;
            self.submit(&mut work, &matrices, &bytes, tokens)?;
            let staged = work.staging.iter().flatten().zip(&bytes);
            let staged: Vec<_> = staged.map(|(b, bytes)| (b, *bytes)).collect();
            self.room.gpu.collect(&staged, |o, bytes| {
                let y = &mut outputs[o].y[i * step * rows[o]..][..tokens * rows[o]];
                for (y, word) in y.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *y = f32::from_le_bytes(*word);
                }
            })?;
        }
        Ok(())
    }

    /// Hands over one product for each matrix, and copies of `bytes` of each to be read back.
    fn submit(
        &self,
        work: &mut Work,
        matrices: &[Parts],
        bytes: &[u64],
        tokens: usize,
    ) -> Result<()> {
        let gpu = &*self.room.gpu;
        let Work {
            now,
            input,
            outputs,
            staging: staged,
            ..
        } = work;
        let places = outputs.len().max(matrices.len());
        outputs.resize(places, None);
        staged.resize(places, None);
        let mut encoder = self.room.encoder();
        for ((parts, bytes), (y, back)) in
            (matrices.iter().zip(bytes)).zip(outputs.iter_mut().zip(staged))
        {
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
            let y = grown(gpu, y, "outputs", *bytes, usage)?;
            let back = staging(gpu, back, *bytes)?;
            for (part, x) in parts.iter().zip(input.iter().cycle()) {
                let product = part.product(gpu, now, [x, y]);
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                product.record(&mut pass, tokens as u32);
            }
            encoder.copy_buffer_to_buffer(y, 0, back, 0, *bytes);
        }
        work.submit(&self.room, encoder)
    }
}

impl Products for BlockOnDevice {
    fn run(&self, cpu: &Cpu, x: &[f32], outputs: &mut [Output<'_>]) -> Result<()> {
        let mut rest: Vec<&mut Output<'_>> = outputs.iter_mut().collect();
        while let Some(first) = rest.first() {
            let (cols, own) = (first.weight.cols(), first.weight.inputs().copied());
            let alike = |o: &&mut Output<'_>| o.weight.inputs() == own.as_ref();
            let (batch, others) = rest.into_iter().partition(alike);
            rest = others;
            let x = match &own {
                Some(own) => Cow::Owned(fake_quantize(cpu, x, cols, own)),
                None => Cow::Borrowed(x),
            };
            self.batch(cpu, &x, batch)?;
        }
        Ok(())
    }
}

/// Brings a matrix to the device.
fn upload(room: &Room, cpu: &Cpu, weight: &Weight) -> Result<Vec<DenseRows>> {
    let gpu = &*room.gpu;
    let (rows, cols, dtype) = (weight.rows(), weight.cols(), weight.row_dtype());
    let value = dtype.bits() / 8;
    let (row, padded) = (cols * value, align(cols) * value);
    let kind = match dtype {
        Dtype::F16 => 1,
        Dtype::BF16 => 2,
        _ => 0,
    };
    let most = room.rows(padded.div_ceil(4))?;
    let step = (STEP_BYTES / padded.max(1)).max(1);
    let mut parts = Vec::new();
    for first in (0..rows).step_by(most) {
        let count = most.min(rows - first);
        let buffer = gpu.storage("weights", (count * padded) as u64)?;
        for from in (0..count).step_by(step) {
            let mut bytes = vec![0; step.min(count - from) * padded];
            cpu.run_chunks(&mut bytes, padded, true, |r, out| {
                weight.row_bytes(first + from + r, &mut out[..row]);
            });
            gpu.queue
                .write_buffer(&buffer, (from * padded) as u64, &bytes);
            // The queue keeps a copy of every write until the next submit.
            gpu.flush();
        }
        parts.push(DenseRows::new(
            gpu,
            buffer,
            kind,
            [first, count, rows, cols],
        )?);
    }
    Ok(parts)
}
