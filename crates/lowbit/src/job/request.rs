//! What the facade asks for: a checkpoint's description, options, calibration, earlier progress.

use super::recipe::{LayerRule, Prune, Transform};
use crate::error::{Code, Error, Result};
use crate::gguf::imatrix::ImatrixFile;
use crate::layout::{LAYOUTS, Layout};
use crate::model::load::{Source, TensorInfo};
use crate::scheme::Scheme;
use crate::tensor::Dtype;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// A quantization as the facade describes it; `plan` and `Job::open` take the same.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// The source's config.json.
    pub config: Value,
    /// Every tensor of the source, from the headers of its files.
    pub tensors: Vec<TensorEntry>,
    /// How to quantize.
    #[serde(default)]
    pub options: Options,
    /// The size of the calibration set; its tokens come apart.
    #[serde(default)]
    pub calibration: Option<Calibration>,
    /// Importance of inputs, which scales are searched with instead of looking at a text.
    #[serde(default)]
    pub imatrix: Option<ImatrixFile>,
    /// Lines of the journal of an unfinished run, in order.
    #[serde(default)]
    pub journal: Vec<String>,
    /// Instruction set by name; the best one of the host otherwise.
    #[serde(default)]
    pub isa: Option<String>,
    /// Threads, for the memory estimate; 1 otherwise.
    #[serde(default)]
    pub threads: Option<usize>,
    /// Data per output file at most; 5 GB otherwise.
    #[serde(default)]
    pub max_shard_bytes: Option<u64>,
    /// What identifies each source file to its store: length and time, or an ETag.
    #[serde(default)]
    pub identities: BTreeMap<String, String>,
}

/// A source tensor as its file's header lists it.
#[derive(Debug, Clone, Deserialize)]
pub struct TensorEntry {
    /// Name in the checkpoint.
    pub name: String,
    /// safetensors name of the element type.
    pub dtype: String,
    /// Extent of each dimension, outermost first.
    pub shape: Vec<usize>,
}

/// The format that is chosen by the schemes.
const AUTO: &str = "auto";

/// Schemes that a budget chooses from unless others are named.
const CANDIDATES: &[&str] = &["w3g128", "w4g128", "w8g128"];

/// Size of the calibration set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Calibration {
    /// Samples; each starts at position 0.
    pub samples: usize,
    /// Tokens per sample.
    pub length: usize,
}

/// How to quantize; the defaults are GPTQ w4g128 in what suits that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Options {
    /// Rounder by name.
    pub method: String,
    /// Scheme of every linear that `layers` does not name.
    pub scheme: String,
    /// Layout by name; `auto` for the first that holds every scheme.
    pub format: String,
    /// Modules left as stored: names, `re:` patterns or the class `Linear`.
    pub ignore: Vec<String>,
    /// What differs for some linears; the first rule that fits a module decides.
    pub layers: Vec<LayerRule>,
    /// Transforms in the order of the recipe.
    pub transforms: Vec<Transform>,
    /// Pruning, between transforms and rounding.
    pub prune: Option<Prune>,
    /// How scales are found: `minmax`, `mse` or `imatrix-mse`; what suits the method otherwise.
    pub observer: Option<String>,
    /// Order of GPTQ's columns: `static`, `gar`, `group` or `off`.
    pub act_order: String,
    /// Inputs of later linears of a block come from its earlier ones after rounding.
    pub true_sequential: bool,
    /// Fallbacks and too little data are errors.
    pub strict: bool,
    /// What becomes of NaN and infinity in weights: an error, `zero` or `keep`.
    pub allow_nonfinite: Option<String>,
    /// Every expert sees every calibration token, whatever the router says.
    pub all_experts: bool,
    /// Bits per weight of the quantized linears that schemes are chosen for.
    pub target_bpw: Option<f64>,
    /// Schemes to choose from then; `w3g128`, `w4g128` and `w8g128` otherwise.
    pub candidates: Vec<String>,
    /// GPTQ's damping, relative to the mean of the Hessian's diagonal.
    pub damp: f64,
    /// GPTQ's columns per lazy batch.
    pub block: usize,
    /// How often GPTQ refines scales and codes after rounding; 0 for the paper's result.
    pub refine: usize,
    /// Type of stored scales; the weight's own otherwise.
    pub scale_dtype: Option<String>,
    /// Seed of what draws random numbers: the signs of rotations.
    pub seed: u64,
    /// Scheme of the KV cache that scales are calibrated for, as `fp8`.
    pub kv_cache: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            method: "gptq".into(),
            scheme: "w4g128".into(),
            format: AUTO.into(),
            ignore: vec!["lm_head".into()],
            layers: Vec::new(),
            transforms: Vec::new(),
            prune: None,
            observer: None,
            act_order: "static".into(),
            true_sequential: false,
            strict: false,
            allow_nonfinite: None,
            all_experts: true,
            target_bpw: None,
            candidates: Vec::new(),
            damp: 0.01,
            block: 128,
            refine: 3,
            scale_dtype: None,
            seed: 0,
            kv_cache: None,
        }
    }
}

