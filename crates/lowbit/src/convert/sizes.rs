//! Outputs and inputs of quantized matrices, before a tensor is read.

use super::source::{Coding, Quantized};
use crate::error::{Code, Error, Result};
use crate::layout::Layout;
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

/// Whether a module is a linear of one of the model's blocks that may be quantized.
pub(super) fn is_linear(model: &Config, module: &str) -> bool {
    let block = module.strip_prefix(model.arch().blocks);
    let number = block.and_then(|rest| rest.split('.').nth(1)?.parse::<usize>().ok());
    let Some(block) = number.filter(|n| *n < model.layers) else {
        return false;
    };
    let linears = weights::linears(model, block);
    linears.iter().any(|l| l.quantizable && l.module == module)
}

/// Outputs and inputs of a matrix from the shapes of its tensors: the one pair under which the
/// layout would write them so.
pub(super) fn of_parts(module: &str, q: &Quantized) -> Result<(usize, usize)> {
    let Coding::Layout(layout, scheme) = q.coding else {
        return Err(Error::new(Code::Internal, "blocks have a shape"));
    };
    let bits = usize::from(scheme.bits);
    let sizes: BTreeSet<usize> = q.parts.iter().flat_map(|p| p.shape.clone()).collect();
    let scaled = |n: &usize| [*n, 2 * n, 8 * n, 32 * n / bits, n * group(&scheme)];
    let sizes: BTreeSet<usize> = sizes.iter().flat_map(scaled).filter(|n| *n > 0).collect();
    let mut found = BTreeSet::new();
    for rows in &sizes {
        for cols in &sizes {
            let shape = (*rows, *cols);
            let fits = layout.divides(&scheme, shape.0, shape.1).is_ok();
            if fits && writes_so(module, q, layout, &scheme, shape) {
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

fn writes_so(
    module: &str,
    q: &Quantized,
    layout: &dyn Layout,
    scheme: &Scheme,
    shape: (usize, usize),
) -> bool {
    let planned = layout.outputs(module, scheme, shape, Dtype::F32, false);
    planned.iter().all(|p| {
        let found = q.parts.iter().find(|t| t.name == p.name);
        found.is_some_and(|t| t.shape == p.shape)
    })
}
