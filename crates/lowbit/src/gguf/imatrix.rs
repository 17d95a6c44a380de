//! Importance matrices: Σ x² of every input column over a calibration text, per tensor.
//!
//! ```text
//! GGUF    general.type "imatrix" | NAME.in_sum2 [experts, cols] | NAME.counts [experts, 1]   f32
//! legacy  entries i32 | (name, calls i32, f32[…] = mean · calls)… | chunks i32 | dataset
//! ```
//! Source: llama.cpp's `llama-imatrix`, both formats that it has written.

use super::codec::Importance;
use super::header::{Header, Limits, Parsed, TensorInfo, parse};
use super::imatrix_legacy as legacy;
use super::types::F32;
use super::value::{Array, Metadata, Value};
use super::write::{Planned, layout_file};
use crate::error::{Code, Error, Result};
use std::collections::BTreeMap;

pub use super::imatrix_file::ImatrixFile;

const TYPE_KEY: &str = "general.type";
const TYPE: &str = "imatrix";
const DATASETS: &str = "imatrix.datasets";
const CHUNKS: &str = "imatrix.chunk_count";
const CHUNK_TOKENS: &str = "imatrix.chunk_size";
const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

/// What is known of the inputs of one tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Σ x², `[experts, cols]`; one expert for a plain matrix.
    pub sums: Vec<f32>,
    /// How many inputs each expert saw, or one count for all of them.
    pub counts: Vec<f32>,
}

/// An importance matrix file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Imatrix {
    /// By GGUF name of the tensor, as in `blk.0.attn_q.weight`.
    pub entries: BTreeMap<String, Entry>,
    /// Names of the calibration texts.
    pub datasets: Vec<String>,
    /// How many chunks of text were run.
    pub chunks: u32,
    /// Tokens per chunk.
    pub chunk_tokens: u32,
}

pub(super) fn bad(what: impl Into<String>) -> Error {
    Error::new(Code::Imatrix, what).remedy("collect the importance matrix again")
}

