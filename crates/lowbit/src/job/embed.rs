//! The first activations: embedding rows of the calibration tokens.

use super::identity::hex;
use super::journal::{Activations, Line};
use super::passes::{bytes_of, scratch_name};
use super::plan::Plan;
use super::step::{Unit, World};
use super::survey::measured_tokens;
use super::{Ask, pace};
use crate::error::{Code, Error, Result};
use crate::kernels::matmul::Weight;
use crate::model::forward::embed_from;
use crate::tensor::{TensorRef, round_to};
use sha2::{Digest, Sha256};

/// Writes the scratch file that block 0 reads.
#[derive(Debug)]
pub(super) struct Embed {
    tensor: String,
    asked: bool,
    embedding: Option<Weight>,
    /// First sample that is not written yet.
    first: usize,
    bytes: u64,
    hash: Sha256,
}

impl Embed {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            tensor: format!("{}.weight", plan.model.named(plan.model.arch().embed)),
            asked: false,
            embedding: None,
            first: 0,
            bytes: 0,
            hash: Sha256::new(),
        }
    }

    /// How much work it is, for progress.
    pub(super) fn work(plan: &Plan) -> u64 {
        let tokens = plan.calibration.map_or(0, |c| c.samples * c.length);
        pace::bytes_work((tokens * plan.model.hidden * 4) as u64)
    }
}

impl Unit for Embed {
    fn poll(&mut self, world: &mut World<'_>, answer: Vec<Vec<u8>>) -> Result<Option<Ask>> {
        let plan = world.plan;
        if self.asked {
            self.asked = false;
            let info = plan.tensor(&self.tensor)?;
            let mut bytes = answer.into_iter().next().unwrap_or_default();
            let policy = plan.nonfinite;
            // Zeroed values are reported where the tensor is copied.
            policy.check_copied(&info.name, info.dtype, &mut bytes, 0)?;
            let view = TensorRef::new(info.dtype, &info.shape, &bytes)?;
            self.embedding = Some(Weight::dense(view)?);
        }
        let Some(embedding) = &self.embedding else {
            self.asked = true;
            let tensors = vec![self.tensor.clone()];
            return Ok(Some(Ask::Read { tensors }));
        };
        let no_set = || Error::new(Code::Internal, "embedding without a calibration set");
        let set = plan.calibration.ok_or_else(no_set)?;
        if self.first == 0 && plan.budget.is_some() {
            let (samples, length) = measured_tokens(plan);
            let tokens = world.tokens.chunks(set.length).take(samples);
            let tokens: Vec<u32> = tokens.flat_map(|s| &s[..length]).copied().collect();
            world.survey.begin(embed_from(embedding, &tokens)?);
        }
        let samples = pace::samples_per_chunk(plan).min(set.samples - self.first);
        if samples == 0 {
            return Ok(None);
        }
        let tokens = &world.tokens[self.first * set.length..][..samples * set.length];
        let mut rows = embed_from(embedding, tokens)?;
        if let Some(rotation) = &plan.rotation {
            rotation.embedding_rows(world.cpu, &mut rows);
            // As the rotated table will be stored.
            let dtype = plan.tensor(&self.tensor)?.dtype;
            for v in &mut rows {
                *v = round_to(dtype, *v);
            }
        }
        let bytes = bytes_of(&rows);
        world.advance("embed", None, pace::bytes_work(bytes.len() as u64));
        self.hash.update(&bytes);
        let offset = self.bytes;
        self.bytes += bytes.len() as u64;
        self.first += samples;
        Ok(Some(Ask::WriteScratch {
            name: scratch_name(0),
            offset,
            bytes,
        }))
    }

    fn line(&mut self) -> Option<Line> {
        Some(Line {
            unit: "embed".into(),
            activations: Some(Activations {
                name: scratch_name(0),
                bytes: self.bytes,
                sha256: hex(std::mem::take(&mut self.hash)),
            }),
            ..Line::default()
        })
    }
}
