//! Blocks and head on the device: one command buffer, one submit and one read-back per token.
//!
//! ```text
//! hidden ─ write ─► Hidden ─► block 0 ─► … ─► final norm ─► head ─► top-k ─ copy ─► a few hundred bytes
//!                    └──────────────── one compute pass ────────────────┘
//! ```

use super::buffers::f32_from_bytes;
use super::cache::GpuCache;
use super::device::{Gpu, lock};
use super::head::Head;
use super::record::{Planned, Room, plan};
use super::{bytes_from_f32, bytes_from_u32};
use crate::error::{Code, Error, Result};
use crate::kernels::top_k::gpu::{KEEP, TopK};
use crate::model::config::Config;
use crate::model::ops::Slot;
use crate::model::rotary::Rotary;
use crate::model::{Block, Stored};
use crate::session::{Output, Want, top};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// How often the device was given work and asked for results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Command buffers submitted by passes.
    pub submits: u64,
    /// Buffers mapped to read results.
    pub readbacks: u64,
}

/// The last blocks of a model and its head, on a GPU.
pub struct GpuModel {
    gpu: Arc<Gpu>,
    room: Room,
    vocabulary: usize,
    blocks: Vec<Vec<Planned>>,
    head: Option<Head>,
    /// Held from the first write of a pass to its submit: activations are shared by sequences.
    turn: Mutex<Rotary>,
    /// Read-back buffers that no pass uses now.
    idle: Mutex<Vec<wgpu::Buffer>>,
    submits: AtomicU64,
    readbacks: AtomicU64,
}

impl std::fmt::Debug for GpuModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "GpuModel({} blocks on {:?})",
            self.blocks.len(),
            self.gpu
        )
    }
}

impl GpuModel {
    /// An empty model; `unsupported` for heads that no kernel handles.
    pub fn new(gpu: Arc<Gpu>, config: &Config) -> Result<Self> {
        Ok(Self {
            room: Room::new(&gpu, config)?,
            vocabulary: config.vocabulary,
            blocks: Vec::new(),
            head: None,
            turn: Mutex::new(Rotary::new(config)),
            idle: Mutex::default(),
            submits: AtomicU64::new(0),
            readbacks: AtomicU64::new(0),
            gpu,
        })
    }

