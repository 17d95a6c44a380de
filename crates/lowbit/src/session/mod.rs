//! Tokens in, tokens out: the engine that runs a model over a cache, and the sampler.
//!
//! ```text
//! push(tokens) ─► Sequence ─ step ─► Engine ─► blocks on the CPU ─► last blocks and head on the GPU
//!                    ▲                                                        │
//!                    └── Sampler ◄── Top (few candidates) or Logits ◄─────────┘
//! ```

pub mod cache;
pub mod device;
pub mod encode;
pub mod engine;
pub mod pool;
pub mod random;
pub mod sampler;
pub mod sequence;
pub mod top;

pub use cache::Cache;
pub use encode::Goal;
pub use engine::Engine;
pub use pool::{POOLS, Pool};
pub use sampler::{Sampler, Sampling};
pub use sequence::{Sequence, Step};

/// What a forward pass is to give back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Nothing: the tokens only enter the cache.
    Nothing,
    /// The most likely candidates after the last token.
    Top(usize),
    /// All logits after the last token.
    Last,
    /// All logits after every token.
    All,
}

/// The most likely next tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Top {
    /// Token ids, most likely first; equal logits by the lower id.
    pub ids: Vec<u32>,
    /// Their logits, descending.
    pub logits: Vec<f32>,
    /// `ln Σ exp(logit)` over the whole vocabulary.
    pub log_sum: f32,
}

/// What a forward pass gave back.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Nothing was wanted.
    Nothing,
    /// The most likely candidates after the last token.
    Top(Top),
    /// `[vocabulary]` for `Want::Last`, `[tokens, vocabulary]` for `Want::All`.
    Logits(Vec<f32>),
}

/// Most candidates that `Want::Top` may ask for; beyond it a caller asks for `Want::Last`.
pub const TOP_MAX: usize = 64;
