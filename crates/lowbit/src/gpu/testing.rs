//! What the conformance tests of GPU kernels share: a device, guarded activations, comparison.
//!
//! Activations are given one row more than a kernel is told of, and columns up to their stride;
//! both hold a sentinel that no kernel may touch. A GPU has no other way to show a stray write.

use super::buffers::f32_from_bytes;
use super::{Gpu, GpuOptions, block_on, bytes_from_f32};

/// What guards hold.
const SENTINEL: f32 = -12345.5;

/// A device, or none where the machine has no adapter: then the test `name` counts as skipped.
///
/// `LOWBIT_GPU=require` makes that a failure.
pub(crate) fn device(name: &str, options: &GpuOptions) -> Option<Gpu> {
    match block_on(Gpu::request(options)) {
        Ok(gpu) => Some(gpu),
        Err(e) if std::env::var("LOWBIT_GPU").is_ok_and(|v| v == "require") => {
            panic!("{name}: LOWBIT_GPU=require and {e}")
        }
        Err(_) => {
            println!("skipped: {name}: no GPU adapter");
            None
        }
    }
}

/// A device with what a kernel's test needs of it.
pub(crate) struct Bench {
    pub(crate) gpu: Gpu,
}

impl Bench {
    /// A device, or none where the test is skipped.
    pub(crate) fn new(name: &str) -> Option<Self> {
        let gpu = device(name, &GpuOptions::default())?;
        Some(Self { gpu })
    }

    /// The `Pass` of the prelude.
    pub(crate) fn now(&self, tokens: usize, position: usize, first: usize) -> wgpu::Buffer {
        let words = [tokens as u32, position as u32, first as u32, 0];
        self.gpu.uniform("pass", &words).unwrap()
    }

    /// Rows of `width` values in rows of `stride`, padded with zeros as activations are.
    pub(crate) fn input(&self, values: &[f32], width: usize, stride: usize) -> wgpu::Buffer {
        self.rows(values, width, stride, 0.0)
    }

    /// The same with guards: for what a kernel writes.
    pub(crate) fn guarded(&self, values: &[f32], width: usize, stride: usize) -> wgpu::Buffer {
        self.rows(values, width, stride, SENTINEL)
    }

    fn rows(&self, values: &[f32], width: usize, stride: usize, pad: f32) -> wgpu::Buffer {
        let mut all = vec![pad; (values.len() / width + 1) * stride];
        for (to, from) in all.chunks_mut(stride).zip(values.chunks(width)) {
            to[..width].copy_from_slice(from);
        }
        self.gpu.upload("rows", &bytes_from_f32(&all)).unwrap()
    }

    /// Runs what `record` records and returns the rows of a guarded buffer.
    pub(crate) fn run(
        &self,
        output: &wgpu::Buffer,
        width: usize,
        stride: usize,
        record: impl FnOnce(&mut wgpu::ComputePass<'_>),
    ) -> Vec<f32> {
        let all = f32_from_bytes(&self.bytes(output, record));
        let rows = all.len() / stride - 1;
        let mut values = Vec::new();
        for (r, row) in all.chunks_exact(stride).enumerate() {
            let kept = if r < rows { width } else { 0 };
            values.extend_from_slice(&row[..kept]);
            let stray = row[kept..].iter().position(|v| *v != SENTINEL);
            assert_eq!(stray, None, "written beyond row {r} of {rows} × {width}");
        }
        values
    }

    /// Runs what `record` records and returns a whole buffer.
    pub(crate) fn bytes(
        &self,
        output: &wgpu::Buffer,
        record: impl FnOnce(&mut wgpu::ComputePass<'_>),
    ) -> Vec<u8> {
        let gpu = &self.gpu;
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = gpu.allocate("staging", output.size(), usage).unwrap();
        let descriptor = wgpu::CommandEncoderDescriptor::default();
        let mut encoder = gpu.device.create_command_encoder(&descriptor);
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        record(&mut pass);
        drop(pass);
        encoder.copy_buffer_to_buffer(output, 0, &staging, 0, output.size());
        gpu.queue.submit([encoder.finish()]);
        block_on(gpu.read(&staging, output.size())).unwrap()
    }
}

/// Asserts `|found − wanted| ≤ bound` and prints the worst element as a share of its bound.
pub(crate) fn assert_within(name: &str, found: &[f32], wanted: &[f32], bound: &[f32]) {
    assert_eq!(found.len(), wanted.len(), "{name}");
    let mut worst = (0.0f32, 0);
    for (i, ((f, w), b)) in found.iter().zip(wanted).zip(bound).enumerate() {
        let share = (f - w).abs() / b.max(f32::MIN_POSITIVE);
        if share > worst.0 || share.is_nan() {
            worst = (share, i);
        }
        if share.is_nan() {
            break;
        }
    }
    let (share, i) = worst;
    assert!(
        share <= 1.0,
        "{name}: element {i} is {} for {}, {share} times the bound {}",
        found[i],
        wanted[i],
        bound[i]
    );
    println!("{name}: worst error is {share:.3} of the bound");
}