impl Imatrix {
    /// Reads a file in either format. `imatrix` when it is neither or contradicts itself, else the
    /// codes of `header::parse`.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if !bytes.starts_with(b"GGUF") {
            return legacy::parse(bytes);
        }
        match parse(bytes, bytes.len() as u64, &Limits::default())? {
            Parsed::Header(header) => Self::from_gguf(&header, bytes),
            Parsed::Need(_) => Err(Error::new(Code::HeaderLimit, "the header is too long")),
        }
    }

    fn from_gguf(header: &Header, bytes: &[u8]) -> Result<Self> {
        let m = &header.metadata;
        if m.string(TYPE_KEY)? != Some(TYPE) {
            let what = format!(
                "{TYPE_KEY} is {:?}",
                m.string(TYPE_KEY)?.unwrap_or("missing")
            );
            return Err(bad(what).remedy("pass a file that llama-imatrix or lowbit wrote"));
        }
        let count = |key| -> Result<u32> {
            let found = m.index(key)?.unwrap_or_default();
            u32::try_from(found).map_err(|_| bad(format!("{key} is {found}")))
        };
        let mut out = Self {
            entries: BTreeMap::new(),
            datasets: m.strings(DATASETS)?.unwrap_or_default().to_vec(),
            chunks: count(CHUNKS)?,
            chunk_tokens: count(CHUNK_TOKENS)?,
        };
        for info in &header.tensors {
            let Some(name) = info.name.strip_suffix(SUMS) else {
                continue;
            };
            let wanted = format!("{name}{COUNTS}");
            let counts = header.tensors.iter().find(|t| t.name == wanted);
            let counts = counts.ok_or_else(|| bad(format!("{name} has sums and no counts")))?;
            let entry = Entry {
                sums: floats(info, header, bytes)?,
                counts: floats(counts, header, bytes)?,
            };
            let experts = info.shape.first().copied().unwrap_or(1);
            if info.shape.len() == 2 && entry.counts.len() != experts {
                let what = format!(
                    "{name} has {experts} experts and {} counts",
                    entry.counts.len()
                );
                return Err(bad(what));
            }
            out.entries.insert(name.to_string(), entry);
        }
        Ok(out)
    }

    /// Writes a GGUF file, names sorted.
    pub fn to_gguf(&self) -> Result<Vec<u8>> {
        let mut m = Metadata::new();
        m.set_string(TYPE_KEY, TYPE);
        m.set(DATASETS, Value::Array(Array::String(self.datasets.clone())));
        m.set(CHUNKS, Value::U32(self.chunks));
        m.set(CHUNK_TOKENS, Value::U32(self.chunk_tokens));
        let (mut planned, mut data) = (Vec::new(), Vec::new());
        for (name, entry) in &self.entries {
            let experts = entry.counts.len();
            let mut add = |suffix: &str, shape: Vec<usize>, values: &[f32]| {
                planned.push(Planned {
                    name: format!("{name}{suffix}"),
                    ty: &F32,
                    shape,
                });
                data.push(
                    values
                        .iter()
                        .flat_map(|v| v.to_le_bytes())
                        .collect::<Vec<u8>>(),
                );
            };
            add(COUNTS, vec![experts, 1], &entry.counts);
            let cols = entry.sums.len() / experts.max(1);
            add(SUMS, vec![experts, cols], &entry.sums);
        }
        let layout = layout_file(&m, &planned)?;
        let mut out = layout.head;
        for (offset, bytes) in layout.offsets.iter().zip(data) {
            out.resize(*offset as usize, 0);
            out.extend(bytes);
        }
        out.resize(layout.file_bytes as usize, 0);
        Ok(out)
    }

    /// Writes the legacy format, which knows one count per tensor: means over all inputs, and ones
    /// for experts that saw none.
    pub fn to_legacy(&self) -> Result<Vec<u8>> {
        let calls = self.chunks.max(1);
        let mut out = Vec::new();
        let put = |out: &mut Vec<u8>, n: usize| match i32::try_from(n) {
            Ok(n) => {
                out.extend(n.to_le_bytes());
                Ok(())
            }
            Err(_) => Err(bad(format!("{n} does not fit the legacy format"))),
        };
        put(&mut out, self.entries.len())?;
        for (name, entry) in &self.entries {
            put(&mut out, name.len())?;
            out.extend(name.as_bytes());
            put(&mut out, calls as usize)?;
            put(&mut out, entry.sums.len())?;
            for mean in entry.means() {
                out.extend((mean * calls as f32).to_le_bytes());
            }
        }
        put(&mut out, self.chunks as usize)?;
        let dataset = self.datasets.last().map_or("", String::as_str);
        put(&mut out, dataset.len())?;
        out.extend(dataset.as_bytes());
        Ok(out)
    }

    /// Adds what another run collected; `imatrix` when a tensor has other columns there.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        for (name, theirs) in &other.entries {
            let Some(ours) = self.entries.get_mut(name) else {
                self.entries.insert(name.clone(), theirs.clone());
                continue;
            };
            if (ours.sums.len(), ours.counts.len()) != (theirs.sums.len(), theirs.counts.len()) {
                let what = format!(
                    "{name} has {} values in one file and {} in the other",
                    ours.sums.len(),
                    theirs.sums.len()
                );
                return Err(bad(what).remedy("merge files of the same model and format"));
            }
            ours.sums
                .iter_mut()
                .zip(&theirs.sums)
                .for_each(|(a, b)| *a += b);
            ours.counts
                .iter_mut()
                .zip(&theirs.counts)
                .for_each(|(a, b)| *a += b);
        }
        for dataset in &other.datasets {
            if !self.datasets.contains(dataset) {
                self.datasets.push(dataset.clone());
            }
        }
        self.chunks += other.chunks;
        self.chunk_tokens = self.chunk_tokens.max(other.chunk_tokens);
        Ok(())
    }

    /// Importance of the columns of each of `experts` matrices, nothing for a tensor that the file
    /// does not know. `imatrix` with the tensor named when sizes or values are wrong.
    pub fn importance(
        &self,
        name: &str,
        cols: usize,
        experts: usize,
    ) -> Result<Option<Vec<Importance>>> {
        let Some(entry) = self.entries.get(name) else {
            return Ok(None);
        };
        if entry.sums.len() != cols * experts {
            let what = format!(
                "{} values for {experts} × {cols} columns of {name}",
                entry.sums.len()
            );
            return Err(bad(what).remedy("use the importance matrix of this model"));
        }
        let means: Vec<f32> = entry.means().collect();
        let each = means
            .chunks_exact(cols.max(1))
            .map(|m| Importance::new(m.to_vec()));
        let all: Result<Vec<_>> = each.collect();
        all.map(Some).map_err(|e| e.at(name))
    }
}

impl Entry {
    /// Mean of x² per value; ones where an expert saw no input.
    fn means(&self) -> impl Iterator<Item = f32> {
        let per_count = (self.sums.len() / self.counts.len().max(1)).max(1);
        self.sums.iter().enumerate().map(move |(i, sum)| {
            match self.counts.get(i / per_count).copied().unwrap_or_default() {
                count if count > 0.0 => sum / count,
                _ => 1.0,
            }
        })
    }
}

fn floats(info: &TensorInfo, header: &Header, bytes: &[u8]) -> Result<Vec<f32>> {
    if info.ty != &F32 {
        return Err(bad(format!("{} is of type {}", info.name, info.ty.name)));
    }
    let start = (header.data_start + info.offset) as usize;
    let data = &bytes[start..start + info.bytes as usize];
    Ok(data
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect())
}
