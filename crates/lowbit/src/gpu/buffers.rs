//! Bytes to the device and back.

use super::device::{Gpu, lock};
use crate::error::{Code, Error, Result};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use wgpu::BufferUsages;

/// Bytes handed to the queue at once; it keeps a copy of each until the next submit.
const UPLOAD_BYTES: usize = 16 << 20;

/// Little-endian bytes of words.
pub(crate) fn bytes_from_u32(words: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0; words.len() * 4];
    for (b, w) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *b = w.to_le_bytes();
    }
    bytes
}

/// Little-endian bytes of floats.
pub(crate) fn bytes_from_f32(values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * 4];
    for (b, v) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
        *b = v.to_le_bytes();
    }
    bytes
}

/// Floats of little-endian bytes.
pub(crate) fn f32_from_bytes(bytes: &[u8]) -> Vec<f32> {
    let words = bytes.as_chunks::<4>().0.iter();
    words.map(|b| f32::from_le_bytes(*b)).collect()
}

impl Gpu {
    /// A storage buffer that shaders read and write, zeroed.
    pub(crate) fn storage(&self, label: &str, bytes: u64) -> Result<wgpu::Buffer> {
        let limit = self.info().max_binding;
        if bytes > limit {
            let what = format!("{bytes} bytes are more than one binding may hold, {limit}");
            return Err(Error::new(Code::OutOfMemory, what)
                .at(label)
                .remedy("use a shorter context or device \"cpu\""));
        }
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
        self.allocate(label, bytes, usage)
    }

    /// A storage buffer with content.
    pub(crate) fn upload(&self, label: &str, bytes: &[u8]) -> Result<wgpu::Buffer> {
        let buffer = self.storage(label, bytes.len() as u64)?;
        self.write(&buffer, bytes);
        Ok(buffer)
    }

    /// A uniform buffer that holds `words`, padded to 16 bytes.
    pub(crate) fn uniform(&self, label: &str, words: &[u32]) -> Result<wgpu::Buffer> {
        let usage = BufferUsages::UNIFORM | BufferUsages::COPY_DST;
        let buffer = self.allocate(label, words.len() as u64 * 4, usage)?;
        self.write(&buffer, &bytes_from_u32(words));
        Ok(buffer)
    }

    /// Writes bytes, whose length is a multiple of 4, to the start of a buffer.
    pub(crate) fn write(&self, buffer: &wgpu::Buffer, bytes: &[u8]) {
        let mut offset = 0;
        for chunk in bytes.chunks(UPLOAD_BYTES) {
            self.queue.write_buffer(buffer, offset, chunk);
            offset += chunk.len() as u64;
        }
    }

    /// Lets the device take what was written so far, so that the queue drops its copies.
    pub(crate) fn flush(&self) {
        self.queue.submit([]);
    }

    /// Waits until the work submitted so far is done and returns the first `bytes` of `staging`.
    ///
    /// Natively the device is polled here, so the future is ready at its first poll; a browser
    /// calls back. `staging` has the usage `MAP_READ`.
    pub(crate) async fn read(&self, staging: &wgpu::Buffer, bytes: u64) -> Result<Vec<u8>> {
        let answer = Answer::default();
        let slice = staging.slice(..bytes);
        slice.map_async(wgpu::MapMode::Read, answer.callback());
        #[cfg(not(target_arch = "wasm32"))]
        self.wait(None)?;
        let mapped = answer.await;
        self.check()?;
        let lost = |what: String| Error::new(Code::DeviceLost, what).remedy("load the model again");
        mapped.map_err(|e| lost(format!("reading from the GPU failed: {e}")))?;
        let view = slice.get_mapped_range().map_err(|e| lost(e.to_string()))?;
        let out = view.to_vec();
        drop(view);
        staging.unmap();
        Ok(out)
    }
}

/// What needs a GPU that can be waited for: a browser's calls back instead.
#[cfg(not(target_arch = "wasm32"))]
impl Gpu {
    /// Waits until a submission is done, or all so far.
    pub(crate) fn wait(&self, submission_index: Option<wgpu::SubmissionIndex>) -> Result<()> {
        let until = wgpu::PollType::Wait {
            submission_index,
            timeout: None,
        };
        let waited = self.device.poll(until);
        self.check()?;
        let what = |e| format!("waiting for the GPU failed: {e}");
        waited
            .map(|_| ())
            .map_err(|e| Error::new(Code::DeviceLost, what(e)))
    }

    /// Waits until all work is done and shows the first bytes of each of `staging`, in order.
    pub(crate) fn collect(
        &self,
        staging: &[(&wgpu::Buffer, u64)],
        mut each: impl FnMut(usize, &[u8]),
    ) -> Result<()> {
        let map = |(buffer, bytes): &(&wgpu::Buffer, u64)| {
            let answer = Answer::default();
            let slice = buffer.slice(..*bytes);
            slice.map_async(wgpu::MapMode::Read, answer.callback());
            answer
        };
        let answers: Vec<_> = staging.iter().map(map).collect();
        self.wait(None)?;
        let lost = |what: String| Error::new(Code::DeviceLost, what);
        for (i, ((buffer, bytes), answer)) in staging.iter().zip(answers).enumerate() {
            let mapped = lock(&answer.0).0.take();
            if !matches!(mapped, Some(Ok(()))) {
                let what = format!("reading from the GPU failed: {mapped:?}");
                return Err(lost(what));
            }
            let view = buffer.slice(..*bytes).get_mapped_range();
            each(i, &view.map_err(|e| lost(e.to_string()))?);
            buffer.unmap();
        }
        Ok(())
    }

    /// Writes rows of `width` floats to the start of a buffer, padded with zeros to `stride`.
    pub(crate) fn write_rows(
        &self,
        buffer: &wgpu::Buffer,
        x: &[f32],
        [width, stride]: [usize; 2],
    ) -> Result<()> {
        let bytes = (x.len() / width * stride * 4) as u64;
        let Some(size) = wgpu::BufferSize::new(bytes) else {
            return Ok(());
        };
        let Some(mut view) = self.queue.write_buffer_with(buffer, 0, size) else {
            self.check()?;
            let what = format!("the GPU took no {bytes} bytes of inputs");
            return Err(Error::new(Code::OutOfMemory, what));
        };
        for (t, row) in x.chunks_exact(width).enumerate() {
            let (from, pad, end) = (
                4 * t * stride,
                4 * (t * stride + width),
                4 * (t + 1) * stride,
            );
            let words = view.slice(from..pad).into_chunks::<4>().0;
            words.write_iter(row.iter().map(|v| v.to_le_bytes()));
            view.slice(pad..end).fill(0);
        }
        Ok(())
    }
}

type Mapped = std::result::Result<(), wgpu::BufferAsyncError>;

/// A future that a callback completes.
#[derive(Debug, Default)]
struct Answer(Arc<Mutex<(Option<Mapped>, Option<Waker>)>>);

impl Answer {
    fn callback(&self) -> impl FnOnce(Mapped) + Send + 'static {
        let state = Arc::clone(&self.0);
        move |mapped| {
            let mut state = lock(&state);
            state.0 = Some(mapped);
            if let Some(waker) = state.1.take() {
                waker.wake();
            }
        }
    }
}

impl Future for Answer {
    type Output = Mapped;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Mapped> {
        let mut state = lock(&self.0);
        if let Some(mapped) = state.0.take() {
            return Poll::Ready(mapped);
        }
        state.1 = Some(context.waker().clone());
        Poll::Pending
    }
}
