//! Output files: which tensor lies where, fixed before any tensor is read.

use crate::container::safetensors::{Planned, layout_file};
use crate::container::shards;
use crate::error::{Code, Error, Result};
use std::collections::BTreeMap;

/// One output file.
#[derive(Debug)]
pub struct File {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its first bytes, up to the first tensor.
    pub header: Vec<u8>,
}

/// Where a tensor lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Position in `Files::list`.
    pub file: usize,
    /// First byte in the file.
    pub offset: u64,
    /// Length.
    pub bytes: u64,
}

/// Every output file and the place of every tensor.
#[derive(Debug, Default)]
pub struct Files {
    /// The files in order.
    pub list: Vec<File>,
    /// Text of the index when there are several files.
    pub index: Option<String>,
    places: BTreeMap<String, Place>,
}

impl Files {
    /// Lays out tensors given in production order.
    pub(crate) fn new(tensors: &[Planned], shard_bytes: u64) -> Result<Self> {
        let shards = shards::split(tensors, shard_bytes)?;
        let mut files = Self::default();
        for (file, shard) in shards.iter().enumerate() {
            let inside = &tensors[shard.tensors.clone()];
            let (header, offsets, bytes) = layout_file(inside, &BTreeMap::new())?;
            for (tensor, offset) in inside.iter().zip(offsets) {
                let bytes = tensor.bytes()?;
                let place = Place {
                    file,
                    offset,
                    bytes,
                };
                files.places.insert(tensor.name.clone(), place);
            }
            files.list.push(File {
                name: shard.file.clone(),
                bytes,
                header,
            });
        }
        if files.list.len() > 1 {
            files.index = Some(shards::write_index(tensors, &shards)?);
        }
        Ok(files)
    }

    /// Files whose headers someone else laid out, and where each tensor lies in them.
    pub fn laid_out(list: Vec<File>, places: BTreeMap<String, Place>) -> Self {
        Self {
            list,
            index: None,
            places,
        }
    }

    /// Place of a tensor by name; `internal` when it is not planned.
    pub(crate) fn at(&self, name: &str) -> Result<Place> {
        let missing = || Error::new(Code::Internal, format!("output {name:?} is not planned"));
        self.place(name).ok_or_else(missing)
    }

    /// Place of a tensor by name.
    pub fn place(&self, name: &str) -> Option<Place> {
        self.places.get(name).copied()
    }

    /// Bytes of all tensors.
    pub fn data_bytes(&self) -> u64 {
        self.places.values().map(|p| p.bytes).sum()
    }
}
