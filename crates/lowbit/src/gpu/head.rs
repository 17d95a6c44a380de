//! Final norm, output head and the choice of candidates on the device.

use super::device::Gpu;
use super::dispatch::{Dispatch, align};
use super::matrix::Matrix;
use super::record::Room;
use super::{bytes_from_f32, bytes_from_u32};
use crate::error::Result;
use crate::kernels::matmul::gpu::{Io, Product};
use crate::kernels::rms_norm::gpu::rms_norm;
use crate::kernels::top_k::gpu::TopK;
use crate::model::Stored;
use crate::model::ops::Slot;

/// Rows of logits made at once when all are wanted.
const ROWS: usize = 16;

/// The head and what it writes.
#[derive(Debug)]
pub(super) struct Head {
    /// Its own `Pass`: fewer rows than the blocks' one, starting further down.
    now: wgpu::Buffer,
    norm: Dispatch,
    product: Product,
    top: TopK,
    logits: wgpu::Buffer,
    vocabulary: usize,
    /// Rows of logits that the buffer holds.
    pub(super) rows: usize,
}

impl Head {
    pub(super) fn new(
        gpu: &Gpu,
        room: &Room,
        norm: &[f32],
        (head, vocabulary): (&Stored, usize),
    ) -> Result<Self> {
        let now = gpu.uniform("head pass", &[0; 4])?;
        let stride = align(vocabulary);
        let limit = usize::try_from(gpu.info().max_binding).unwrap_or(usize::MAX);
        let rows = (limit / (stride * 4)).clamp(1, ROWS.min(room.chunk));
        let logits = gpu.storage("logits", (rows * stride * 4) as u64)?;
        let weight = gpu.upload("final norm", &bytes_from_f32(norm))?;
        let (hidden, _) = room.slot(Slot::Hidden);
        let (normed, from_stride) = room.slot(Slot::Normed);
        let matrix = Matrix::upload(gpu, head, None).map_err(|e| e.at("output head"))?;
        let io = Io {
            from: normed,
            from_stride,
            to: &logits,
            to_stride: stride,
            accumulate: false,
        };
        let gathered = |width: usize| gpu.storage("gathered", (room.chunk * width * 4) as u64);
        Ok(Self {
            norm: rms_norm(gpu, room.row_norm(), &now, &weight, [hidden, normed])?,
            product: Product::new(gpu, &matrix, &now, io, gathered)?,
            top: TopK::new(gpu, vocabulary, &logits)?,
            now,
            logits,
            vocabulary,
            rows,
        })
    }

    /// Says which rows of the residual stream the next submitted pass is about.
    pub(super) fn aim(&self, gpu: &Gpu, first: usize, rows: usize) {
        gpu.write(
            &self.now,
            &bytes_from_u32(&[rows as u32, 0, first as u32, 0]),
        );
    }

    /// Records norm and head for `rows` rows, and the choice of candidates in the first of them.
    pub(super) fn record(&self, pass: &mut wgpu::ComputePass<'_>, rows: usize, choose: bool) {
        self.norm.record(pass, rows as u32);
        self.product.record(pass, rows as u32);
        if choose {
            for dispatch in &self.top.passes {
                dispatch.record(pass, 1);
            }
        }
    }

    /// Bytes that `copy_logits` writes.
    pub(super) fn logit_bytes(&self, rows: usize) -> u64 {
        (rows * self.vocabulary * 4) as u64
    }

    /// Copies rows of logits, without their padding, to the start of `staging`.
    pub(super) fn copy_logits(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        rows: usize,
        staging: &wgpu::Buffer,
    ) {
        let bytes = self.logit_bytes(1);
        let stride = (align(self.vocabulary) * 4) as u64;
        for row in 0..rows as u64 {
            encoder.copy_buffer_to_buffer(&self.logits, row * stride, staging, row * bytes, bytes);
        }
    }

    /// Copies the result with `k` candidates to the start of `staging`.
    pub(super) fn copy_top(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        k: usize,
        staging: &wgpu::Buffer,
    ) {
        encoder.copy_buffer_to_buffer(&self.top.result, 0, staging, 0, TopK::bytes(k));
    }

    /// The candidates and the logarithm of the sum.
    pub(super) fn top(&self, bytes: &[u8]) -> Result<crate::session::Top> {
        self.top.parse(bytes)
    }
}
