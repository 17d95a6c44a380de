//! Which scheme and method each linear gets, or none; patterns of options against modules.

use super::request::Options;
use crate::error::{Code, Error, Result, nearest};
use crate::layout::target::Target;
use crate::round::{self, Method};
use crate::scheme::Scheme;

/// How one linear is quantized.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chosen {
    pub scheme: Scheme,
    pub method: &'static Method,
}

/// What each module gets: none for those that stay as stored. `kept` are linears that stay so
/// anyhow, which may be named among the ignored.
///
/// `option` for a pattern that fits no module (`lm_head` may be named where it is the embedding)
/// or an unknown method, `unsupported` for a pattern that is not readable, `scheme` for a scheme
/// that does not parse.
pub(super) fn chosen(
    options: &Options,
    modules: &[&str],
    kept: &[&str],
) -> Result<Vec<Option<Chosen>>> {
    let default = Chosen {
        scheme: options.scheme.parse()?,
        method: round::find(&options.method)?,
    };
    let mut overrides = Vec::new();
    for rule in &options.layers {
        let own = Chosen {
            scheme: (rule.scheme.as_deref()).map_or(Ok(default.scheme), str::parse)?,
            method: (rule.method.as_deref()).map_or(Ok(default.method), round::find)?,
        };
        let patterns = std::slice::from_ref(&rule.pattern);
        overrides.push((Patterns::new(patterns, modules)?, own));
    }
    let all = [modules, kept].concat();
    let ignored = Patterns::new(&options.ignore, &all)?;
    let choice = |module: &&str| {
        if ignored.fit(module) {
            return None;
        }
        let own = overrides.iter().find(|(p, _)| p.fit(module));
        Some(own.map_or(default, |(_, own)| *own))
    };
    Ok(modules.iter().map(choice).collect())
}

/// Patterns that each fit some module of the model.
#[derive(Debug)]
pub(super) struct Patterns(Vec<Target>);

impl Patterns {
    /// Reads patterns; the errors are those of `chosen`.
    pub(super) fn new(patterns: &[String], modules: &[&str]) -> Result<Self> {
        let read = |pattern: &String| {
            let target = Target::parse(pattern)?;
            if pattern != "lm_head" {
                require_fit(&target, pattern, modules)?;
            }
            Ok(target)
        };
        patterns.iter().map(read).collect::<Result<_>>().map(Self)
    }

    /// Whether one of them means this module.
    pub(super) fn fit(&self, module: &str) -> bool {
        self.0.iter().any(|p| p.fits(module))
    }
}

fn require_fit(parsed: &Target, pattern: &str, modules: &[&str]) -> Result<()> {
    if modules.iter().any(|m| parsed.fits(m)) {
        return Ok(());
    }
    let near = nearest(pattern.trim_start_matches("re:"), modules.iter().copied());
    let what = format!("pattern {pattern:?} fits no linear of this model");
    Err(Error::new(Code::Option, what)
        .remedy(format!("nearest module: {:?}", near.unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::recipe::LayerRule;

    const MODULES: &[&str] = &[
        "model.layers.0.self_attn.q_proj",
        "model.layers.0.mlp.down_proj",
        "model.layers.1.mlp.down_proj",
    ];

    fn names(options: &Options) -> Vec<String> {
        let chosen = chosen(options, MODULES, &[]).unwrap();
        let text = |c: &Option<Chosen>| {
            c.map_or("-".into(), |c| format!("{} {}", c.method.name, c.scheme))
        };
        chosen.iter().map(text).collect()
    }

    fn rule(pattern: &str, scheme: Option<&str>, method: Option<&str>) -> LayerRule {
        LayerRule {
            pattern: pattern.into(),
            scheme: scheme.map(Into::into),
            method: method.map(Into::into),
        }
    }

    #[test]
    fn first_pattern_that_fits_decides() {
        let mut options = Options {
            layers: vec![
                rule("model.layers.1.mlp.down_proj", Some("w3"), None),
                rule("re:.*down_proj", Some("w8g128"), Some("rtn")),
            ],
            ..Options::default()
        };
        assert_eq!(names(&options), ["gptq w4g128", "rtn w8g128", "gptq w3"]);
        options.ignore = vec!["re:model\\.layers\\.0\\.".into()];
        assert_eq!(names(&options), ["-", "-", "gptq w3"]);
        options.ignore = vec!["Linear".into()];
        assert_eq!(names(&options), ["-", "-", "-"]);
    }

    #[test]
    fn what_fits_nothing_is_refused_with_the_nearest() {
        let refusal = |rule: LayerRule| {
            let layers = vec![rule];
            let options = Options {
                layers,
                ..Options::default()
            };
            chosen(&options, MODULES, &[]).unwrap_err()
        };
        let e = refusal(rule("model.layers.0.mlp.downproj", Some("w8"), None));
        assert_eq!(e.code, Code::Option);
        assert!(
            e.remedy.contains("model.layers.0.mlp.down_proj"),
            "{}",
            e.remedy
        );
        let e = refusal(rule("Linear", None, Some("gtpq")));
        assert_eq!(
            (e.code, &*e.remedy),
            (Code::Option, "did you mean \"gptq\"?")
        );
        assert_eq!(refusal(rule("re:(", None, None)).code, Code::Unsupported);
    }
}