impl Options {
    /// The same with every default filled in: what a recipe must hold to give the same bytes.
    ///
    /// GPTQ searches ranges unless told otherwise: on novels-4m w4g128 that takes mean KL from
    /// .0049 to .0045 for little time. RTN keeps min-max, whose scales are the format's own. The
    /// recipe's method decides for layers with a method of their own, too.
    #[must_use]
    pub fn effective(&self) -> Self {
        let own = if self.method == "gptq" {
            "mse"
        } else {
            "minmax"
        };
        let mut all = self.clone();
        all.observer.get_or_insert_with(|| own.into());
        if all.target_bpw.is_some() && all.candidates.is_empty() {
            all.candidates = CANDIDATES.iter().map(|c| (*c).into()).collect();
        }
        if let Ok(scheme) = self.scheme.parse::<Scheme>() {
            all.scheme = scheme.to_string();
        }
        if all.format == AUTO {
            all.format = all.layout().name().into();
        }
        all
    }

    /// The first layout with a place for every scheme that is named; the first of all when none has,
    /// which then says why.
    fn layout(&self) -> &'static dyn Layout {
        let rules = self.layers.iter().filter_map(|rule| rule.scheme.as_ref());
        let named = rules.chain(&self.candidates).chain([&self.scheme]);
        let schemes: Vec<Scheme> = named.filter_map(|s| s.parse().ok()).collect();
        let holds = |l: &&&dyn Layout| schemes.iter().all(|s| l.accepts(s).is_ok());
        LAYOUTS.iter().find(holds).copied().unwrap_or(LAYOUTS[0])
    }

    /// Every option by name as JSON, in the order of this struct.
    pub(super) fn fields(&self) -> Vec<(String, Value)> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => map.into_iter().collect(),
            // Numbers and strings only: nothing that JSON cannot hold.
            _ => Vec::new(),
        }
    }
}

impl Request {
    /// Reads a request; `option` names the field that does not fit.
    pub fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text)
            .map_err(|e| Error::new(Code::Option, format!("cannot read the request: {e}")))
    }

    /// The checkpoint's description for the model loader.
    pub fn source(&self) -> Result<Source> {
        Ok(Source {
            tensors: infos(&self.tensors)?,
            config: self.config.clone(),
        })
    }
}

/// Tensors as listed, with their types read; `dtype` names the tensor of an unknown one.
pub(crate) fn infos(tensors: &[TensorEntry]) -> Result<Vec<TensorInfo>> {
    let info = |t: &TensorEntry| {
        let dtype = Dtype::parse_stored(&t.dtype);
        let dtype = dtype.map_err(|e| e.at(format!("tensor {:?}", t.name)))?;
        Ok(TensorInfo {
            name: t.name.clone(),
            dtype,
            shape: t.shape.clone(),
        })
    };
    tensors.iter().map(info).collect()
}
