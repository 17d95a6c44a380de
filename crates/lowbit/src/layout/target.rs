//! Patterns over module names, as compressed-tensors writes them.

use crate::error::{Code, Error, Result};
use regex_lite::Regex;

/// The class of every module that is quantized here.
const LINEAR: &str = "Linear";

/// Which modules a setting is for.
#[derive(Debug, Clone)]
pub enum Target {
    /// The module of this name.
    Name(String),
    /// `re:` and an expression that fits from the start of the name.
    Expression(Regex),
    /// Every linear layer.
    Linear,
}

impl Target {
    /// Reads a target; `unsupported` for an expression with look-around or back-references, which
    /// cannot be matched in linear time.
    pub fn parse(text: &str) -> Result<Self> {
        let Some(body) = text.strip_prefix("re:") else {
            return Ok(match text {
                LINEAR => Self::Linear,
                name => Self::Name(name.into()),
            });
        };
        let regex = Regex::new(&format!("^(?:{body})"));
        regex.map(Self::Expression).map_err(|e| {
            Error::new(
                Code::Unsupported,
                format!("cannot read pattern {text:?}: {e}"),
            )
            .remedy("expected a regular expression without look-around or back-references")
        })
    }

    /// Whether a linear layer of this name is meant.
    pub fn fits(&self, module: &str) -> bool {
        match self {
            Self::Name(name) => name == module,
            Self::Expression(regex) => regex.is_match(module),
            Self::Linear => true,
        }
    }

    /// Sorts the more specific first.
    pub(super) fn rank(&self) -> (u8, &str) {
        match self {
            Self::Name(name) => (0, name),
            Self::Expression(regex) => (1, regex.as_str()),
            Self::Linear => (2, LINEAR),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_fit_as_in_python() {
        let fits = |target: &str, module: &str| Target::parse(target).unwrap().fits(module);
        assert!(fits("Linear", "lm_head"));
        assert!(fits("lm_head", "lm_head") && !fits("lm_head", "model.lm_head"));
        assert!(fits("re:.*down_proj", "model.layers.0.mlp.down_proj"));
        assert!(fits("re:model", "model.layers.0"), "matches a start");
        assert!(!fits("re:layers", "model.layers.0"), "only at the start");
        assert!(!fits("re:a|b$", "xb"), "alternatives are anchored together");
        let e = Target::parse("re:(?!lm_head)").unwrap_err();
        assert_eq!(e.code, Code::Unsupported);
    }
}
