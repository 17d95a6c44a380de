//! config.json of transformers 4 and 5, checked.

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
}
