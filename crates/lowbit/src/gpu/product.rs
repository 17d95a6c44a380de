//! One matrix product on the device, for measurements: the caller holds the clock.

use super::buffers::f32_from_bytes;
use super::bytes_from_f32;
use super::device::Gpu;
use super::dispatch::align;
use super::matrix::Matrix;
use crate::error::{Code, Error, Result};
use crate::kernels::matmul::gpu::{Io, Product};
use crate::model::Stored;
use std::sync::Arc;

/// `y[tokens, rows] = x[tokens, cols] · Wᵀ` with the matrix on the device, run over and over.
#[derive(Debug)]
pub struct GpuProduct {
    gpu: Arc<Gpu>,
    product: Product,
    input: wgpu::Buffer,
    output: wgpu::Buffer,
    staging: wgpu::Buffer,
    tokens: usize,
    rows: usize,
    cols: usize,
}

impl GpuProduct {
    /// Uploads a matrix and makes room for `tokens` rows of inputs and outputs.
    pub fn new(gpu: Arc<Gpu>, weight: &Stored, tokens: usize) -> Result<Self> {
        let (rows, cols) = match weight {
            Stored::Dense(tensor) => tensor.view()?.matrix()?,
            Stored::Quantized(matrix) => (matrix.rows, matrix.cols),
        };
        let matrix = Matrix::upload(&gpu, weight, None)?;
        let bytes = |width: usize| (tokens * align(width) * 4) as u64;
        let input = gpu.storage("product input", bytes(cols))?;
        let output = gpu.storage("product output", bytes(rows))?;
        let now = gpu.uniform("pass", &[tokens as u32, 0, 0, 0])?;
        let io = Io {
            from: &input,
            from_stride: align(cols),
            to: &output,
            to_stride: align(rows),
            accumulate: false,
        };
        let gathered = |width: usize| gpu.storage("gathered", bytes(width));
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        Ok(Self {
            product: Product::new(&gpu, &matrix, &now, io, gathered)?,
            staging: gpu.allocate("product read-back", bytes(rows), usage)?,
            gpu,
            input,
            output,
            tokens,
            rows,
            cols,
        })
    }

    /// Uploads `x [tokens, cols]`, runs the product `repeats` times in one submit and reads
    /// `y [tokens, rows]` back; `shape` when `x` has another size.
    pub async fn run(&self, x: &[f32], repeats: usize) -> Result<Vec<f32>> {
        if x.len() != self.tokens * self.cols {
            let what = format!("{} floats for {} × {}", x.len(), self.tokens, self.cols);
            return Err(Error::new(Code::Shape, what));
        }
        self.gpu.settle().await?;
        let mut padded = vec![0.0; self.tokens * align(self.cols)];
        for (to, from) in padded.chunks_mut(align(self.cols)).zip(x.chunks(self.cols)) {
            to[..self.cols].copy_from_slice(from);
        }
        self.gpu.write(&self.input, &bytes_from_f32(&padded));
        let descriptor = wgpu::CommandEncoderDescriptor::default();
        let mut encoder = self.gpu.device.create_command_encoder(&descriptor);
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for _ in 0..repeats {
            self.product.record(&mut pass, self.tokens as u32);
        }
        drop(pass);
        let bytes = self.staging.size();
        encoder.copy_buffer_to_buffer(&self.output, 0, &self.staging, 0, bytes);
        self.gpu.queue.submit([encoder.finish()]);
        let all = f32_from_bytes(&self.gpu.read(&self.staging, bytes).await?);
        let rows = all.chunks(align(self.rows));
        Ok(rows.flat_map(|row| &row[..self.rows]).copied().collect())
    }
}
