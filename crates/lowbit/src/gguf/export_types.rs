//! Types of the tensors of a file to be, and what an importance matrix says of each.

use super::codec::Importance;
use super::export::{Output, Request};
use super::imatrix::Imatrix;
use super::latent::Half;
use super::metadata::Sizes;
use super::mix_choose::{Facts, choose};
use super::mix_kinds::quantizes;
use super::tensors::Change;
use crate::error::Result;

/// Sets the type and the importance of every output, and says what is not as the mix has it.
pub(super) fn choose_types(
    outputs: &mut [Output],
    request: &Request<'_>,
    sizes: &Sizes,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let tensors: Vec<_> = outputs
        .iter()
        .map(|o| (o.planned.name.clone(), o.planned.shape.clone()))
        .collect();
    let facts = Facts {
        layers: sizes.layers,
        heads: sizes.heads,
        kv_heads: sizes.kv_heads,
        experts: sizes.experts,
        imatrix: request.imatrix.is_some(),
    };
    let choices = choose(request.mix, &tensors, &facts, request.overrides)?;
    for (output, choice) in outputs.iter_mut().zip(choices) {
        output.planned.ty = choice.ty;
        output.wanted = choice.wanted;
        let (name, shape) = (&output.planned.name, &output.planned.shape);
        let cols = shape.last().copied().unwrap_or(1);
        if choice.ty != choice.wanted {
            warnings.push(format!(
                "{name} becomes {} instead of {}: {cols} columns are no multiple of {}",
                choice.ty.name, choice.wanted.name, choice.wanted.block
            ));
        }
        if let Some((imatrix, _)) = request.imatrix.filter(|_| quantizes(name, shape)) {
            output.importance = importance(output, imatrix)?;
            let outside = name.starts_with("token_embd") || name == "output.weight";
            if output.importance.is_none() && !outside {
                warnings.push(format!("{name} is not in the importance matrix"));
            }
        }
    }
    Ok(())
}

/// What an importance matrix says of a tensor. Of values of latent attention, that of the vector
/// that they are made of will do, which is what our own forward pass collects.
fn importance(output: &Output, imatrix: &Imatrix) -> Result<Option<Vec<Importance>>> {
    let name = &output.planned.name;
    let cols = output.planned.shape.last().copied().unwrap_or(1);
    let Change::Half(latent, half) = output.change else {
        return imatrix.importance(name, cols, output.sources.len());
    };
    match imatrix.importance(name, cols, latent.heads)? {
        None if half == Half::Values => {
            let one = imatrix.importance(&name.replace("attn_v_b", "attn_kv_b"), cols, 1)?;
            Ok(one.and_then(|all| Some(vec![all.first()?.clone(); latent.heads])))
        }
        found => Ok(found),
    }
}