    /// Uploads the next block, in the order of the model.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "nobody needs it once it is uploaded"
    )]
    pub fn push_block(&mut self, block: Block<Stored>) -> Result<()> {
        let place = format!("block {} on the GPU", self.blocks.len());
        let planned = plan(&self.gpu, &self.room, &block).map_err(|e| e.at(&place))?;
        self.blocks.push(planned);
        self.gpu.check().map_err(|e| e.at(&place))
    }

    /// Uploads the final norm and the head, `[vocabulary, hidden]`.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "nobody needs it once it is uploaded"
    )]
    pub fn set_head(&mut self, norm: &[f32], head: Stored) -> Result<()> {
        let head = Head::new(&self.gpu, &self.room, norm, (&head, self.vocabulary))?;
        self.head = Some(head);
        self.gpu.check()
    }

    /// Blocks on the device.
    pub fn layers(&self) -> usize {
        self.blocks.len()
    }

    /// The device.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// The longest context whose keys fit into one binding.
    pub fn context_max(&self) -> usize {
        GpuCache::most(&self.gpu, &self.room)
    }

    /// Room for the keys and values of one sequence, after the last block was pushed; `context`
    /// beyond `context_max`.
    pub fn new_cache(&self, capacity_tokens: usize) -> Result<GpuCache> {
        GpuCache::new(&self.gpu, &self.room, self.blocks.len(), capacity_tokens)
    }

    /// How often passes submitted and read back since the model was made.
    pub fn counts(&self) -> Counts {
        Counts {
            submits: self.submits.load(Ordering::Relaxed),
            readbacks: self.readbacks.load(Ordering::Relaxed),
        }
    }

    /// Runs the blocks over `hidden [tokens, hidden]`, whose positions follow the cache's length.
    ///
    /// One submit per chunk of a prompt; with one token one submit and one read-back. After an
    /// error the cache's new positions are not filled: truncate it or drop it.
    /// `context` when the tokens do not fit, `device-lost` when the GPU went away,
    /// `nonfinite-logits` when candidates are wanted and a logit is NaN.
    pub async fn forward(
        &self,
        cache: &mut GpuCache,
        hidden: &[f32],
        want: Want,
    ) -> Result<Output> {
        let width = self.room.hidden;
        if hidden.is_empty() || !hidden.len().is_multiple_of(width) {
            let what = format!("{} floats are not rows of {width}", hidden.len());
            return Err(Error::new(Code::Shape, what));
        }
        cache.check(hidden.len() / width)?;
        self.gpu.settle().await?;
        let mut read = Vec::new();
        let chunks = hidden.chunks(self.room.chunk * width);
        let last = chunks.len() - 1;
        for (i, chunk) in chunks.enumerate() {
            let now = if i == last || want == Want::All {
                want
            } else {
                Want::Nothing
            };
            for (staging, bytes) in self.submit(cache, chunk, now)? {
                self.readbacks.fetch_add(1, Ordering::Relaxed);
                read.extend(self.gpu.read(&staging, bytes).await?);
                lock(&self.idle).push(staging);
            }
        }
        self.gpu.check()?;
        self.output(want, &read)
    }

    fn output(&self, want: Want, read: &[u8]) -> Result<Output> {
        match want {
            Want::Nothing => Ok(Output::Nothing),
            Want::Top(k) if k <= KEEP => Ok(Output::Top(self.head()?.top(read)?)),
            Want::Top(k) => Ok(Output::Top(top::select(&f32_from_bytes(read), k)?)),
            Want::Last | Want::All => Ok(Output::Logits(f32_from_bytes(read))),
        }
    }

    fn head(&self) -> Result<&Head> {
        let missing = || Error::new(Code::Internal, "the GPU holds no output head");
        self.head.as_ref().ok_or_else(missing)
    }

    /// Writes, records and submits one chunk; gives the buffers to read, in order.
    fn submit(
        &self,
        cache: &mut GpuCache,
        chunk: &[f32],
        want: Want,
    ) -> Result<Vec<(wgpu::Buffer, u64)>> {
        let gpu = &*self.gpu;
        let tokens = chunk.len() / self.room.hidden;
        let mut rotary = lock(&self.turn);
        self.write_inputs(&mut rotary, cache.len(), chunk);
        let mut encoder = self.encoder();
        cache.reserve(gpu, &self.room, &mut encoder, tokens)?;
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for (block, layer) in self.blocks.iter().zip(&cache.layers) {
            for step in block {
                step.record(&mut pass, tokens as u32, layer);
            }
        }
        let mut reads = Vec::new();
        match want {
            Want::Nothing => drop(pass),
            Want::All => {
                drop(pass);
                self.finish(encoder);
                encoder = self.all_logits(tokens, &mut reads)?;
            }
            Want::Top(_) | Want::Last => {
                let head = self.head()?;
                head.aim(gpu, tokens - 1, 1);
                let few = match want {
                    Want::Top(k) if k <= KEEP => Some(k.max(1)),
                    _ => None,
                };
                head.record(&mut pass, 1, few.is_some());
                drop(pass);
                let bytes = few.map_or(head.logit_bytes(1), TopK::bytes);
                let staging = self.staging(bytes)?;
                match few {
                    Some(k) => head.copy_top(&mut encoder, k, &staging),
                    None => head.copy_logits(&mut encoder, 1, &staging),
                }
                reads.push((staging, bytes));
            }
        }
        self.finish(encoder);
        cache.advance(tokens);
        Ok(reads)
    }

    /// Head passes over every row of the chunk that was just submitted; the last one is returned
    /// unsubmitted.
    fn all_logits(
        &self,
        tokens: usize,
        reads: &mut Vec<(wgpu::Buffer, u64)>,
    ) -> Result<wgpu::CommandEncoder> {
        let head = self.head()?;
        let mut first = 0;
        loop {
            let rows = head.rows.min(tokens - first);
            head.aim(&self.gpu, first, rows);
            let mut encoder = self.encoder();
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            head.record(&mut pass, rows, false);
            drop(pass);
            let bytes = head.logit_bytes(rows);
            let staging = self.staging(bytes)?;
            head.copy_logits(&mut encoder, rows, &staging);
            reads.push((staging, bytes));
            first += rows;
            if first == tokens {
                return Ok(encoder);
            }
            self.finish(encoder);
        }
    }

    fn write_inputs(&self, rotary: &mut Rotary, position: usize, chunk: &[f32]) {
        let gpu = &*self.gpu;
        let width = self.room.hidden;
        let tokens = chunk.len() / width;
        let now = [tokens as u32, position as u32, 0, 0];
        gpu.write(&self.room.now, &bytes_from_u32(&now));
        let (cos, sin) = rotary.tables(position, tokens);
        let turns: Vec<f32> = cos.iter().zip(sin).flat_map(|(c, s)| [*c, *s]).collect();
        gpu.write(&self.room.turns, &bytes_from_f32(&turns));
        let (buffer, stride) = self.room.slot(Slot::Hidden);
        if stride == width {
            return gpu.write(buffer, &bytes_from_f32(chunk));
        }
        let mut padded = vec![0.0; tokens * stride];
        for (to, from) in padded.chunks_mut(stride).zip(chunk.chunks(width)) {
            to[..width].copy_from_slice(from);
        }
        gpu.write(buffer, &bytes_from_f32(&padded));
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        let descriptor = wgpu::CommandEncoderDescriptor {
            label: Some("pass"),
        };
        self.gpu.device.create_command_encoder(&descriptor)
    }

    fn finish(&self, encoder: wgpu::CommandEncoder) {
        self.submits.fetch_add(1, Ordering::Relaxed);
        self.gpu.queue.submit([encoder.finish()]);
    }

    /// A buffer to read `bytes` through: an idle one that is large enough, or a new one.
    fn staging(&self, bytes: u64) -> Result<wgpu::Buffer> {
        let mut idle = lock(&self.idle);
        if let Some(i) = idle.iter().position(|b| b.size() >= bytes) {
            return Ok(idle.swap_remove(i));
        }
        drop(idle);
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        self.gpu.allocate("read-back", bytes, usage)
    }
}
