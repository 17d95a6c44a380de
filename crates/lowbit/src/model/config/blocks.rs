//! What differs from block to block: windows of attention, rotation, experts.

use super::{Config, experts};
use crate::error::{Code, Error, Result};
use crate::model::arch::{Arch, Window};
use crate::model::fields::Fields;

/// What is particular to one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlockShape {
    /// Its MLP is a mixture of experts.
    pub sparse: bool,
    /// Attention sees this many positions, the token's own included; none: all of the context.
    pub window: Option<usize>,
    /// How queries and keys are rotated.
    pub turning: Turning,
}

/// Which rotary embedding a block uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Turning {
    /// The model's.
    #[default]
    Global,
    /// That of `Config::local_theta`.
    Local,
    /// None: the block sees no positions.
    Never,
}

/// One shape per block; `config` and `unsupported` as `Config::from_json` gives them.
pub(super) fn shapes(fields: &Fields<'_>, arch: &Arch, config: &Config) -> Result<Vec<BlockShape>> {
    let sliding = sliding(fields, arch, config)?;
    let window = window(fields, arch)?;
    let turns = turns(fields, arch, config)?;
    let sparse = match &arch.experts {
        Some(keys) => experts::sparse(fields, keys, config)?,
        None => vec![false; config.layers],
    };
    let shape = |layer: usize| BlockShape {
        sparse: sparse[layer],
        window: window.filter(|w| sliding[layer] && *w < config.context),
        turning: match arch.rope.local_theta {
            _ if !turns[layer] => Turning::Never,
            Some(_) if sliding[layer] => Turning::Local,
            _ => Turning::Global,
        },
    };
    Ok((0..config.layers).map(shape).collect())
}

/// Which blocks look back over a window only.
fn sliding(fields: &Fields<'_>, arch: &Arch, config: &Config) -> Result<Vec<bool>> {
    let listed = layer_types(fields, config)?;
    let by_list = matches!(
        arch.window,
        Window::Flag | Window::Listed | Window::Pattern { .. }
    );
    if let Some(types) = listed
        .as_ref()
        .filter(|types| types.contains(&true) && !by_list)
    {
        let layer = types
            .iter()
            .position(|sliding| *sliding)
            .unwrap_or_default();
        let what = format!("layer_types[{layer}] \"sliding_attention\" in this family");
        return Err(Error::new(Code::Unsupported, what).at("config.json"));
    }
    let flag = || fields.flag("use_sliding_window", false);
    let sliding = match arch.window {
        Window::Never => vec![false; config.layers],
        Window::Size(_) => vec![true; config.layers],
        Window::FlagAll => vec![flag()?; config.layers],
        Window::Flag => {
            let first = fields.count("max_window_layers", 0..=1 << 20, Some(28))?;
            match (flag()?, listed) {
                (false, _) => vec![false; config.layers],
                (true, Some(types)) => types,
                (true, None) => (0..config.layers).map(|layer| layer >= first).collect(),
            }
        }
        Window::Listed => match (flag()?, listed) {
            (false, _) => vec![false; config.layers],
            (true, Some(types)) => types,
            (true, None) => {
                let what = "use_sliding_window without layer_types";
                return Err(Error::new(Code::Unsupported, what).at("config.json"));
            }
        },
        Window::Pattern { key, every } => {
            let every = match key {
                Some(key) => fields.count(key, 1..=1 << 20, Some(every))?,
                None => every,
            };
            let by_pattern = |layer: usize| !(layer + 1).is_multiple_of(every);
            listed.unwrap_or_else(|| (0..config.layers).map(by_pattern).collect())
        }
    };
    Ok(sliding)
}

/// The size of windows; transformers takes null for "no window" and a missing key for the
/// family's own size.
fn window(fields: &Fields<'_>, arch: &Arch) -> Result<Option<usize>> {
    let absent = match arch.window {
        Window::Never => return Ok(None),
        Window::Size(absent) => absent,
        Window::Flag | Window::FlagAll | Window::Pattern { .. } => Some(4096),
        Window::Listed => None,
    };
    if fields.is_null("sliding_window")
        || (fields.get("sliding_window").is_none() && absent.is_none())
    {
        return Ok(None);
    }
    // Some configs write 0 for a window that is off.
    let window = fields.count("sliding_window", 0..=1 << 28, absent)?;
    Ok(Some(window).filter(|w| *w > 0))
}

/// `layer_types`, if it is there: true where attention slides.
fn layer_types(fields: &Fields<'_>, config: &Config) -> Result<Option<Vec<bool>>> {
    let Some(value) = fields.get("layer_types") else {
        return Ok(None);
    };
    let list = value.as_array().filter(|list| list.len() == config.layers);
    let Some(list) = list else {
        let allowed = format!("a list of {} strings, one per layer", config.layers);
        return Err(fields.refuse("layer_types", value, allowed));
    };
    let sliding = list.iter().map(|kind| match kind.as_str() {
        Some("full_attention") => Ok(false),
        Some("sliding_attention") => Ok(true),
        _ => {
            let what = format!("layer type {:.60}", kind.to_string());
            Err(Error::new(Code::Unsupported, what)
                .at("config.json")
                .remedy("known: full_attention, sliding_attention"))
        }
    });
    sliding.collect::<Result<_>>().map(Some)
}

/// Which blocks rotate queries and keys.
fn turns(fields: &Fields<'_>, arch: &Arch, config: &Config) -> Result<Vec<bool>> {
    if !arch.rope.some_without {
        return Ok(vec![true; config.layers]);
    }
    // Against its name, the list has 1 where a layer does rotate.
    let list = fields.counts("no_rope_layers")?;
    if list.len() == config.layers && list.iter().all(|x| *x < 2) {
        return Ok(list.iter().map(|x| *x == 1).collect());
    }
    if let Some(value) = fields.get("no_rope_layers") {
        let allowed = format!("{} numbers, each 0 or 1", config.layers);
        return Err(fields.refuse("no_rope_layers", value, allowed));
    }
    let every = fields.count("no_rope_layer_interval", 1..=1 << 20, Some(4))?;
    let turns = |layer: usize| !(layer + 1).is_multiple_of(every);
    Ok((0..config.layers).map(turns).collect())
}
