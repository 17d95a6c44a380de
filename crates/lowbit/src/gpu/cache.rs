//! Keys and values of one sequence on the device.

use super::device::Gpu;
use super::dispatch::Dispatch;
use super::record::Room;
use crate::error::{Code, Error, Result};
use crate::kernels::attention::gpu::{append, attention};
use crate::model::ops::Slot;

/// Tokens for which memory is taken at first.
const FIRST_TOKENS: usize = 64;

/// One block's keys and values, f32 `[allocated, kv_heads, head_dim]` with padded heads, and what reads them.
#[derive(Debug)]
pub(super) struct LayerCache {
    keys: wgpu::Buffer,
    values: wgpu::Buffer,
    pub(super) append: Dispatch,
    pub(super) attend: Dispatch,
}

impl LayerCache {
    fn new(gpu: &Gpu, room: &Room, tokens: usize) -> Result<Self> {
        let bytes = (tokens * room.heads.cache_width() * 4) as u64;
        let keys = gpu.storage("keys", bytes)?;
        let values = gpu.storage("values", bytes)?;
        let cache = [&keys, &values];
        let [q, k, v, attended] =
            [Slot::Q, Slot::K, Slot::V, Slot::Attended].map(|slot| room.slot(slot).0);
        let append = append(gpu, room.heads, &room.now, [k, v], cache)?;
        let attend = attention(gpu, room.heads, &room.now, cache, [q, attended])?;
        Ok(Self {
            keys,
            values,
            append,
            attend,
        })
    }
}

/// Keys and values of one sequence, for every block that the GPU holds.
///
/// Made by `GpuModel::new_cache`; memory grows by doubling up to the capacity.
#[derive(Debug)]
pub struct GpuCache {
    pub(super) layers: Vec<LayerCache>,
    /// Positions that are filled.
    len: usize,
    allocated: usize,
    capacity: usize,
}

impl GpuCache {
    /// `context` when one block's keys of `capacity` positions are more than a binding holds.
    pub(super) fn new(gpu: &Gpu, room: &Room, layers: usize, capacity: usize) -> Result<Self> {
        let most = Self::most(gpu, room);
        if capacity > most {
            let what = format!("a context of {capacity} tokens; the GPU binds {most} at once");
            return Err(Error::new(Code::Context, what).remedy(format!(
                "use a context of at most {most}, or device \"cpu\""
            )));
        }
        let allocated = capacity.min(FIRST_TOKENS);
        let layers = (0..layers).map(|_| LayerCache::new(gpu, room, allocated));
        Ok(Self {
            layers: layers.collect::<Result<_>>()?,
            len: 0,
            allocated,
            capacity,
        })
    }

    /// Positions of one block whose keys fit into a binding.
    pub(super) fn most(gpu: &Gpu, room: &Room) -> usize {
        let position_bytes = (room.heads.cache_width() * 4) as u64;
        usize::try_from(gpu.info().max_binding / position_bytes).unwrap_or(usize::MAX)
    }

    /// Positions that are filled.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no position is filled.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Positions that there may be.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets positions from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Counts positions that a submitted pass fills.
    pub(super) fn advance(&mut self, tokens: usize) {
        self.len += tokens;
    }

    /// `context` when `tokens` more do not fit.
    pub(super) fn check(&self, tokens: usize) -> Result<()> {
        if tokens <= self.capacity - self.len {
            return Ok(());
        }
        let what = format!(
            "{tokens} more tokens after {} do not fit into a context of {}",
            self.len, self.capacity
        );
        Err(Error::new(Code::Context, what).remedy("use a longer context or a shorter prompt"))
    }

    /// Makes room for `tokens` more, which fit; what is there is copied by commands in `encoder`.
    pub(super) fn reserve(
        &mut self,
        gpu: &Gpu,
        room: &Room,
        encoder: &mut wgpu::CommandEncoder,
        tokens: usize,
    ) -> Result<()> {
        let needed = self.len + tokens;
        if needed <= self.allocated {
            return Ok(());
        }
        let allocated = needed.max(2 * self.allocated).min(self.capacity);
        let bytes = (self.len * room.heads.cache_width() * 4) as u64;
        let mut grown = Vec::new();
        for old in &self.layers {
            let new = LayerCache::new(gpu, room, allocated)?;
            if bytes > 0 {
                encoder.copy_buffer_to_buffer(&old.keys, 0, &new.keys, 0, bytes);
                encoder.copy_buffer_to_buffer(&old.values, 0, &new.values, 0, bytes);
            }
            grown.push(new);
        }
        self.layers = grown;
        self.allocated = allocated;
        Ok(())
    }
}
