//! Schemes from text.

use super::{Activations, BITS, ELEMENTS, Element, Group, Scheme, ZeroPoint};
use crate::error::{Code, Error, Result};
use std::str::FromStr;

/// llm-compressor's names of presets and what they are here (compressed-tensors 0.19,
/// `quantization/quant_scheme.py`).
pub const PRESETS: &[(&str, &str)] = &[
    ("W2A16", "w2g128"),
    ("W3A16", "w3g128"),
    ("W4A16", "w4g128"),
    ("W4A16_ASYM", "w4g128-asym"),
    ("W8A16", "w8g128"),
    ("W8A8", "w8a8"),
    ("INT8", "w8a8"),
    ("W2A8", "w2a8g128"),
    ("W3A8", "w3a8g128"),
    ("W4A8", "w4a8g128"),
    ("FP8", "fp8a8st"),
    ("FP8_DYNAMIC", "fp8a8"),
    ("FP8_BLOCK", "fp8a8b128x128"),
    ("NVFP4", "nvfp4a4"),
    ("NVFP4A16", "nvfp4"),
    ("MXFP4A16", "mxfp4"),
];

/// The scheme of a preset; names of elements are presets in capitals only.
fn preset(text: &str) -> Option<&'static str> {
    let own = ELEMENTS.iter().any(|row| row.name == text);
    let found = PRESETS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.filter(|_| !own).map(|(_, scheme)| *scheme)
}

impl FromStr for Scheme {
    type Err = Error;

    /// Parses what the head of this module lists; `scheme` otherwise.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::new(Code::Scheme, format!("cannot read scheme {text:?}"))
                .remedy("expected for example w4g128, w4g128-asym, w3g128, w8, w8a8, fp8a8 or nf4")
        };
        let lower = text.trim().to_ascii_lowercase();
        let mut parts = preset(text.trim()).unwrap_or(&lower).split('-');
        let body = parts.next().unwrap_or_default();
        let endings: Vec<_> = parts.collect();
        let (mut scheme, rest) = element(body, text).ok_or_else(bad)??;
        let (activations, rest) = activations(rest, scheme.element).ok_or_else(bad)?;
        scheme.activations = activations;
        let row_group = rest == "g" && endings.first() == Some(&"1");
        if row_group {
            scheme.group = Group::Row;
        } else if !rest.is_empty() {
            scheme.group = group(rest).ok_or_else(bad)?;
        }
        for ending in &endings[usize::from(row_group)..] {
            let integer = scheme.element == Element::Int;
            match *ending {
                "sym" => {}
                "asym" if integer => scheme.zero = ZeroPoint::Int,
                "float" if integer => scheme.zero = ZeroPoint::Float,
                "dq" if matches!(scheme.element, Element::Nf4 | Element::Fp4) => {
                    scheme.nested = true;
                }
                _ => return Err(bad()),
            }
        }
        Ok(scheme)
    }
}

/// The element at the start of `body` with its own group, and what follows it.
fn element<'a>(body: &'a str, whole: &str) -> Option<Result<(Scheme, &'a str)>> {
    for row in ELEMENTS {
        if let Some(rest) = body.strip_prefix(row.name) {
            let scheme = Scheme {
                element: row.element,
                ..Scheme::weights(row.bits, row.group, true)
            };
            return Some(Ok((scheme, rest)));
        }
    }
    let (bits, rest) = number(body.strip_prefix('w')?)?;
    let bits = u8::try_from(bits).ok()?;
    if !BITS.contains(&bits) {
        let what = format!("{bits} bits are not supported in {whole:?}");
        return Some(Err(
            Error::new(Code::Scheme, what).remedy("use 2, 3, 4 or 8 bits")
        ));
    }
    Some(Ok((Scheme::weights(bits, Group::Row, true), rest)))
}

fn number(text: &str) -> Option<(usize, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

fn activations(text: &str, element: Element) -> Option<(Option<Activations>, &str)> {
    let Some(rest) = text.strip_prefix('a') else {
        return Some((None, text));
    };
    let (bits, rest) = number(rest)?;
    if bits == 4 && element == Element::Nvfp4 {
        let dynamic = false;
        return Some((Some(Activations { bits: 4, dynamic }), rest));
    }
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
            "fp8a8",
            "fp8a8b128x128",
            "nf4",
            "nf4-dq",
            "fp4flat128",
            "mxfp4",
            "nvfp4",
            "nvfp4a4",
            "w4g64-float",
        ] {
            assert_eq!(text.parse::<Scheme>().unwrap().to_string(), text);
        }
        assert_eq!("W4A16g128".parse::<Scheme>().unwrap().to_string(), "w4g128");
        assert_eq!("w4g-1".parse::<Scheme>().unwrap().to_string(), "w4");
        assert_eq!(
            "w4g-1-asym".parse::<Scheme>().unwrap().to_string(),
            "w4-asym"
        );
        assert_eq!(
            "FP8_DYNAMIC".parse::<Scheme>().unwrap().to_string(),
            "fp8a8"
        );
        for (text, own) in [
            ("w4a16", "w4g128"),
            ("W8A16", "w8g128"),
            ("FP8", "fp8a8st"),
            ("fp8", "fp8"),
            ("NVFP4", "nvfp4a4"),
            ("nvfp4", "nvfp4"),
        ] {
            assert_eq!(text.parse::<Scheme>().unwrap().to_string(), own, "{text}");
        }
        for (name, own) in PRESETS {
            assert_eq!(name.parse::<Scheme>().unwrap().to_string(), *own, "{name}");
        }
    }

    #[test]
    fn scheme_refuses_nonsense() {
        for text in [
            "", "4g128", "w5", "w4g", "w4g0", "w4h3", "w4a7", "w4g128x", "nf4-asym", "w4-dq",
        ] {
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
