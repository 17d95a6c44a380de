//! Which scheme and which type of scales a module gets in a layout.

use super::source::{Coding, Quantized};
use crate::error::{Code, Error, Result};
use crate::layout::Layout;
use crate::layout::bitsandbytes::BitsAndBytes;
use crate::scheme::{Element, Group, Scheme, ZeroPoint};
use crate::tensor::Dtype;
use serde_json::Value;

/// The scheme that holds the same values in a layout: the source's own, or one that says the same
/// in other words. `scheme` with the layout's reason when there is none.
pub(super) fn natural(from: &Scheme, layout: &dyn Layout, shape: (usize, usize)) -> Result<Scheme> {
    let zeros: &[ZeroPoint] = match from.zero {
        ZeroPoint::None => &[ZeroPoint::None, ZeroPoint::Int, ZeroPoint::Float],
        ZeroPoint::Int => &[ZeroPoint::Int, ZeroPoint::Float],
        ZeroPoint::Float => &[ZeroPoint::Float],
    };
    let cols = shape.1;
    let groups = match from.group {
        Group::Row => [
            Group::Row,
            Group::Run(cols),
            Group::Run(128),
            Group::Run(64),
        ],
        Group::Run(n) if n == cols => [Group::Run(n), Group::Row, Group::Run(128), Group::Run(64)],
        other => [other; 4],
    };
    let zeros = zeros
        .iter()
        .filter(|z| from.element == Element::Int || **z == from.zero);
    for zero in zeros {
        for group in groups {
            let scheme = Scheme {
                zero: *zero,
                group,
                ..*from
            };
            if layout.fits(&scheme, shape.0, shape.1).is_ok() {
                return Ok(scheme);
            }
        }
    }
    match layout.fits(from, shape.0, shape.1) {
        Ok(()) => Ok(*from),
        Err(e) => Err(Error::new(e.code, e.what).remedy(rounding(layout))),
    }
}

/// `scheme` for blocks whose values no scheme describes.
pub(super) fn no_scheme(quantized: &Quantized, layout: &dyn Layout) -> Error {
    let (from, to) = (quantized.name(), layout.name());
    let what = format!("{from} has groups with minima or values that {to} does not hold");
    Error::new(Code::Scheme, what).remedy(rounding(layout))
}

fn rounding(layout: &dyn Layout) -> String {
    let name = layout.name();
    format!("name a --scheme of {name} to have values rounded to it")
}

/// What a layout divides its stored scales by.
pub(super) fn divisor(layout: &dyn Layout, scheme: &Scheme) -> Option<f32> {
    let integer = scheme.element == Element::Int;
    (integer && layout.name() == BitsAndBytes.name()).then_some(127.0)
}

/// Endings of the tensors that hold scales.
const SCALES: &[&str] = &[
    "weight_scale",
    "weight_scale_inv",
    "weight_scales",
    "scales",
    "scale",
    "SCB",
];

/// The type that a matrix's scales have; `F32` for those that are no plain floats.
pub(super) fn scale_dtype(quantized: &Quantized) -> Dtype {
    if let Coding::Blocks(ty) = quantized.coding {
        // Products of a half and an integer, of which f32 holds every one.
        let products = ty.name.ends_with("_K");
        return if products { Dtype::F32 } else { Dtype::F16 };
    }
    let is_scale = |name: &str| {
        name.rsplit('.')
            .next()
            .is_some_and(|end| SCALES.contains(&end))
    };
    let found = quantized.parts.iter().find(|p| is_scale(&p.name));
    match found.map(|p| p.dtype) {
        Some(dtype @ (Dtype::F16 | Dtype::BF16)) => dtype,
        _ => Dtype::F32,
    }
}

pub(super) fn parse_scale_dtype(name: &str) -> Result<Dtype> {
    match Dtype::parse(&name.to_uppercase())? {
        dtype @ (Dtype::F32 | Dtype::F16 | Dtype::BF16) => Ok(dtype),
        _ => Err(Error::new(Code::Option, format!("scales cannot be {name}"))
            .remedy("use F32, F16 or BF16")),
    }
}

/// `scheme` when the layout's config cannot say what each module is.
pub(super) fn check_config(
    layout: &dyn Layout,
    config: &Value,
    assignment: &[(String, Scheme)],
) -> Result<()> {
    let Some(resolver) = layout.detect(config) else {
        return Err(Error::new(Code::Internal, "the config is not its layout's"));
    };
    let resolver = resolver?;
    // Blocks of flat tensors are stored beside them.
    let said = |s: &Scheme| match s.group {
        Group::Flat(_) => (s.element, s.bits, s.zero, None),
        group => (s.element, s.bits, s.zero, Some(group)),
    };
    for (module, scheme) in assignment {
        let read = resolver.scheme(module);
        if read.as_ref().map(said) != Some(said(scheme)) {
            let what = format!("{} has one scheme for all modules", layout.name());
            return Err(
                Error::new(Code::Scheme, format!("{scheme} beside others: {what}"))
                    .at(format!("module {module:?}"))
                    .remedy("name a --scheme for all, or use format compressed-tensors"),
            );
        }
    }
    Ok(())
}
