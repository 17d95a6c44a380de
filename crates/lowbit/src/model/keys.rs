//! How the configs of families say what differs: columns of the table of architectures.

use super::arch::Bias;
use super::config::Scoring;

/// How the configs of encoder families differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderKeys {
    /// Positions count from behind `pad_token_id`, which stands for this when absent.
    pub behind_padding: Option<usize>,
    /// `type_vocab_size` when absent; none in families without kinds of text.
    pub types: Option<usize>,
}

/// The keys of config.json that describe a mixture of experts.
#[derive(Debug, Clone, Copy)]
pub struct ExpertKeys {
    /// How many experts there are: names in the order of preference, and what absent stands for.
    pub count: (&'static [&'static str], usize),
    /// What `num_experts_per_tok` stands for when absent.
    pub per_token: usize,
    /// Width of an expert and what absent stands for.
    pub width: (&'static str, usize),
    /// The MLP that sees every token.
    pub shared: Shared,
    /// How logits become weights.
    pub scoring: Scoring,
    /// When experts are chosen by groups.
    pub groups: Groups,
    /// When the weights of the chosen experts are divided by their sum.
    pub renormalise: Bias,
    /// `routed_scaling_factor` when absent; `None`: the family does not scale weights.
    pub scale: Option<f64>,
    /// Which blocks have no experts.
    pub dense: Dense,
}

/// How wide the MLP is that sees every token, beside the experts.
#[derive(Debug, Clone, Copy)]
pub enum Shared {
    /// There is none.
    Never,
    /// The value of this key, or what absent stands for.
    Width(&'static str, usize),
    /// As many times an expert's width.
    Times(&'static str, usize),
}

/// When experts are chosen by groups.
#[derive(Debug, Clone, Copy)]
pub enum Groups {
    /// In no model.
    Never,
    /// Always: a group counts by its best two.
    Always,
    /// When `topk_method` says so: a group counts by its best one.
    Method,
}

/// Which blocks of a family with experts have none.
#[derive(Debug, Clone, Copy)]
pub enum Dense {
    /// All have some.
    Never,
    /// By `decoder_sparse_step` and `mlp_only_layers`.
    Steps,
    /// The first ones, by `first_k_dense_replace`, which stands for this when absent.
    First(usize),
}

/// How a family's config says which blocks look back over a window only. Where `layer_types` is
/// read, it wins over the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// The family has none.
    Never,
    /// All blocks, over `sliding_window`, which stands for this when absent.
    Size(Option<usize>),
    /// All blocks, if `use_sliding_window`.
    FlagAll,
    /// By `use_sliding_window`, the blocks that `layer_types` lists or from `max_window_layers` on.
    Flag,
    /// By `use_sliding_window`, the blocks that `layer_types` lists.
    Listed,
    /// All blocks but every n-th.
    Pattern {
        /// The key of n, if the family has one.
        key: Option<&'static str>,
        /// n when the key is absent.
        every: usize,
    },
}

/// How a family rotates queries and keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// `rope_theta` when absent.
    pub theta: f64,
    /// Base of the blocks whose attention slides when absent, if they have their own.
    pub local_theta: Option<f64>,
    /// `partial_rotary_factor` when absent; `None`: the family always rotates whole heads.
    pub part: Option<f64>,
    /// Pairs are neighbours instead of halves apart.
    pub interleaved: bool,
    /// Angles have sections for time, height and width (`mrope`). Text has one position for all
    /// three, so that they come to the ordinary ones.
    pub sections: bool,
    /// Some blocks do not rotate, by `no_rope_layers`.
    pub some_without: bool,
}
