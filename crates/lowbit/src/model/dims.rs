//! Sizes of weights by name: what rows of the table of architectures are as wide as.

use super::config::{Config, Latent};

/// A size that config.json gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dim {
    /// Width of the residual stream.
    Hidden,
    /// Width of the MLP.
    Intermediate,
    /// Gate and up projection of the MLP as one matrix.
    GateUp,
    /// All query heads.
    Queries,
    /// All key heads, which is as wide as all value heads.
    Keys,
    /// Queries, keys and values as one matrix.
    Qkv,
    /// One head.
    Head,
    /// The vector that queries are made of.
    QueryRank,
    /// What queries are made of: that vector, or the residual stream.
    QuerySource,
    /// The vector that keys and values are made of.
    KvRank,
    /// That vector and the rotated part of keys behind it.
    KvRankAndRope,
    /// What keys and values of all heads have of their own.
    KeysAndValues,
    /// All value heads of attention through a narrow vector.
    LatentValues,
    /// How many experts tokens are routed to.
    Experts,
    /// Width of the MLP of one expert.
    ExpertWidth,
    /// Width of the MLP that sees every token beside the experts.
    SharedWidth,
    /// One value.
    One,
    /// Rows of the table of positions.
    Positions,
    /// Kinds of text.
    Types,
    /// Labels of a classification.
    Labels,
}

impl Dim {
    /// The size in a given model.
    pub fn of(self, config: &Config) -> usize {
        match self {
            Dim::Hidden => config.hidden,
            Dim::Intermediate => config.intermediate,
            Dim::GateUp => 2 * config.intermediate,
            Dim::Queries => config.heads * config.head_dim,
            Dim::Keys => config.kv_heads * config.head_dim,
            Dim::Qkv => (config.heads + 2 * config.kv_heads) * config.head_dim,
            Dim::Head => config.head_dim,
            Dim::QueryRank => config.latent.and_then(|l| l.query_rank).unwrap_or(0),
            Dim::QuerySource => {
                let rank = config.latent.and_then(|l| l.query_rank);
                rank.unwrap_or(config.hidden)
            }
            Dim::KvRank => config.latent.map_or(0, |l| l.kv_rank),
            Dim::KvRankAndRope => config.latent.map_or(0, |l| l.kv_rank + l.rope),
            Dim::KeysAndValues => {
                let own = |l: Latent| config.heads * (l.nope + l.value);
                config.latent.map_or(0, own)
            }
            Dim::LatentValues => config.latent.map_or(0, |l| config.heads * l.value),
            Dim::Experts => config.experts.map_or(0, |e| e.count),
            Dim::ExpertWidth => config.experts.map_or(0, |e| e.width),
            Dim::SharedWidth => config.experts.map_or(0, |e| e.shared),
            Dim::One => 1,
            Dim::Positions => config.encoder.map_or(0, |e| e.positions),
            Dim::Types => config.encoder.map_or(0, |e| e.types),
            Dim::Labels => config.labels,
        }
    }
}
