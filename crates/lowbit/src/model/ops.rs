//! What a block does, as a list over named slots. Every backend interprets this list.

use super::config::Config;
use super::experts::expert_inputs;
pub use crate::kernels::activate::Activation;

/// Activations of one block, each `[tokens, width]` in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The residual stream, `hidden` wide; input and output of the block.
    Hidden,
    /// A normed copy of it.
    Normed,
    /// Queries, `heads · head_dim` wide.
    Q,
    /// Keys, `kv_heads · head_dim` wide.
    K,
    /// Values, `kv_heads · head_dim` wide.
    V,
    /// Attention output, `heads · head_dim` wide.
    Attended,
    /// What is added to the residual stream.
    Delta,
    /// Gate of the MLP, `intermediate` wide.
    Gate,
    /// Up projection of the MLP, `intermediate` wide.
    Up,
    /// Queries, keys and values of one matrix, side by side.
    Qkv,
    /// Gate and up projection of one matrix, side by side.
    GateUp,
    /// The narrow vector that queries are made of.
    QueryLatent,
    /// The narrow vector that keys and values are made of, and the rotated part of keys behind it.
    KvLatentAndTurn,
    /// The narrow vector that keys and values are made of.
    KvLatent,
    /// The rotated part of keys, one for all heads.
    KeyTurn,
    /// Keys without their rotated part, and values, head by head.
    KeysAndValues,
    /// The score of the expert that sees every token, 1 wide.
    Score,
    /// Scores of a classification, one per label.
    Labels,
}

/// Weights of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// One row per position, added to the embedding.
    PositionTable,
    /// One row per kind of text (first or second of a pair), added to the embedding.
    TypeTable,
    /// Norm of the sum of embeddings.
    EmbedNorm,
    /// Bias of that norm.
    EmbedNormBias,
    /// Norm before attention.
    InputNorm,
    /// Query projection.
    Q,
    /// Key projection.
    K,
    /// Value projection.
    V,
    /// Query, key and value projection as one matrix.
    Qkv,
    /// Makes the narrow vector that queries are made of.
    QueryDown,
    /// Norm over that vector.
    QueryLatentNorm,
    /// Makes the narrow vector that keys and values are made of, and the rotated part of keys.
    KvDown,
    /// Norm over that vector.
    KvLatentNorm,
    /// Makes keys and values of the narrow vector.
    KvUp,
    /// Norm over each query head.
    QNorm,
    /// Norm over each key head.
    KNorm,
    /// Attention output projection.
    O,
    /// Norm of attention's output before it is added to the residual stream; in encoders, of the
    /// sum.
    AttentionNorm,
    /// Bias of that norm.
    AttentionNormBias,
    /// Norm before the MLP.
    PostNorm,
    /// Gate projection.
    Gate,
    /// Up projection.
    Up,
    /// Gate and up projection as one matrix.
    GateUp,
    /// Down projection.
    Down,
    /// Norm of the MLP's output before it is added to the residual stream; in encoders, of the sum.
    MlpNorm,
    /// Bias of that norm.
    MlpNormBias,
    /// Scores every expert, `[experts, hidden]`.
    Router,
    /// Gate projection of an expert.
    ExpertGate(u16),
    /// Up projection of an expert.
    ExpertUp(u16),
    /// Down projection of an expert.
    ExpertDown(u16),
    /// Scores the expert that sees every token, `[1, hidden]`.
    SharedRouter,
    /// Gate projection of the expert that sees every token.
    SharedGate,
    /// Up projection of the expert that sees every token.
    SharedUp,
    /// Down projection of the expert that sees every token.
    SharedDown,
    /// The layer between the state of a text and its classification.
    Pooler,
    /// Scores every label.
    Classifier,
    /// What looks like a linear in a model of an unknown family.
    Guessed,
}

impl Part {
    /// The same part of expert `expert`; a part that no expert has stays as it is.
    #[must_use]
    pub fn of_expert(self, expert: u16) -> Self {
        match self {
            Part::ExpertGate(_) => Part::ExpertGate(expert),
            Part::ExpertUp(_) => Part::ExpertUp(expert),
            Part::ExpertDown(_) => Part::ExpertDown(expert),
            other => other,
        }
    }

