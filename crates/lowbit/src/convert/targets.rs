//! Which formats a conversion can make, one row each.

use super::float;
use super::gguf;
use super::layouts;
use super::request::Request;
use super::source::Source;
use super::target::Target;
use crate::error::{Code, Error, Result, nearest};
use crate::layout::LAYOUTS;

type Make = fn(&Request, &Source) -> Result<Box<dyn Target>>;

/// Formats beside the layouts.
const OTHERS: &[(&str, Make)] = &[("float", float::make), ("gguf", gguf::make)];

/// The target that a request names; `option` with the nearest name otherwise.
pub(super) fn make(request: &Request, source: &Source) -> Result<Box<dyn Target>> {
    let name = request.options.format.as_str();
    if let Some((_, make)) = OTHERS.iter().find(|(n, _)| *n == name) {
        return make(request, source);
    }
    if let Some(layout) = LAYOUTS.iter().find(|l| l.name() == name) {
        return layouts::make(request, source, *layout);
    }
    let names = LAYOUTS.iter().map(|l| l.name());
    let known: Vec<_> = names.chain(OTHERS.iter().map(|(n, _)| *n)).collect();
    let error = Error::new(Code::Option, format!("unknown format {name:?}"));
    Err(match nearest(name, known.iter().copied()) {
        Some(near) => error.remedy(format!("did you mean {near:?}?")),
        None => error.remedy(format!("expected {}", known.join(", "))),
    })
}
