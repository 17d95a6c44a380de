//! A strict pull reader for JSON text: positions in bytes, no allocation, bounded depth.
//!
//! `serde_json` keeps the last of two equal keys and reports lines; headers and indexes need
//! every key seen, and positions that a hex dump shows.

use crate::error::{Code, Error, Result};

/// Arrays and objects inside each other; the format's own need is three.
const DEPTH_MAX: usize = 128;

/// A reader in the middle of a text.
pub(super) struct Reader<'a> {
    text: &'a str,
    pos: usize,
    depth: usize,
    /// Where the text begins in its file, for positions in errors.
    base: usize,
    /// The code of every syntax error.
    code: Code,
}

/// A string literal as it stands between its quotes.
#[derive(Clone, Copy)]
pub(super) struct Literal<'a> {
    /// Byte position in the text, behind the opening quote.
    pub(super) at: usize,
    raw: &'a str,
}

/// A number, as far as sizes need to know it.
pub(super) enum Number<'a> {
    /// Fits u64.
    Whole(u64),
    /// Negative, fractional, or too large; as written.
    Other(&'a str),
}

impl<'a> Reader<'a> {
    /// Starts at the beginning of `text`, which begins at byte `base` of its file.
    pub(super) fn new(text: &'a str, base: usize, code: Code) -> Self {
        Self {
            text,
            pos: 0,
            depth: 0,
            base,
            code,
        }
    }

    /// Starts at a literal whose position an earlier pass kept.
    pub(super) fn literal_at(text: &'a str, at: usize) -> Result<Literal<'a>> {
        let mut reader = Self::new(text, 0, Code::Internal);
        reader.pos = at - 1;
        reader.string()
    }

    /// A syntax error at the current byte.
    pub(super) fn error(&self, what: &str) -> Error {
        Error::new(
            self.code,
            format!("{what} at byte {}", self.base + self.pos),
        )
    }

    fn found(&self) -> String {
        match self.text[self.pos..].chars().next() {
            Some(c) => format!("found {c:?}"),
            None => "found the end".into(),
        }
    }

    /// The next byte that is not white space, left in place.
    pub(super) fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.pos..];
        let blank = rest.iter().take_while(|b| b" \t\n\r".contains(b)).count();
        self.pos += blank;
        rest.get(blank).copied()
    }

    fn eat(&mut self, wanted: u8) -> Result<()> {
        if self.peek() != Some(wanted) {
            let what = format!("expected '{}', {}", wanted as char, self.found());
            return Err(self.error(&what));
        }
        self.pos += 1;
        Ok(())
    }

    /// Demands that nothing but white space is left.
    pub(super) fn end(&mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.error("text after the JSON value")),
        }
    }

    /// Calls `member` after each key of an object; it must consume the value.
    pub(super) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, Literal<'a>) -> Result<()>,
    ) -> Result<()> {
        self.sequence(b'{', b'}', |r| {
            let key = r.string()?;
            r.eat(b':')?;
            member(r, key)
        })
    }

    /// Calls `element` before each element of an array; it must consume it.
    pub(super) fn array(&mut self, element: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.sequence(b'[', b']', element)
    }

    fn sequence(
        &mut self,
        open: u8,
        close: u8,
        mut item: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<()> {
        self.eat(open)?;
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error("nested deeper than 128 levels"));
        }
        if self.peek() != Some(close) {
            item(self)?;
            while self.peek() == Some(b',') {
                self.pos += 1;
                item(self)?;
            }
        }
        self.eat(close)?;
        self.depth -= 1;
        Ok(())
    }

    /// Reads a string literal and checks its escapes.
    pub(super) fn string(&mut self) -> Result<Literal<'a>> {
        self.eat(b'"')?;
        let at = self.pos;
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.pos) {
                None => return Err(self.error("the text ends inside a string")),
                Some(b'"') => break,
                Some(0..=0x1f) => return Err(self.error("a bare control character in a string")),
                Some(b'\\') => {
                    let Some((_, len)) = escape(&bytes[self.pos..]) else {
                        return Err(self.error("a broken escape in a string"));
                    };
                    self.pos += len;
                }
                Some(_) => self.pos += 1,
            }
        }
        let raw = &self.text[at..self.pos];
        self.pos += 1;
        Ok(Literal { at, raw })
    }

    /// Reads a number.
    pub(super) fn number(&mut self) -> Result<Number<'a>> {
        self.peek();
        let start = self.pos;
        let bytes = self.text.as_bytes();
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(b' ');
        let digits = |at: usize| {
            bytes[at..]
                .iter()
                .take_while(|b| b.is_ascii_digit())
                .count()
        };
        let mut at = start + usize::from(byte(start) == b'-');
        let whole = digits(at);
        let bad = whole == 0 || (whole > 1 && byte(at) == b'0');
        at += whole;
        let mut tail = true;
        if byte(at) == b'.' {
            tail = digits(at + 1) > 0;
            at += 1 + digits(at + 1);
        }
        if byte(at) | 0x20 == b'e' {
            at += 1 + usize::from(matches!(byte(at + 1), b'+' | b'-'));
            tail &= digits(at) > 0;
            at += digits(at);
        }
        if bad || !tail {
            return Err(self.error(&format!("expected a number, {}", self.found())));
        }
        self.pos = at;
        let raw = &self.text[start..at];
        Ok(raw.parse().map_or(Number::Other(raw), Number::Whole))
    }

    /// Consumes any value, checking its syntax and depth.
    pub(super) fn skip(&mut self) -> Result<()> {
        match self.peek() {
            Some(b'{') => self.object(|r, _| r.skip()),
            Some(b'[') => self.array(Self::skip),
            Some(b'"') => self.string().map(|_| ()),
            _ => self.skip_word(),
        }
    }

    fn skip_word(&mut self) -> Result<()> {
        let rest = &self.text[self.pos..];
        match ["null", "true", "false"]
            .iter()
            .find(|w| rest.starts_with(**w))
        {
            Some(word) => {
                self.pos += word.len();
                Ok(())
            }
            None => self.number().map(|_| ()),
        }
    }
}

