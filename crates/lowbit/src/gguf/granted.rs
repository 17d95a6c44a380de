//! What llama.cpp takes for granted of a family: values of config.json that its files have no key
//! for. A config that has another value gives another model there, so it is refused or told.

use super::family::Family;
use super::metadata::Sizes;
use crate::error::{Code, Error, Result};
use serde_json::Value as Json;

/// One value that has no key.
#[derive(Debug)]
pub(super) struct Granted {
    /// The key of config.json.
    pub(super) from: &'static str,
    pub(super) value: Taken,
    /// What llama.cpp does whatever the config says.
    pub(super) does: &'static str,
    /// Whether the model is of no use then, or only departs beyond its window.
    pub(super) breaks: bool,
}

/// What a value is taken for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Taken {
    /// True and nothing else.
    True,
    /// Anything but true.
    NotTrue,
    /// Absent, or this number.
    Count(u64),
    /// Absent, null or an empty list.
    Nothing,
}

impl Taken {
    fn holds(self, value: Option<&Json>) -> bool {
        let value = value.filter(|v| !v.is_null());
        match self {
            Self::True => value.and_then(Json::as_bool) == Some(true),
            Self::NotTrue => value.and_then(Json::as_bool) != Some(true),
            Self::Count(n) => value.is_none_or(|v| v.as_u64() == Some(n)),
            Self::Nothing => value.is_none_or(|v| v.as_array().is_some_and(Vec::is_empty)),
        }
    }
}

/// Windows of families whose layers all look at everything in llama.cpp.
pub(super) const NO_WINDOW: Granted = Granted {
    from: "sliding_window",
    value: Taken::Nothing,
    does: "llama.cpp lets every layer look at everything, also beyond the window",
    breaks: false,
};

/// The same for configs that have a switch.
pub(super) const WINDOW_OFF: Granted = Granted {
    from: "use_sliding_window",
    value: Taken::NotTrue,
    ..NO_WINDOW
};

/// Experts in every layer, part one: no step.
pub(super) const EVERY_LAYER: Granted = Granted {
    from: "decoder_sparse_step",
    value: Taken::Count(1),
    does: "llama.cpp has experts in every layer of this family",
    breaks: true,
};

/// Part two: no exceptions.
pub(super) const NO_DENSE_LAYER: Granted = Granted {
    from: "mlp_only_layers",
    value: Taken::Nothing,
    ..EVERY_LAYER
};

/// Checks a config against what is taken for granted: `unsupported` where the model would be of no
/// use, a warning where it departs.
pub(super) fn check(family: &Family, config: &Json, sizes: &Sizes) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for one in family.granted {
        let found = config.get(one.from);
        if one.value.holds(found) {
            continue;
        }
        let shown = found.map_or_else(|| "missing".into(), Json::to_string);
        let what = format!("{} is {shown}: {}", one.from, one.does);
        if one.breaks {
            return Err(refused(what));
        }
        warnings.push(what);
    }
    match (family.misfit)(config, sizes) {
        Some(why) => Err(refused(why)),
        None => Ok(warnings),
    }
}

fn refused(what: String) -> Error {
    let error = Error::new(Code::Unsupported, what).at("config.json");
    error.remedy("write a safetensors format; GGUF has no key for this")
}

/// Nothing that one value does not tell.
pub(super) fn fits(_: &Json, _: &Sizes) -> Option<String> {
    None
}

/// Scores of Gemma are divided by the root of a head's width, or of the heads' share of the hidden
/// width in models of `large` layers.
fn gemma_scale(config: &Json, sizes: &Sizes, large: usize) -> Option<String> {
    let hidden = config.get("hidden_size").and_then(Json::as_u64)? as usize;
    let wanted = if sizes.layers == large {
        hidden / sizes.heads
    } else {
        sizes.head_dim
    };
    let found = config.get("query_pre_attn_scalar").and_then(Json::as_f64)?;
    (found != wanted as f64).then(|| {
        format!("query_pre_attn_scalar is {found}: llama.cpp takes {wanted} for these sizes")
    })
}

pub(super) fn gemma2(config: &Json, sizes: &Sizes) -> Option<String> {
    gemma_scale(config, sizes, 46)
}

pub(super) fn gemma3(config: &Json, sizes: &Sizes) -> Option<String> {
    gemma_scale(config, sizes, 62)
}

/// Every fourth layer of `SmolLM3` does not turn its queries and keys.
pub(super) fn smollm3(config: &Json, _: &Sizes) -> Option<String> {
    let step = config.get("no_rope_layer_interval").and_then(Json::as_u64);
    let odd = match config.get("no_rope_layers").and_then(Json::as_array) {
        Some(layers) => layers
            .iter()
            .enumerate()
            .any(|(i, turns)| turns.as_u64() != Some(u64::from((i + 1) % 4 != 0))),
        None => step.is_some_and(|step| step != 4),
    };
    odd.then(|| "no_rope_layers: llama.cpp leaves out every fourth layer and no other".into())
}

/// `DeepSeek`: groups of experts are scored as version 3 does, and its rotary scale has one of the
/// two corrections only.
pub(super) fn deepseek(config: &Json, _: &Sizes) -> Option<String> {
    let groups = config.get("n_group").and_then(Json::as_u64).unwrap_or(1);
    let method = config.get("topk_method").and_then(Json::as_str);
    if groups > 1 && method == Some("group_limited_greedy") {
        return Some(
            "topk_method is group_limited_greedy: llama.cpp scores a group by its two best experts"
                .into(),
        );
    }
    let rope = ["rope_parameters", "rope_scaling"]
        .iter()
        .find_map(|key| config.get(key).filter(|v| !v.is_null()))?;
    let part = |key: &str| rope.get(key).and_then(Json::as_f64);
    let (one, all) = (part("mscale").unwrap_or(1.0), part("mscale_all_dim")?);
    let taken = if all == 1.0 { 1.0 } else { all };
    (one != taken).then(|| format!("mscale is {one}: llama.cpp takes {taken} here"))
}
