//! What a change of scheme will do to values, as far as the schemes alone tell.

use super::target::How;
use crate::scheme::{Activations, Group, Scheme, ZeroPoint};

/// What is known of the outcome before data are read; why it is not exact, or on what it depends.
pub(super) fn forecast(from: &Scheme, to: &Scheme, (rows, cols): (usize, usize)) -> (How, String) {
    let rounded = |why: String| (How::Rounded, why);
    if from.element != to.element {
        return rounded(format!("{from} has other values than {to}"));
    }
    if to.nested != from.nested && to.nested {
        return rounded("scales are quantized themselves".into());
    }
    let mut depends = Vec::new();
    match groups(block(from, rows, cols), block(to, rows, cols)) {
        Some(true) => {}
        Some(false) => depends.push("neighbouring groups share scale and zero point"),
        None => return rounded("groups of one do not divide those of the other".into()),
    }
    if to.bits < from.bits {
        depends.push("every code is small enough");
    }
    match (from.zero, to.zero) {
        (ZeroPoint::Int, ZeroPoint::None) => depends.push("every zero point is in the middle"),
        (ZeroPoint::Float, ZeroPoint::None | ZeroPoint::Int) => {
            depends.push("every zero point is an integer in range");
        }
        _ => {}
    }
    match depends.is_empty() {
        true => (How::Exact, String::new()),
        false => (How::IfItFits, format!("if {}", depends.join(" and "))),
    }
}

/// Rows and columns that share a scale.
pub(super) fn block(scheme: &Scheme, rows: usize, cols: usize) -> Option<(usize, usize)> {
    match scheme.group {
        Group::Tensor => Some((rows, cols)),
        Group::Block { rows, cols } => Some((rows, cols)),
        _ => scheme.group_cols(cols).ok().map(|n| (1, n)),
    }
}

/// Whether groups are cut (true) or joined (false); none when neither.
pub(super) fn groups(from: Option<(usize, usize)>, to: Option<(usize, usize)>) -> Option<bool> {
    let ((a, b), (c, d)) = (from?, to?);
    if a.is_multiple_of(c) && b.is_multiple_of(d) {
        return Some(true);
    }
    (c.is_multiple_of(a) && d.is_multiple_of(b)).then_some(false)
}

/// Whether the inputs of a module are rounded when it runs, as loaders see it.
pub(super) fn inputs_differ(from: Option<&Scheme>, to: &Scheme) -> Option<&'static str> {
    let is_static = |a: Option<Activations>| a.is_some_and(|a| !a.dynamic);
    match (from.and_then(|s| s.activations), to.activations) {
        (a, b) if a == b => None,
        (Some(_), None) => Some("inputs are not rounded any more when the model runs"),
        _ if is_static(to.activations) => Some("the source has no scale for the inputs"),
        _ => Some(
            "inputs are rounded to 8 bits when the model runs, which the source did not ask for",
        ),
    }
}
