//! A reader that cannot leave its bytes: every length is compared with what is left first.

use super::header::Limits;
use crate::error::{Code, Error};

/// Why reading stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// The file may be fine: this many of its first bytes are needed.
    Need(u64),
    /// The file is not.
    Bad(Error),
}

/// What a step of reading gives.
pub(super) type Step<T> = Result<T, Stop>;

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Bad(error)
    }
}

/// A place in the first bytes of a file.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    head: &'a [u8],
    pub(super) at: usize,
    file_bytes: u64,
    pub(super) limits: &'a Limits,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(head: &'a [u8], file_bytes: u64, limits: &'a Limits) -> Self {
        Self {
            head,
            at: 0,
            file_bytes,
            limits,
        }
    }

    /// Bytes of the file that follow.
    pub(super) fn left(&self) -> u64 {
        self.file_bytes - self.at as u64
    }

    /// An error at the current byte.
    pub(super) fn bad(&self, code: Code, what: impl Into<String>) -> Error {
        Error::new(code, what).at(format!("byte {}", self.at))
    }

    /// The next `bytes` bytes.
    pub(super) fn take(&mut self, bytes: u64) -> Step<&'a [u8]> {
        if bytes > self.left() {
            let what = format!(
                "{bytes} more bytes are announced, the file has {}",
                self.left()
            );
            let error = self.bad(Code::Truncated, what);
            return Err(error.remedy("download it again").into());
        }
        let end = self.at as u64 + bytes;
        if end > self.limits.header_bytes {
            let what = format!(
                "the header has more than {} bytes",
                self.limits.header_bytes
            );
            return Err(self.bad(Code::HeaderLimit, what).into());
        }
        if end > self.head.len() as u64 {
            return Err(Stop::Need(end));
        }
        let taken = &self.head[self.at..end as usize];
        self.at = end as usize;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64)?);
        Ok(out)
    }

    pub(super) fn u32(&mut self) -> Step<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Step<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A string of at most `most` bytes; `string-limit` above, `metadata` when not UTF-8.
    pub(super) fn string(&mut self, most: u64, what: &str) -> Step<&'a str> {
        let start = self.clone();
        let bytes = self.u64()?;
        if bytes > most {
            let what = format!("a {what} of {bytes} bytes; at most {most} are allowed");
            return Err(start.bad(Code::StringLimit, what).into());
        }
        let text = self.take(bytes)?;
        std::str::from_utf8(text).map_err(|e| {
            let what = format!("a {what} is not UTF-8 after {} bytes", e.valid_up_to());
            start.bad(Code::Metadata, what).into()
        })
    }

    /// A count of things that take at least `least` bytes each; `count-limit` above `most`.
    pub(super) fn count(&mut self, most: u64, least: u64, what: &str) -> Step<u64> {
        let start = self.clone();
        let count = self.u64()?;
        if count > most {
            let what = format!("{count} {what}; at most {most} are allowed");
            return Err(start.bad(Code::CountLimit, what).into());
        }
        // The product cannot overflow: limits are far below 2^32.
        if count * least > self.left() {
            let what = format!("{count} {what} do not fit into {} bytes", self.left());
            let error = start.bad(Code::Truncated, what);
            return Err(error.remedy("download it again").into());
        }
        Ok(count)
    }
}
