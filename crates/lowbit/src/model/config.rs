//! config.json of transformers 4 and 5, checked.
//!
//! The two differ in where they keep the rotary embedding (`rope_theta` and `rope_scaling`, or
//! `rope_parameters`) and in the name of the stored type (`torch_dtype`, or `dtype`).

use super::arch::{self, Arch, Bias, Window};
use super::fields::Fields;
use crate::error::{Code, Error, Result};
use crate::tensor::Dtype;
use serde_json::Value;

/// Rotary embedding as the config states it.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// No scaling.
    None,
    /// Positions divided by `factor`.
    Linear {
        /// Divisor of positions.
        factor: f64,
    },
    /// Llama 3.1: long wavelengths divided by `factor`, short ones kept, a ramp between.
    Llama3 {
        /// Divisor of long wavelengths.
        factor: f64,
        /// Wavelengths above `original / low` are divided.
        low: f64,
        /// Wavelengths below `original / high` are kept.
        high: f64,
        /// Context the model was trained at first.
        original: f64,
    },
}

/// What the forward pass needs from config.json; every value is in range.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Name of the architecture row.
    pub model_type: String,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// Decoder blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Longest sequence.
    pub context: usize,
    /// Added to the mean square in norms.
    pub norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Scaling of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// The head is the embedding.
    pub tied: bool,
    /// q, k and v have a bias.
    pub qkv_bias: bool,
    /// The attention output has a bias.
    pub o_bias: bool,
    /// MLP linears have a bias.
    pub mlp_bias: bool,
    /// The type that the config says the weights are stored in; the tensors themselves decide.
    pub dtype: Option<Dtype>,
}

impl Config {
    /// Reads and checks config.json.
    ///
    /// `config` names key, value and allowed values; `unknown-architecture` when no row knows the
    /// model type; `unsupported` for features that nothing here computes.
    pub fn from_json(json: &Value) -> Result<Self> {
        let fields = Fields::new(json, "")?;
        let model_type = fields
            .text("model_type")?
            .ok_or_else(|| Error::new(Code::Config, "model_type is missing").at("config.json"))?;
        let arch = arch::find(model_type)?;
        let mut config = sizes(&fields, arch)?;
        refuse_unsupported(&fields, arch, &config)?;
        (config.rope_theta, config.rope_scaling) = rope(&fields, config.context)?;
        config.norm_eps = fields.number("rms_norm_eps", 0.0..=1.0, Some(1e-6))? as f32;
        config.tied = fields.flag("tie_word_embeddings", false)?;
        config.qkv_bias = bias(&fields, arch.biases.qkv)?;
        config.o_bias = bias(&fields, arch.biases.o)?;
        config.mlp_bias = bias(&fields, arch.biases.mlp)?;
        config.dtype = stored_dtype(&fields)?;
        Ok(config)
    }

    /// The architecture's row.
    pub fn arch(&self) -> &'static Arch {
        arch::find(&self.model_type).expect("a checked config names a known model type")
    }
}

fn sizes(fields: &Fields<'_>, arch: &Arch) -> Result<Config> {
    let hidden = fields.count("hidden_size", 1..=1 << 17, None)?;
    let heads = fields.count("num_attention_heads", 1..=1 << 12, None)?;
    let kv_heads = match fields.get("num_key_value_heads") {
        None => arch.absent.kv_heads.unwrap_or(heads),
        Some(_) => fields.count("num_key_value_heads", 1..=heads, None)?,
    };
    if !heads.is_multiple_of(kv_heads) {
        return Err(fields.refuse(
            "num_key_value_heads",
            &kv_heads.into(),
            format!("a divisor of num_attention_heads, {heads}"),
        ));
    }
    let head_dim = match (fields.get("head_dim"), arch.absent.head_dim) {
        (None, None) if !hidden.is_multiple_of(heads) => {
            let allowed = format!("a divisor of hidden_size, {hidden}");
            return Err(fields.refuse("num_attention_heads", &heads.into(), allowed));
        }
        (None, absent) => absent.unwrap_or(hidden / heads),
        (Some(_), _) => fields.count("head_dim", 2..=1 << 12, None)?,
    };
    if !head_dim.is_multiple_of(2) {
        let allowed = "an even number, because rotation takes pairs";
        return Err(fields.refuse("head_dim", &head_dim.into(), allowed));
    }
    Ok(Config {
        model_type: arch.model_types[0].into(),
        hidden,
        intermediate: fields.count("intermediate_size", 1..=1 << 20, None)?,
        layers: fields.count("num_hidden_layers", 1..=1 << 10, None)?,
        heads,
        kv_heads,
        head_dim,
        vocabulary: fields.count("vocab_size", 1..=1 << 24, None)?,
        context: fields.count("max_position_embeddings", 1..=1 << 28, None)?,
        norm_eps: 0.0,
        rope_theta: 0.0,
        rope_scaling: RopeScaling::None,
        tied: false,
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        dtype: None,
    })
}

