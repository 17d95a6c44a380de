//! The importance matrix files that llama-imatrix wrote before GGUF.

use super::imatrix::{Entry, Imatrix, bad};
use crate::error::{Code, Error, Result};

/// A cursor over the legacy format.
struct Legacy<'a>(&'a [u8]);

impl<'a> Legacy<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.0.split_at_checked(bytes) else {
            let what = format!(
                "{bytes} more bytes are announced, there are {}",
                self.0.len()
            );
            return Err(Error::new(Code::Truncated, what).remedy("copy the file again"));
        };
        self.0 = rest;
        Ok(taken)
    }

    /// A number that is not negative.
    fn count(&mut self, what: &str) -> Result<usize> {
        let bytes = self.take(4)?;
        let number = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        usize::try_from(number).map_err(|_| bad(format!("{number} {what}")))
    }

    fn text(&mut self) -> Result<String> {
        let length = self.count("bytes of text")?;
        let text = String::from_utf8(self.take(length)?.to_vec());
        text.map_err(|_| bad(NEITHER))
    }
}

/// The format has no signature.
const NEITHER: &str = "the file is neither GGUF nor an importance matrix";

/// Reads the legacy format: `imatrix`, `truncated` and `trailing-bytes` as what is wrong with it.
pub(super) fn parse(bytes: &[u8]) -> Result<Imatrix> {
    let mut c = Legacy(bytes);
    let mut out = Imatrix::default();
    let entries = c.count("entries")?;
    if entries == 0 {
        return Err(bad("the file has no entries"));
    }
    if entries > bytes.len() / 4 {
        return Err(bad(NEITHER));
    }
    for _ in 0..entries {
        let name = c.text()?;
        let calls = c.count("calls")?;
        let values = c.count("values")?;
        let Some(bytes) = values.checked_mul(4).filter(|_| values > 0) else {
            return Err(bad(format!("{name} has {values} values")));
        };
        let sums = c.take(bytes)?.as_chunks::<4>().0;
        let entry = Entry {
            sums: sums.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            counts: vec![calls.max(1) as f32],
        };
        if out.entries.insert(name.clone(), entry).is_some() {
            return Err(bad(format!("{name} appears twice")));
        }
    }
    // Old files end here.
    if !c.0.is_empty() {
        out.chunks = c.count("chunks")? as u32;
        out.datasets.push(c.text()?);
    }
    match c.0.len() {
        0 => Ok(out),
        n => {
            let what = format!("{n} bytes follow the dataset's name");
            Err(Error::new(Code::TrailingBytes, what))
        }
    }
}
