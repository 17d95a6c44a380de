//! What a decoder block does, as a list over named slots. Every backend interprets this list.

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
}

/// Weights of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Norm before attention.
    InputNorm,
    /// Query projection.
    Q,
    /// Key projection.
    K,
    /// Value projection.
    V,
    /// Norm over each query head.
    QNorm,
    /// Norm over each key head.
    KNorm,
    /// Attention output projection.
    O,
    /// Norm before the MLP.
    PostNorm,
    /// Gate projection.
    Gate,
    /// Up projection.
    Up,
    /// Down projection.
    Down,
}

/// One step of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// Linears that share an input: `outputs[i].1 = from · W(outputs[i].0)ᵀ + bias`.
    Linear {
        /// Shared input; what calibration taps.
        from: Slot,
        /// Weight and output of each.
        outputs: &'static [(Part, Slot)],
    },
    /// RMS norm over each head of `slot`.
    HeadNorm {
        /// Queries or keys, in place.
        slot: Slot,
        /// The norm's weight, `head_dim` long.
        weight: Part,
    },
    /// Rotary embedding of queries and keys, in place.
    Rope,
    /// Appends K and V to the cache; `Attended = softmax(Q·Kᵀ/√d, causal)·V`.
    Attention,
    /// `Gate = silu(Gate) · Up`, in place.
    SiluMul,
    /// `Hidden += from`.
    Add {
        /// What is added.
        from: Slot,
    },
}
