//! What changes weights before they are rounded, checked: rotation, scaling, pruning.

use super::recipe::{Awq, Prune, Rotate, SmoothQuant, Transform};
use super::request::Options;
use super::select::Patterns;
use crate::error::{Code, Error, Result};
use crate::round::prune::Pruning;

/// The steps in front of rounding.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Fused before anything is calibrated.
    pub rotate: Option<Rotate>,
    /// Scalings of channels in the order of the recipe.
    pub scalings: Vec<Scaling>,
    /// After the scalings.
    pub prune: Option<Pruned>,
}

/// A scaling of channels with its patterns read.
#[derive(Debug)]
pub(super) struct Scaling {
    pub transform: Transform,
    ignored: Patterns,
    strengths: Vec<(Patterns, f64)>,
}

/// Pruning with its pattern read.
#[derive(Debug)]
pub(super) struct Pruned {
    pub method: String,
    pub pruning: Pruning,
    ignored: Patterns,
}

impl Changes {
    /// Checks what a recipe asks for; `option` names what is out of range or order.
    pub(super) fn new(options: &Options, modules: &[&str]) -> Result<Self> {
        let mut changes = Self::default();
        for transform in &options.transforms {
            let (ignore, strengths) = match transform {
                Transform::Rotate(rotate) => {
                    if changes.rotate.is_some() || !changes.scalings.is_empty() {
                        let what = "rotate comes after another transform";
                        return Err(Error::new(Code::Option, what)
                            .remedy("rotate once and first: scales are found on rotated weights"));
                    }
                    changes.rotate = Some(rotate.clone());
                    continue;
                }
                Transform::SmoothQuant(own) => (&own.ignore, strengths(own, modules)?),
                Transform::Awq(own) => {
                    check_awq(own)?;
                    (&own.ignore, Vec::new())
                }
            };
            changes.scalings.push(Scaling {
                transform: transform.clone(),
                ignored: Patterns::new(ignore, modules)?,
                strengths,
            });
        }
        let prune = options.prune.as_ref();
        changes.prune = prune.map(|p| Pruned::new(p, modules)).transpose()?;
        Ok(changes)
    }

    /// Whether tensors other than the rounded ones may change.
    pub(super) fn any_transform(&self) -> bool {
        self.rotate.is_some() || !self.scalings.is_empty()
    }

    /// Whether weights have to be in memory as floats before they are rounded.
    pub(super) fn widen(&self) -> bool {
        self.any_transform() || self.prune.is_some()
    }

    /// The first step that looks at inputs.
    pub(super) fn needs_calibration(&self) -> Option<&str> {
        let scaling = self.scalings.first().map(Scaling::name);
        let prune = self.prune.as_ref();
        let prune = prune.filter(|p| p.pruning.needs_calibration());
        scaling.or(prune.map(|p| p.method.as_str()))
    }
}

impl Scaling {
    /// The name in recipes.
    pub(super) fn name(&self) -> &'static str {
        match self.transform {
            Transform::Rotate(_) => "rotate",
            Transform::SmoothQuant(_) => "smoothQuant",
            Transform::Awq(_) => "awq",
        }
    }

    /// The transform for consumers with these modules; none when one is to be left alone.
    pub(super) fn for_consumers(&self, modules: &[&str]) -> Option<Transform> {
        if modules.iter().any(|m| self.ignored.fit(m)) {
            return None;
        }
        let mut transform = self.transform.clone();
        if let Transform::SmoothQuant(smooth) = &mut transform {
            let mut own = self.strengths.iter();
            if let Some((_, s)) = own.find(|(p, _)| modules.iter().any(|m| p.fit(m))) {
                smooth.strength = *s;
                smooth.search = false;
            }
        }
        Some(transform)
    }
}

