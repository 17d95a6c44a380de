//! What a plan is made for: a model that is known, or what can be guessed of one that is not.

use super::changes::Changes;
use super::choose::Layer;
use crate::error::{Code, Error, Result};
use crate::model::config::Config;
use crate::model::guess;
use crate::model::head::Head;
use crate::model::load::{Loader, Source};
use std::collections::BTreeSet;

/// The model of a plan.
#[derive(Debug)]
pub(super) struct Subject {
    pub model: Config,
    pub head: Head,
    /// Tensors that the model uses: these must be finite.
    pub used: BTreeSet<String>,
}

impl Subject {
    /// Checks a checkpoint as the loader does, or guesses its linears.
    pub(super) fn of(source: &Source) -> Result<Self> {
        if !guess::is_unknown(&source.config) {
            let loader = Loader::new(source)?;
            return Ok(Self {
                head: loader.head(),
                used: loader.tensors().into_iter().collect(),
                model: loader.config().clone(),
            });
        }
        let model = guess::config(source)?;
        let linears = model.guess.iter().flat_map(|g| g.blocks.iter().flatten());
        Ok(Self {
            used: linears.map(|l| l.weight.clone()).collect(),
            head: Head::None,
            model,
        })
    }
}

/// `unknown-architecture` for whatever has to run a model that nobody knows how to run.
pub(super) fn refuse_guessed(
    model: &Config,
    changes: &Changes,
    needed_by: Option<&str>,
) -> Result<()> {
    let Some(guess) = &model.guess else {
        return Ok(());
    };
    let step = match needed_by {
        Some(step) => step,
        None if changes.widen() => "a transform or pruning",
        None => return Ok(()),
    };
    let what = format!(
        "{step} has to know the architecture, and model_type {:?} is not known",
        guess.model_type
    );
    Err(Error::new(Code::UnknownArchitecture, what)
        .at("config.json")
        .remedy("use --method rtn or hqq, which need no more than the weights"))
}

/// What was guessed, for the reader to check.
pub(super) fn warnings(model: &Config, layers: &[Layer], ignored: &[String]) -> Vec<String> {
    let Some(guess) = &model.guess else {
        return Vec::new();
    };
    let some = |names: &[&str]| names.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    let modules: Vec<_> = layers.iter().map(|l| l.linear.module.as_str()).collect();
    let kept: Vec<_> = ignored.iter().map(String::as_str).collect();
    let mut all = vec![format!(
        "model_type {:?} is not known: {} matrices are taken for linears by shape and name ({}, …); \
         nothing was run, so check the result where you load it",
        guess.model_type,
        modules.len(),
        some(&modules)
    )];
    if !kept.is_empty() {
        all.push(format!(
            "{} matrices stay as stored: their names are those of embeddings, norms, routers or \
             heads, or they do not fit the scheme ({}, …)",
            kept.len(),
            some(&kept)
        ));
    }
    all
}
