//! Which scheme each linear gets, or none.

use super::request::Options;
use crate::error::{Code, Error, Result, nearest};
use crate::layout::target::Target;
use crate::scheme::Scheme;

/// The scheme of each module: none for those that stay as stored.
///
/// `option` for a pattern that fits no module (`lm_head` may be named where it is the embedding),
/// `unsupported` for one that is not readable, `scheme` for a scheme that does not parse.
pub(super) fn schemes(options: &Options, modules: &[&str]) -> Result<Vec<Option<Scheme>>> {
    let default: Scheme = options.scheme.parse()?;
    let mut overrides = Vec::new();
    for rule in &options.layers {
        let parsed = Target::parse(&rule.pattern)?;
        require_fit(&parsed, &rule.pattern, modules)?;
        let scheme = rule.scheme.as_deref().map_or(Ok(default), str::parse)?;
        overrides.push((parsed, scheme));
    }
    let mut ignored = Vec::new();
    for pattern in &options.ignore {
        let parsed = Target::parse(pattern)?;
        if pattern != "lm_head" {
            require_fit(&parsed, pattern, modules)?;
        }
        ignored.push(parsed);
    }
    let scheme_of = |module: &&str| {
        if ignored.iter().any(|p| p.fits(module)) {
            return None;
        }
        let own = overrides.iter().find(|(p, _)| p.fits(module));
        Some(own.map_or(default, |(_, scheme)| *scheme))
    };
    Ok(modules.iter().map(scheme_of).collect())
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
        let schemes = schemes(options, MODULES).unwrap();
        let text = |s: &Option<Scheme>| s.map_or("-".into(), |s| s.to_string());
        schemes.iter().map(text).collect()
    }

    fn rule(pattern: &str, scheme: &str) -> LayerRule {
        LayerRule {
            pattern: pattern.into(),
            scheme: Some(scheme.into()),
            method: None,
        }
    }

    #[test]
    fn first_pattern_that_fits_decides() {
        let mut options = Options {
            layers: vec![
                rule("model.layers.1.mlp.down_proj", "w3"),
                rule("re:.*down_proj", "w8g128"),
            ],
            ..Options::default()
        };
        assert_eq!(names(&options), ["w4g128", "w8g128", "w3"]);
        options.ignore = vec!["re:model\\.layers\\.0\\.".into()];
        assert_eq!(names(&options), ["-", "-", "w3"]);
        options.ignore = vec!["Linear".into()];
        assert_eq!(names(&options), ["-", "-", "-"]);
    }

    #[test]
    fn pattern_that_fits_nothing_is_refused() {
        let options = Options {
            layers: vec![rule("model.layers.0.mlp.downproj", "w8")],
            ..Options::default()
        };
        let e = schemes(&options, MODULES).unwrap_err();
        assert_eq!(e.code, Code::Option);
        assert!(
            e.remedy.contains("model.layers.0.mlp.down_proj"),
            "{}",
            e.remedy
        );
        let options = Options {
            ignore: vec!["re:(".into()],
            ..Options::default()
        };
        assert_eq!(
            schemes(&options, MODULES).unwrap_err().code,
            Code::Unsupported
        );
    }
}
