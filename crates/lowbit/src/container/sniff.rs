//! Says what a file is that is not safetensors, so that the remedy can be named.

use crate::error::{Code, Error};

const HTML: (&str, &str) = (
    "the file is a web page, not weights",
    "download the file itself; the page may ask for a login or a licence",
);
const LFS: (&str, &str) = (
    "the file is a Git LFS pointer, not weights",
    "fetch the real file with `git lfs pull`",
);
const PICKLE: (&str, &str) = (
    "the file is a Python pickle or an archive that may hold one",
    "convert it to safetensors; pickles are never read because they run code",
);

/// Names the kind of file that starts with `head`, if its start is known; `head` has 8 bytes or
/// more, and the better the more it has.
pub(crate) fn recognise(head: &[u8]) -> Option<Error> {
    if head.starts_with(b"GGUF") {
        let what = "the file is GGUF, and its name does not say so";
        return Some(Error::new(Code::Unsupported, what).remedy("let its name end in .gguf"));
    }
    // A third byte other than 0 tells it from a header of 640 bytes.
    let pickle = head[0] == 0x80 && (2..=5).contains(&head[1]) && head[2] != 0;
    let (what, remedy) = match head {
        _ if pickle || head.starts_with(b"PK\x03\x04") || head.starts_with(&[0x1f, 0x8b, 8]) => {
            PICKLE
        }
        _ if head.starts_with(b"version ") => LFS,
        _ if is_markup(head) => HTML,
        // The length of a real header has zeros in its upper half.
        _ if head[..8]
            .iter()
            .all(|b| matches!(b, b' '..=b'~' | b'\t' | b'\n' | b'\r')) =>
        {
            (
                "the file is text, not weights",
                "check where it was downloaded from",
            )
        }
        _ => return None,
    };
    Some(Error::new(Code::NotAModel, what).remedy(remedy))
}

fn is_markup(head: &[u8]) -> bool {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let text = text.trim_ascii_start();
    let starts = |tag: &[u8]| {
        let n = tag.len().min(text.len());
        n >= 4 && text[..n].eq_ignore_ascii_case(&tag[..n])
    };
    starts(b"<!doctype") || starts(b"<html") || starts(b"<head") || starts(b"<?xml")
}
