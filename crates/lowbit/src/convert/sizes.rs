//! Outputs and inputs of quantized matrices, before a tensor is read.

use super::source::Quantized;
use crate::error::{Code, Error, Result};
use crate::model::config::Config;
use crate::model::weights;
use crate::scheme::{Group, Scheme};
use crate::tensor::Dtype;
use std::collections::{BTreeMap, BTreeSet};

/// Outputs and inputs of every linear by module.
pub(super) fn known(model: &Config) -> BTreeMap<String, (usize, usize)> {
    let blocks = 0..model.layers;
    let linears = blocks.flat_map(|block| weights::linears(model, block));
    let head = (model.arch().head.into(), (model.vocabulary, model.hidden));
    linears
        .map(|l| (l.module, (l.rows, l.cols)))
        .chain([head])
        .collect()
}

/// Outputs and inputs of a matrix from the shapes of its tensors: the one pair under which the
/// layout would write them so.
pub(super) fn of_parts(module: &str, q: &Quantized) -> Result<(usize, usize)> {
    let bits = usize::from(q.scheme.bits);
    let sizes: BTreeSet<usize> = q.parts.iter().flat_map(|p| p.shape.clone()).collect();
    let scaled = |n: &usize| [*n, 2 * n, 8 * n, 32 * n / bits, n * group(&q.scheme)];
    let sizes: BTreeSet<usize> = sizes.iter().flat_map(scaled).filter(|n| *n > 0).collect();
    let mut found = BTreeSet::new();
    for rows in &sizes {
        for cols in &sizes {
            let shape = (*rows, *cols);
            let fits = q.layout.divides(&q.scheme, shape.0, shape.1).is_ok();
            if fits && writes_so(module, q, shape) {
                found.insert(shape);
            }
        }
    }
    match found.into_iter().collect::<Vec<_>>()[..] {
        [shape] => Ok(shape),
        _ => {
            let what = "the size of the matrix is not to be told from its tensors";
            Err(Error::new(Code::Shape, what)
                .at(format!("{module:?} of an unknown architecture"))
                .remedy("convert a model of a known architecture"))
        }
    }
}

fn group(scheme: &Scheme) -> usize {
    match scheme.group {
        Group::Run(n) | Group::Flat(n) => n,
        _ => 1,
    }
}

fn writes_so(module: &str, q: &Quantized, shape: (usize, usize)) -> bool {
    let planned = q
        .layout
        .outputs(module, &q.scheme, shape, Dtype::F32, false);
    planned.iter().all(|p| {
        let found = q.parts.iter().find(|t| t.name == p.name);
        found.is_some_and(|t| t.shape == p.shape)
    })
}