    /// What engines join it with into one matrix, where the same holds for another part: queries,
    /// keys and values, their latents, or gate and up projection of one MLP; none for the others.
    pub fn joined(self) -> Option<(u8, u16)> {
        match self {
            Part::Q | Part::K | Part::V => Some((0, 0)),
            Part::QueryDown | Part::KvDown => Some((1, 0)),
            Part::Gate | Part::Up => Some((2, 0)),
            Part::SharedGate | Part::SharedUp => Some((3, 0)),
            Part::ExpertGate(e) | Part::ExpertUp(e) => Some((4, e)),
            _ => None,
        }
    }

    /// The expert whose part it is, if it is one of those that tokens are routed to.
    pub fn expert(self) -> Option<u16> {
        match self {
            Part::ExpertGate(e) | Part::ExpertUp(e) | Part::ExpertDown(e) => Some(e),
            _ => None,
        }
    }
}

/// One step of a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Op {
    /// `to = rms_norm(from) · weight`.
    RmsNorm {
        /// Input.
        from: Slot,
        /// Output.
        to: Slot,
        /// The norm's weight.
        weight: Part,
    },
    /// `slot = layer_norm(slot) · weight + bias`.
    LayerNorm {
        /// In place.
        slot: Slot,
        /// The norm's weight.
        weight: Part,
        /// The norm's bias.
        bias: Part,
    },
    /// `Hidden += table[position + first]`; positions count from the start of each text.
    AddPositions {
        /// The table.
        table: Part,
        /// Row of the first position.
        first: usize,
    },
    /// `Hidden += table[0]`, or `table[1]` for tokens of a pair's second text.
    AddTypes {
        /// The table.
        table: Part,
    },
    /// `slot = f(slot)`.
    Activate {
        /// In place.
        slot: Slot,
        /// f.
        by: Activation,
    },
    /// Linears that share an input: `outputs[i].1 = from · W(outputs[i].0)ᵀ + bias`.
    Linear {
        /// Shared input; what calibration taps.
        from: Slot,
        /// Weight and output of each.
        outputs: &'static [(Part, Slot)],
    },
    /// RMS norm over each head of `slot`, or over all of them at once where the weight is as long.
    HeadNorm {
        /// Queries or keys, in place.
        slot: Slot,
        /// The norm's weight.
        weight: Part,
    },
    /// The parts of a row that lies side by side, each with the width of its slot.
    Split {
        /// What is cut.
        from: Slot,
        /// Its parts, in order.
        to: &'static [Slot],
    },
    /// Rotary embedding of queries and keys, in place.
    Rope {
        /// With the base of blocks whose attention slides.
        local: bool,
    },
    /// Rotates the last part of each query head and `KeyTurn`; puts K and V together from it and
    /// from `KeysAndValues`, values with zeros behind them up to the width of a key.
    LatentHeads,
    /// Cuts the zeros behind each head of `Attended` away that `LatentHeads` put there.
    CutAttended,
    /// Appends K and V to the cache; `Attended = softmax(scale · Q·Kᵀ, causal)·V`. In an encoder
    /// tokens see their whole text, and nothing is cached.
    Attention {
        /// A token sees this many positions, itself included.
        window: Option<usize>,
    },
    /// `Gate = silu(Gate) · Up`, in place.
    SiluMul,
    /// `Gate = gelu(Gate) · Up` with GELU in its tanh form, in place.
    GeluMul,
    /// `slot *= by`.
    Scale {
        /// In place.
        slot: Slot,
        /// The factor.
        by: f32,
    },
    /// `slot *= σ(score)`, one score per token.
    Gate {
        /// In place.
        slot: Slot,
        /// One value per token.
        score: Slot,
    },
    /// `Hidden += from`.
    Add {
        /// What is added.
        from: Slot,
    },
    /// `to = Σ_e p_e · Down_e(silu(Gate_e(from)) · Up_e(from))` over the experts that the router
    /// gives each token to; see `experts.rs`.
    Experts {
        /// What the router and the experts read.
        from: Slot,
        /// The experts' weighted sum.
        to: Slot,
    },
}

impl Op {
    /// The linears of this step by what they read: the groups of parts that a tap is called with,
    /// in the order of the calls.
    ///
    /// With `all_experts` every expert reads what the router reads, so that they are one group.
    pub fn inputs(&self, config: &Config, all_experts: bool) -> Vec<Vec<Part>> {
        match self {
            Op::Linear { outputs, .. } => vec![outputs.iter().map(|(part, _)| *part).collect()],
            Op::Experts { .. } => {
                let count = config.experts.map_or(0, |e| e.count);
                expert_inputs(count, all_experts)
            }
            _ => Vec::new(),
        }
    }
}
