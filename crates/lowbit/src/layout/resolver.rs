//! Which layout and scheme each module of a checkpoint has.

use super::Layout;
use super::target::Target;
use crate::kv_cache::KvCache;
use crate::scheme::Scheme;

/// How the modules of a target are stored.
#[derive(Debug)]
pub struct Rule {
    /// Which modules.
    pub target: Target,
    /// How they are quantized.
    pub scheme: Scheme,
    /// What decodes them.
    pub layout: &'static dyn Layout,
}

/// The quantized matrix that a tensor belongs to.
#[derive(Debug)]
pub struct Member<'a> {
    /// As in `model.layers.0.self_attn.q_proj`.
    pub module: &'a str,
    /// How the module is stored.
    pub rule: &'a Rule,
    /// What the tensor's name ends in, behind the module.
    pub ending: &'static str,
    /// Names of the matrix's tensors that the checkpoint has.
    pub present: Vec<String>,
}

/// Says for each module of a checkpoint how its weight is stored.
#[derive(Debug)]
pub struct Resolver {
    /// The layout of the checkpoint.
    pub layout: &'static dyn Layout,
    /// Most specific first.
    rules: Vec<Rule>,
    ignored: Vec<Target>,
    /// How engines are to keep keys and values, if the config says so.
    pub cache: Option<KvCache>,
}

impl Resolver {
    /// Orders targets as compressed-tensors does: exact names, then expressions by their text, then
    /// classes.
    pub(crate) fn new(
        layout: &'static dyn Layout,
        mut rules: Vec<Rule>,
        ignored: Vec<Target>,
    ) -> Self {
        rules.sort_by(|a, b| a.target.rank().cmp(&b.target.rank()));
        Self {
            layout,
            rules,
            ignored,
            cache: None,
        }
    }

    /// The same with a scheme for the cache.
    #[must_use]
    pub(crate) fn with_cache(mut self, cache: Option<KvCache>) -> Self {
        self.cache = cache;
        self
    }

    /// How a linear layer is stored; none for floats.
    pub fn rule(&self, module: &str) -> Option<&Rule> {
        if self.ignored.iter().any(|t| t.fits(module)) {
            return None;
        }
        self.rules.iter().find(|r| r.target.fits(module))
    }

    /// The matrix that the tensor `name` is a part of, in a checkpoint that `has` some tensors.
    pub fn member<'a>(&'a self, name: &'a str, has: impl Fn(&str) -> bool) -> Option<Member<'a>> {
        let known = self.layout.parts();
        let endings = known.iter().filter_map(|part| {
            let module = name.strip_suffix(part)?.strip_suffix('.')?;
            Some((module, *part))
        });
        // The longest ending: `weight.absmax` before `absmax`.
        let (module, ending) = endings.max_by_key(|(_, part)| part.len())?;
        let rule = self.rule(module)?;
        let names = known.iter().map(|part| format!("{module}.{part}"));
        let present: Vec<String> = names.filter(|name| has(name)).collect();
        // A norm or an embedding has nothing beside its weight.
        let beside = present.iter().any(|name| !name.ends_with(".weight"));
        let quantized = beside && rule.layout.is_quantized(&present);
        quantized.then_some(Member {
            module,
            rule,
            ending,
            present,
        })
    }

    /// The scheme of a linear layer; none when it is stored as floats.
    pub fn scheme(&self, module: &str) -> Option<Scheme> {
        self.rule(module).map(|rule| rule.scheme)
    }

    /// Every scheme that some module may have.
    pub fn schemes(&self) -> impl Iterator<Item = &Scheme> {
        self.rules.iter().map(|rule| &rule.scheme)
    }
}