fn refuse_unsupported(fields: &Fields<'_>, arch: &Arch, config: &Config) -> Result<()> {
    let unsupported = |what: String| Err(Error::new(Code::Unsupported, what).at("config.json"));
    for key in ["hidden_act", "hidden_activation"] {
        if let Some(act) = fields.text(key)?.filter(|a| !["silu", "swish"].contains(a)) {
            return unsupported(format!("{key} {act:?}; only \"silu\" is computed here"));
        }
    }
    if let Some(window) = sliding_window(fields, arch, config)? {
        return unsupported(format!("sliding-window attention over {window} tokens"));
    }
    let mut types = fields
        .get("layer_types")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    match types.find(|t| t.as_str() != Some("full_attention")) {
        Some(other) => unsupported(format!("layer type {other}; only \"full_attention\"")),
        None => Ok(()),
    }
}

/// The window that some block looks back over, if it is shorter than the context.
fn sliding_window(fields: &Fields<'_>, arch: &Arch, config: &Config) -> Result<Option<usize>> {
    let (used, absent) = match arch.window {
        Window::Never => return Ok(None),
        // transformers takes null for "no window" and a missing key for the family's own size.
        Window::Size(absent) => (!fields.is_null("sliding_window"), absent),
        Window::Flag => {
            let first = fields.count("max_window_layers", 0..=1 << 20, Some(28))?;
            let on = fields.flag("use_sliding_window", false)? && first < config.layers;
            (on && !fields.is_null("sliding_window"), 4096)
        }
    };
    let window = fields.count("sliding_window", 0..=1 << 28, Some(absent))?;
    Ok(Some(window).filter(|w| used && *w < config.context))
}

fn rope(fields: &Fields<'_>, context: usize) -> Result<(f64, RopeScaling)> {
    const THETA: std::ops::RangeInclusive<f64> = 1.0..=1e15;
    const FACTOR: std::ops::RangeInclusive<f64> = 1e-3..=1e6;
    refuse_partial(fields)?;
    let outer = fields.number("rope_theta", THETA, Some(10_000.0))?;
    let found = ["rope_parameters", "rope_scaling"]
        .into_iter()
        .find(|k| fields.get(k).is_some());
    let Some(key) = found else {
        return Ok((outer, RopeScaling::None));
    };
    let path = format!("{key}.");
    let inner = Fields::new(fields.get(key).unwrap_or(&Value::Null), &path)?;
    let theta = inner.number("rope_theta", THETA, Some(outer))?;
    refuse_partial(&inner)?;
    let kind = inner
        .text("rope_type")?
        .or(inner.text("type")?)
        .unwrap_or("default");
    let scaling = match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear {
            factor: inner.number("factor", FACTOR, None)?,
        },
        "llama3" => RopeScaling::Llama3 {
            factor: inner.number("factor", FACTOR, None)?,
            low: inner.number("low_freq_factor", FACTOR, None)?,
            high: inner.number("high_freq_factor", FACTOR, None)?,
            original: inner.number(
                "original_max_position_embeddings",
                1.0..=268_435_456.0,
                Some(context as f64),
            )?,
        },
        other => {
            let what = format!(
                "{path}rope_type {:?}",
                other.chars().take(60).collect::<String>()
            );
            return Err(Error::new(Code::Unsupported, what)
                .at("config.json")
                .remedy("known: default, linear, llama3"));
        }
    };
    if let RopeScaling::Llama3 { low, high, .. } = scaling
        && low >= high
    {
        let allowed = format!("more than low_freq_factor, {low}");
        return Err(inner.refuse("high_freq_factor", &high.into(), allowed));
    }
    Ok((theta, scaling))
}

/// Rotation of a part of each head is another model's.
fn refuse_partial(fields: &Fields<'_>) -> Result<()> {
    match fields.number("partial_rotary_factor", 0.0..=1.0, Some(1.0))? {
        1.0 => Ok(()),
        part => {
            let what = format!("partial_rotary_factor {part}; only 1 is computed here");
            Err(Error::new(Code::Unsupported, what).at("config.json"))
        }
    }
}

fn bias(fields: &Fields<'_>, bias: Bias) -> Result<bool> {
    match bias {
        Bias::Never => Ok(false),
        Bias::Always => Ok(true),
        Bias::Key(key) => fields.flag(key, false),
    }
}

fn stored_dtype(fields: &Fields<'_>) -> Result<Option<Dtype>> {
    let name = fields.text("dtype")?.or(fields.text("torch_dtype")?);
    Ok(match name.map(|n| n.trim_start_matches("torch.")) {
        Some("float32") => Some(Dtype::F32),
        Some("float16") => Some(Dtype::F16),
        Some("bfloat16") => Some(Dtype::BF16),
        _ => None,
    })
}
