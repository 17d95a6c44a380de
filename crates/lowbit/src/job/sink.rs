//! Output tensors on their way into files: cut into pieces, hashed for the journal.

use super::Ask;
use super::files::Files;
use super::identity::hex;
use super::pace::PIECE_BYTES;
use crate::error::{Code, Error, Result};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, VecDeque};

/// Writes that wait to be asked for, and the hash of every tensor that passed.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    writes: VecDeque<Ask>,
    running: Option<(String, u64, Sha256)>,
    hashes: BTreeMap<String, String>,
}

impl Sink {
    /// The next write, if one waits.
    pub(crate) fn pop(&mut self) -> Option<Ask> {
        self.writes.pop_front()
    }

    /// A whole tensor.
    pub(crate) fn tensor(&mut self, files: &Files, name: &str, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return self.piece(files, name, Vec::new());
        }
        for piece in bytes.chunks(PIECE_BYTES as usize) {
            self.piece(files, name, piece.to_vec())?;
        }
        Ok(())
    }

    /// The next piece of a tensor; pieces of one tensor come one after another.
    pub(crate) fn piece(&mut self, files: &Files, name: &str, bytes: Vec<u8>) -> Result<()> {
        let place = files.at(name)?;
        let (running, from, mut hash) = match self.running.take() {
            Some(state) if state.0 == name => state,
            None => (name.to_string(), 0, Sha256::new()),
            Some((other, _, _)) => {
                let what = format!("tensor {other:?} is not whole when {name:?} begins");
                return Err(Error::new(Code::Internal, what));
            }
        };
        hash.update(&bytes);
        let to = from + bytes.len() as u64;
        if to > place.bytes {
            let what = format!("{to} bytes of {name:?}, planned {}", place.bytes);
            return Err(Error::new(Code::Internal, what));
        }
        let file = &files.list[place.file];
        if !bytes.is_empty() {
            self.writes.push_back(Ask::Write {
                name: file.name.clone(),
                total: file.bytes,
                offset: place.offset + from,
                bytes,
            });
        }
        if to == place.bytes {
            self.hashes.insert(running, hex(hash));
        } else {
            self.running = Some((running, to, hash));
        }
        Ok(())
    }

    /// SHA-256 of every tensor that is whole, by name.
    pub(crate) fn take_hashes(&mut self) -> BTreeMap<String, String> {
        std::mem::take(&mut self.hashes)
    }
}
