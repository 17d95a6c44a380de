//! How a matrix is quantized, as people write it: `w4g128`, `w4g128-asym`, `w8`, `w8a8`.

use crate::error::{Code, Error, Result};
use std::fmt;
use std::str::FromStr;

/// Which weights share one scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// The whole row (output channel).
    Row,
    /// A run of this many weights along the row.
    Run(usize),
    /// A run of this many weights over the flattened tensor.
    Flat(usize),
    /// A block of rows × columns.
    Block {
        /// Rows of the block.
        rows: usize,
        /// Columns of the block.
        cols: usize,
    },
    /// The whole tensor.
    Tensor,
}

/// How the inputs of a matrix are quantized at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Activations {
    /// Bits per value.
    pub bits: u8,
    /// Scales computed per token at run time rather than from calibration.
    pub dynamic: bool,
}

/// How a matrix is quantized: integer codes of `bits`, their groups, and whether zero is centred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scheme {
    /// Bits per code: 2, 3, 4 or 8.
    pub bits: u8,
    /// Which weights share a scale.
    pub group: Group,
    /// Codes are centred on zero; otherwise each group stores a zero point.
    pub symmetric: bool,
    /// Quantization of the inputs, if any.
    pub activations: Option<Activations>,
}

/// Bit widths that integer schemes may have.
pub const BITS: &[u8] = &[2, 3, 4, 8];

impl Scheme {
    /// Integer weights only.
    pub const fn weights(bits: u8, group: Group, symmetric: bool) -> Self {
        Self {
            bits,
            group,
            symmetric,
            activations: None,
        }
    }

    /// Columns that share a scale in a row of `cols`; `scheme` when the row does not divide.
    pub fn group_cols(&self, cols: usize) -> Result<usize> {
        match self.group {
            Group::Row | Group::Tensor => Ok(cols),
            Group::Run(n) if n > 0 && cols.is_multiple_of(n) => Ok(n),
            Group::Run(n) => {
                let what = format!("{cols} columns are not a multiple of group {n}");
                let near = [256, 128, 64, 32, 16]
                    .iter()
                    .find(|g| **g <= n && cols.is_multiple_of(**g));
                let fit = near.map_or_else(
                    || format!("use w{}", self.bits),
                    |g| format!("use w{}g{g}", self.bits),
                );
                Err(Error::new(Code::Scheme, what).remedy(fit))
            }
            Group::Flat(_) | Group::Block { .. } => Err(Error::new(
                Code::Scheme,
                format!("{self} has no groups along a row"),
            )),
        }
    }

    /// Lowest and highest signed code.
    pub const fn range(&self) -> (i32, i32) {
        (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1)
    }

    /// Bits per weight with scales of `scale_bits`: codes, scales and packed zero points.
    pub fn bits_per_weight(&self, cols: usize, scale_bits: usize) -> f64 {
        let group = self.group_cols(cols).unwrap_or(cols) as f64;
        let zero = if self.symmetric {
            0.0
        } else {
            f64::from(self.bits)
        };
        f64::from(self.bits) + (scale_bits as f64 + zero) / group
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}", self.bits)?;
        if let Some(a) = self.activations {
            write!(f, "a{}{}", a.bits, if a.dynamic { "" } else { "s" })?;
        }
        match self.group {
            Group::Row => {}
            Group::Run(n) => write!(f, "g{n}")?,
            Group::Flat(n) => write!(f, "flat{n}")?,
            Group::Block { rows, cols } => write!(f, "b{rows}x{cols}")?,
            Group::Tensor => write!(f, "t")?,
        }
        if !self.symmetric {
            write!(f, "-asym")?;
        }
        Ok(())
    }
}

impl FromStr for Scheme {
    type Err = Error;

    /// Parses `w<bits>[a<bits>[s]][g<n> | flat<n> | b<r>x<c> | t][-asym]`; `scheme` otherwise.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::new(Code::Scheme, format!("cannot read scheme {text:?}"))
                .remedy("expected for example w4g128, w4g128-asym, w3g128, w8 or w8a8")
        };
        let lower = text.trim().to_ascii_lowercase();
        let (body, symmetric) = match lower.strip_suffix("-asym") {
            Some(body) => (body, false),
            None => (lower.strip_suffix("-sym").unwrap_or(&lower), true),
        };
        let (bits, rest) = number(body.strip_prefix('w').ok_or_else(bad)?).ok_or_else(bad)?;
        let bits = u8::try_from(bits).map_err(|_| bad())?;
        if !BITS.contains(&bits) {
            let what = format!("{bits} bits are not supported in {text:?}");
            return Err(Error::new(Code::Scheme, what).remedy("use 2, 3, 4 or 8 bits"));
        }
        let (activations, rest) = activations(rest).ok_or_else(bad)?;
        let group = group(rest).ok_or_else(bad)?;
        Ok(Self {
            bits,
            group,
            symmetric,
            activations,
        })
    }
}

fn number(text: &str) -> Option<(usize, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

fn activations(text: &str) -> Option<(Option<Activations>, &str)> {
    let Some(rest) = text.strip_prefix('a') else {
        return Some((None, text));
    };
    let (bits, rest) = number(rest)?;
    let bits = u8::try_from(bits).ok().filter(|b| *b == 8 || *b == 16)?;
    let (dynamic, rest) = match rest.strip_prefix('s') {
        Some(rest) => (false, rest),
        None => (true, rest),
    };
    // `w4a16` is the usual way to say that the inputs are left alone.
    Some(((bits == 8).then_some(Activations { bits, dynamic }), rest))
}

fn group(text: &str) -> Option<Group> {
    let whole = |prefix: &str| {
        let (n, rest) = number(text.strip_prefix(prefix)?)?;
        (rest.is_empty() && n > 0).then_some(n)
    };
    match text {
        "" | "g-1" => Some(Group::Row),
        "t" => Some(Group::Tensor),
        _ if text.starts_with('g') => whole("g").map(Group::Run),
        _ if text.starts_with("flat") => whole("flat").map(Group::Flat),
        _ => {
            let (rows, rest) = number(text.strip_prefix('b')?)?;
            let (cols, rest) = number(rest.strip_prefix('x')?)?;
            (rest.is_empty() && rows * cols > 0).then_some(Group::Block { rows, cols })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_prints_what_it_parses() {
        for text in [
            "w4g128",
            "w4g128-asym",
            "w8",
            "w8a8",
            "w3g64",
            "w2flat64",
            "w8b128x128",
            "w8a8st",
        ] {
            assert_eq!(text.parse::<Scheme>().unwrap().to_string(), text);
        }
        assert_eq!("W4A16g128".parse::<Scheme>().unwrap().to_string(), "w4g128");
        assert_eq!("w4g-1".parse::<Scheme>().unwrap().to_string(), "w4");
    }

    #[test]
    fn scheme_refuses_nonsense() {
        for text in ["", "4g128", "w5", "w4g", "w4g0", "w4h3", "w4a7", "w4g128x"] {
            assert_eq!(
                text.parse::<Scheme>().unwrap_err().code,
                Code::Scheme,
                "{text}"
            );
        }
    }

    #[test]
    fn group_names_the_nearest_fit() {
        let e = "w4g128"
            .parse::<Scheme>()
            .unwrap()
            .group_cols(96)
            .unwrap_err();
        assert_eq!((e.code, e.remedy.as_str()), (Code::Scheme, "use w4g32"));
    }
}
