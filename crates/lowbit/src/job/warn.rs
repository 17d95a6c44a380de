//! What the user should know before a run, or may not do when it is to be strict.

use super::plan::Plan;
use super::{served, subject};
use crate::error::{Code, Error, Result};
use crate::model::accelerator::Adapter;

/// Warnings that the plan alone gives; `dataset` instead when the run is strict and the
/// calibration set is too small.
pub(super) fn of(plan: &Plan) -> Result<Vec<String>> {
    let mut warnings = small_set(plan);
    refuse_if_strict(plan, &warnings)?;
    let guessed = subject::warnings(&plan.model, &plan.layers, &plan.ignored);
    warnings.splice(0..0, guessed);
    warnings.extend(torn(plan));
    warnings.extend(tensor_parallel(plan));
    let ordered = plan.layers.iter().any(|l| plan.is_by_index(l));
    let caveat = plan.layout.order_caveat().filter(|_| ordered);
    warnings.extend(caveat.map(str::to_owned));
    Ok(warnings)
}

/// Warnings about the calibration tokens themselves; `dataset` when the run is strict.
pub(super) fn of_tokens(plan: &Plan, tokens: &[u32]) -> Result<Vec<String>> {
    let Some(set) = plan.calibration else {
        return Ok(Vec::new());
    };
    let mut warnings = Vec::new();
    let mut samples = tokens.chunks_exact(set.length);
    let first = samples.next().unwrap_or_default();
    if set.samples > 1 && samples.all(|s| s == first) {
        warnings.push(format!("all {} calibration samples are equal", set.samples));
    }
    if tokens.len() > 1 && tokens.iter().all(|t| *t == tokens[0]) {
        warnings.push(format!("every calibration token is {}", tokens[0]));
    }
    refuse_if_strict(plan, &warnings)?;
    Ok(warnings)
}

/// `dataset` when the calibration tokens are not those that the plan was made for.
pub(super) fn check_tokens(plan: &Plan, tokens: &[u32]) -> Result<()> {
    let Some(set) = plan.calibration else {
        return Ok(());
    };
    let wanted = set.samples * set.length;
    if tokens.len() != wanted {
        let what = format!("{} calibration tokens, announced {wanted}", tokens.len());
        return Err(Error::new(Code::Dataset, what));
    }
    let vocabulary = plan.model.vocabulary;
    match tokens.iter().position(|t| *t as usize >= vocabulary) {
        Some(i) => {
            let what = format!("token {i} of the calibration set is {}", tokens[i]);
            Err(Error::new(Code::Dataset, what).remedy(format!(
                "the vocabulary has {vocabulary} pieces: use the model's own tokenizer"
            )))
        }
        None => Ok(()),
    }
}

/// Warnings about where calibration runs.
pub(super) fn of_device(plan: &Plan, asked: Option<&Adapter>) -> Option<String> {
    let adapter = asked?;
    if plan.device.is_none() {
        return Some("device gpu does nothing here: only calibration runs there".into());
    }
    adapter.software.then(|| {
        format!(
            "{} is a program, not a chip: device cpu is faster",
            adapter.name
        )
    })
}

/// What to do when an accelerator fails: everything in the journal stays as it is.
pub(super) fn resumable(error: Error) -> Error {
    let remedy = match error.code {
        Code::DeviceLost => {
            "give the same command again to go on from the last block, or start over with --fresh \
             --device cpu"
        }
        Code::OutOfMemory => {
            "start over with --fresh --device cpu; where others use the GPU, give the same command \
             again when they are done"
        }
        _ => return error,
    };
    error.remedy(remedy)
}

fn small_set(plan: &Plan) -> Vec<String> {
    let Some(set) = plan.calibration.filter(|_| plan.sees_inputs) else {
        return Vec::new();
    };
    let tokens = set.samples * set.length;
    let widest = plan.layers.iter().max_by_key(|l| l.linear.cols);
    let Some(layer) = widest.filter(|l| tokens < l.linear.cols) else {
        return Vec::new();
    };
    let (cols, module) = (layer.linear.cols, &layer.linear.module);
    let groups = layer
        .scheme
        .group_cols(cols)
        .map_or(1, |group| cols / group);
    let mut warnings = vec![format!(
        "{tokens} calibration tokens are fewer than the {cols} inputs of {module}: use more samples"
    )];
    if tokens < groups {
        warnings.push(format!(
            "{tokens} calibration tokens are fewer than the {groups} groups in a row of {module}"
        ));
    }
    warnings
}

/// The smallest number of devices that the model cannot be cut over: more cannot be then either.
fn tensor_parallel(plan: &Plan) -> Option<String> {
    let mut cannot = served::parallel(plan).into_iter();
    let (ranks, why) = cannot.find_map(|p| Some((p.ranks, p.why?)))?;
    Some(format!("cannot be split over {ranks} devices: {why}"))
}

/// Linears that engines join must be quantized alike.
fn torn(plan: &Plan) -> Option<String> {
    let torn = served::torn(plan)?;
    Some(format!(
        "vLLM and SGLang join linears that differ here and will not load this: {torn}"
    ))
}

fn refuse_if_strict(plan: &Plan, warnings: &[String]) -> Result<()> {
    match warnings.first().filter(|_| plan.strict) {
        None => Ok(()),
        Some(warning) => Err(Error::new(Code::Dataset, warning.clone())
            .remedy("use more calibration text, or leave strict out")),
    }
}