fn strengths(smooth: &SmoothQuant, modules: &[&str]) -> Result<Vec<(Patterns, f64)>> {
    let check = |s: f64| {
        if (0.0..=1.0).contains(&s) {
            return Ok(s);
        }
        let what = format!("smoothQuant strength is {s}");
        Err(Error::new(Code::Option, what).remedy("use 0 to 1, for example 0.5"))
    };
    check(smooth.strength)?;
    let own = smooth.layers.iter().map(|(pattern, strength)| {
        let patterns = Patterns::new(std::slice::from_ref(pattern), modules)?;
        Ok((patterns, check(*strength)?))
    });
    own.collect()
}

fn check_awq(awq: &Awq) -> Result<()> {
    if (1..=1000).contains(&awq.grid) {
        return Ok(());
    }
    let what = format!("awq grid is {}", awq.grid);
    Err(Error::new(Code::Option, what).remedy("use 1 to 1000, for example 20"))
}

impl Pruned {
    fn new(prune: &Prune, modules: &[&str]) -> Result<Self> {
        let read = |text: &str| {
            let (n, m) = text.split_once(':')?;
            Some((n.parse().ok()?, m.parse().ok()?))
        };
        let pattern = match prune.pattern.as_deref() {
            None => None,
            Some(text) => Some(read(text).ok_or_else(|| {
                let what = format!("pattern is {text:?}");
                Error::new(Code::Option, what).remedy("use for example 2:4")
            })?),
        };
        Ok(Self {
            method: prune.method.clone(),
            pruning: Pruning::new(&prune.method, prune.sparsity, pattern)?,
            ignored: Patterns::new(&prune.ignore, modules)?,
        })
    }

    /// Whether a module is pruned.
    pub(super) fn fits(&self, module: &str) -> bool {
        !self.ignored.fit(module)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULES: &[&str] = &["model.layers.0.q", "model.layers.0.k", "model.layers.0.o"];

    fn refusal(options: &Options) -> String {
        let e = Changes::new(options, MODULES).unwrap_err();
        assert_eq!(e.code, Code::Option);
        e.to_string()
    }

    #[test]
    fn consumers_get_their_own_strength_or_none() {
        let smooth = SmoothQuant {
            layers: vec![("re:.*k$".into(), 0.8)],
            ignore: vec!["model.layers.0.o".into()],
            ..SmoothQuant::default()
        };
        let options = Options {
            transforms: vec![Transform::SmoothQuant(smooth)],
            ..Options::default()
        };
        let changes = Changes::new(&options, MODULES).unwrap();
        let strength = |modules: &[&str]| match changes.scalings[0].for_consumers(modules) {
            Some(Transform::SmoothQuant(s)) => Some(s.strength),
            _ => None,
        };
        assert_eq!(
            strength(&["model.layers.0.q", "model.layers.0.k"]),
            Some(0.8)
        );
        assert_eq!(strength(&["model.layers.0.q"]), Some(0.5));
        assert_eq!(strength(&["model.layers.0.o"]), None);
        assert_eq!(changes.needs_calibration(), Some("smoothQuant"));
    }

    #[test]
    fn what_is_out_of_range_or_order_is_named() {
        let awq = Transform::Awq(Awq::default());
        let mut options = Options {
            transforms: vec![awq, Transform::Rotate(Rotate::default())],
            ..Options::default()
        };
        assert!(refusal(&options).starts_with("rotate comes after"));
        options.transforms = vec![Transform::Awq(Awq {
            grid: 0,
            ..Awq::default()
        })];
        assert!(refusal(&options).starts_with("awq grid is 0"));
        options.transforms = vec![Transform::SmoothQuant(SmoothQuant {
            strength: 1.5,
            ..SmoothQuant::default()
        })];
        assert!(refusal(&options).starts_with("smoothQuant strength is 1.5"));
        options.transforms = Vec::new();
        options.prune = Some(Prune {
            method: "magnitude".into(),
            sparsity: 0.5,
            pattern: Some("4:2".into()),
            ignore: Vec::new(),
        });
        assert!(refusal(&options).starts_with("pattern 4:2"));
    }
}