impl<'a> Literal<'a> {
    /// The characters that the literal stands for.
    pub(super) fn chars(self) -> impl Iterator<Item = char> + Clone + 'a {
        let mut rest = self.raw;
        std::iter::from_fn(move || {
            let c = rest.chars().next()?;
            let (c, len) = match c {
                // The reader has checked every escape.
                '\\' => escape(rest.as_bytes()).unwrap_or(('\u{fffd}', 2)),
                c => (c, c.len_utf8()),
            };
            rest = &rest[len..];
            Some(c)
        })
    }

    /// Whether it stands for exactly this text.
    pub(super) fn is(self, text: &str) -> bool {
        self.chars().eq(text.chars())
    }

    /// The text itself.
    pub(super) fn text(self) -> String {
        if self.raw.contains('\\') {
            return self.chars().collect();
        }
        self.raw.to_string()
    }

    /// The text in quotes for a message, cut after 80 characters.
    pub(super) fn shown(self) -> String {
        let start: String = self.chars().take(80).collect();
        match self.chars().nth(80) {
            Some(_) => format!("{start:?}…"),
            None => format!("{start:?}"),
        }
    }
}

/// The character of an escape and the bytes it takes, beginning at its backslash.
fn escape(bytes: &[u8]) -> Option<(char, usize)> {
    let c = match bytes.get(1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode(bytes),
        _ => return None,
    };
    Some((c, 2))
}

fn unicode(bytes: &[u8]) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let hex = bytes.get(at..at + 4)?;
        let mut digits = hex.iter().map(|b| (*b as char).to_digit(16));
        digits.try_fold(0, |n, d| Some(n << 4 | d?))
    };
    let high = unit(2)?;
    if !(0xd800..0xdc00).contains(&high) {
        return Some((char::from_u32(high)?, 6));
    }
    let low = unit(8).filter(|l| bytes[6..8] == *b"\\u" && (0xdc00..0xe000).contains(l))?;
    let c = char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00))?;
    Some((c, 12))
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
