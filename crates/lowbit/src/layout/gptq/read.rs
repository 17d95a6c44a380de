//! `quantization_config` of GPTQ → which module has which scheme.

use super::{Gptq, V1, V2};
use crate::error::{Code, Error, Result};
use crate::layout::target::Target;
use crate::layout::{Resolver, Rule};
use crate::scheme::{BITS, Group, Scheme};
use serde_json::Value;

/// `less` tells the version of the layout.
pub(super) fn config(less: u8, config: &Value, version: &str) -> Result<Resolver> {
    let layout: &'static Gptq = if less == 1 { &V1 } else { &V2 };
    let place = |e: Error| e.at("quantization_config");
    if !matches!(version, "gptq" | "gptq_v2") {
        let error = Error::new(Code::Unsupported, format!("checkpoint_format {version:?}"));
        return Err(place(error.remedy("expected gptq or gptq_v2")));
    }
    let rule = |target, scheme| Rule {
        target,
        scheme,
        layout,
    };
    let usual = scheme(config, config).map_err(place)?;
    let mut rules = vec![rule(Target::Linear, usual)];
    let mut ignored = Vec::new();
    for (pattern, own) in config["dynamic"].as_object().into_iter().flatten() {
        let (skip, pattern) = match pattern.strip_prefix("-:") {
            Some(pattern) => (true, pattern),
            None => (false, pattern.strip_prefix("+:").unwrap_or(pattern)),
        };
        let target = Target::parse(&format!("re:{pattern}")).map_err(place)?;
        if skip {
            ignored.push(target);
        } else {
            rules.push(rule(target, scheme(own, config).map_err(place)?));
        }
    }
    Ok(Resolver::new(layout, rules, ignored))
}

/// The scheme of `own` settings, with the whole config's for those that are missing.
fn scheme(own: &Value, config: &Value) -> Result<Scheme> {
    let setting = |key: &str| match &own[key] {
        Value::Null => config[key].clone(),
        value => value.clone(),
    };
    let bits = setting("bits").as_u64().and_then(|b| u8::try_from(b).ok());
    let Some(bits) = bits.filter(|b| BITS.contains(b)) else {
        return Err(Error::new(
            Code::Unsupported,
            format!("bits {}", setting("bits")),
        ));
    };
    let group = match setting("group_size").as_i64() {
        Some(-1) => Group::Row,
        Some(n) if n > 0 => Group::Run(usize::try_from(n).unwrap_or(usize::MAX)),
        _ => {
            let what = format!("group_size {}", setting("group_size"));
            return Err(Error::new(Code::Config, what));
        }
    };
    let symmetric = setting("sym").as_bool().unwrap_or(true);
    Ok(Scheme::weights(bits, group, symmetric))
}
