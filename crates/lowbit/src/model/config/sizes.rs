//! How large a model is: widths, heads, blocks, vocabulary, context.

use super::{BlockShape, Config, Factors, Latent, RopeScaling, latent};
use crate::error::Result;
use crate::model::arch::Arch;
use crate::model::fields::Fields;
use crate::model::guess::Guess;
use std::sync::Arc;

/// A config of the sizes that every family has; its other values are still to be read.
pub(super) fn read(fields: &Fields<'_>, arch: &Arch) -> Result<Config> {
    let hidden = fields.count("hidden_size", 1..=1 << 17, None)?;
    let heads = fields.count("num_attention_heads", 1..=1 << 12, None)?;
    if arch.latent {
        return sizes_latent(fields, arch, (hidden, heads));
    }
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
    sized(fields, arch, (hidden, heads), (kv_heads, head_dim), None)
}

/// Where keys and values come from a narrow vector, there are as many heads of each, and
/// `head_dim` of config.json means the rotated part only.
fn sizes_latent(
    fields: &Fields<'_>,
    arch: &Arch,
    (hidden, heads): (usize, usize),
) -> Result<Config> {
    let latent = latent::read(fields)?;
    let head_dim = latent.nope + latent.rope;
    sized(
        fields,
        arch,
        (hidden, heads),
        (heads, head_dim),
        Some(latent),
    )
}

/// A config of these heads whose other values are still to be read.
fn sized(
    fields: &Fields<'_>,
    arch: &Arch,
    (hidden, heads): (usize, usize),
    (kv_heads, head_dim): (usize, usize),
    latent: Option<Latent>,
) -> Result<Config> {
    let layers = fields.count("num_hidden_layers", 1..=1 << 10, None)?;
    Ok(Config {
        model_type: arch.model_types[0].into(),
        hidden,
        intermediate: fields.count("intermediate_size", 1..=1 << 20, None)?,
        layers,
        heads,
        kv_heads,
        head_dim,
        vocabulary: fields.count("vocab_size", 1..=1 << 24, None)?,
        context: fields.count("max_position_embeddings", 1..=1 << 28, None)?,
        norm_eps: 0.0,
        rope_theta: 0.0,
        rope_scaling: RopeScaling::None,
        local_theta: None,
        rotary: head_dim,
        factors: Factors::plain(head_dim),
        tied: false,
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        latent,
        encoder: None,
        labels: 0,
        bare: false,
        old_norms: false,
        guess: None,
        experts: None,
        blocks: vec![BlockShape::default(); layers],
        dtype: None,
    })
}

impl Config {
    /// A config that names linears and knows no sizes.
    pub(in crate::model) fn guessed(guess: Arc<Guess>) -> Self {
        let layers = guess.blocks.len();
        Self {
            model_type: guess.model_type.clone(),
            hidden: 1,
            intermediate: 1,
            layers,
            heads: 1,
            kv_heads: 1,
            head_dim: 2,
            vocabulary: 1,
            context: 1,
            norm_eps: 0.0,
            rope_theta: 1.0,
            rope_scaling: RopeScaling::None,
            local_theta: None,
            rotary: 2,
            factors: Factors::plain(2),
            tied: false,
            qkv_bias: false,
            o_bias: false,
            mlp_bias: false,
            latent: None,
            encoder: None,
            labels: 0,
            bare: false,
            old_norms: false,
            guess: Some(guess),
            experts: None,
            blocks: vec![BlockShape::default(); layers],
            dtype: None,
        }
    }
}
