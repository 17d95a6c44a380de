//! Reading outputs back: what an earlier run vouched for, and the hash of every finished file.

use super::Ask;
use super::files::Files;
use super::identity::hex;
use super::journal::{Line, corrupt};
use super::pace::{self, PIECE_BYTES};
use super::report::FileReport;
use super::step::Counter;
use crate::error::Result;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;

/// A stretch of a file that is read back.
#[derive(Debug)]
struct Stretch {
    file: String,
    next: u64,
    end: u64,
    hash: Sha256,
}

impl Stretch {
    fn new(file: &str, from: u64, bytes: u64) -> Self {
        Self {
            file: file.into(),
            next: from,
            end: from + bytes,
            hash: Sha256::new(),
        }
    }

    /// The next piece, or none at the end.
    fn ask(&self) -> Option<Ask> {
        (self.next < self.end).then(|| Ask::ReadOutput {
            name: self.file.clone(),
            offset: self.next,
            len: PIECE_BYTES.min(self.end - self.next),
        })
    }

    fn take(&mut self, answer: &[Vec<u8>]) {
        for bytes in answer {
            self.hash.update(bytes);
            self.next += bytes.len() as u64;
        }
    }
}

/// Checks the tensors of units that an earlier run finished; `resume-corrupt` if one differs.
#[derive(Debug)]
pub(crate) struct Verify {
    /// Tensor and wanted hash.
    tensors: VecDeque<(String, String)>,
    running: Option<Stretch>,
}

impl Verify {
    pub(crate) fn new<L>(lines: &[Line<L>]) -> Self {
        let tensors = lines.iter().flat_map(|l| l.tensors.clone());
        Self {
            tensors: tensors.collect(),
            running: None,
        }
    }

    pub(crate) fn poll(&mut self, files: &Files, answer: &[Vec<u8>]) -> Result<Option<Ask>> {
        if let Some(stretch) = &mut self.running {
            stretch.take(answer);
        }
        loop {
            if let Some(ask) = self.running.as_ref().and_then(Stretch::ask) {
                return Ok(Some(ask));
            }
            if let (Some(stretch), Some((name, wanted))) =
                (self.running.take(), self.tensors.pop_front())
                && hex(stretch.hash) != wanted
            {
                let what = format!("tensor {name:?} is not what the journal vouches for");
                return Err(corrupt(what).at(stretch.file));
            }
            let Some((name, _)) = self.tensors.front() else {
                return Ok(None);
            };
            let missing = || corrupt(format!("the journal names tensor {name:?}"));
            let place = files.place(name).ok_or_else(missing)?;
            let file = &files.list[place.file].name;
            self.running = Some(Stretch::new(file, place.offset, place.bytes));
        }
    }
}

/// Hashes every output file.
#[derive(Debug, Default)]
pub(crate) struct Seal {
    running: Option<Stretch>,
    /// Finished files.
    pub files: Vec<FileReport>,
}

impl Seal {
    /// How much work it is, for progress.
    pub(crate) fn work(files: &Files) -> u64 {
        files.list.iter().map(|f| pace::bytes_work(f.bytes)).sum()
    }

    pub(crate) fn poll(
        &mut self,
        files: &Files,
        progress: &mut Counter,
        answer: &[Vec<u8>],
    ) -> Option<Ask> {
        if let Some(stretch) = &mut self.running {
            stretch.take(answer);
            let bytes = answer.iter().map(|a| a.len() as u64).sum();
            progress.advance("finish", None, pace::bytes_work(bytes));
        }
        loop {
            if let Some(ask) = self.running.as_ref().and_then(Stretch::ask) {
                return Some(ask);
            }
            if let Some(stretch) = self.running.take() {
                self.files.push(FileReport {
                    name: stretch.file,
                    bytes: stretch.end,
                    sha256: hex(stretch.hash),
                });
            }
            let file = files.list.get(self.files.len())?;
            self.running = Some(Stretch::new(&file.name, 0, file.bytes));
        }
    }
}
