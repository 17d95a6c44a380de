//! What the decoder blocks of all families have in common: attention, then an MLP, each added to
//! the residual stream.

use crate::model::config::{Config, Turning};
use crate::model::ops::{Op, Part, Slot};

/// How a family's blocks differ.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// Attention and MLP read a normed copy of the residual stream.
    pub(super) pre_norms: bool,
    /// Their outputs are normed before they are added.
    pub(super) post_norms: bool,
    /// Queries and keys are normed before they are rotated.
    pub(super) head_norms: bool,
    /// What makes queries, keys and values.
    pub(super) project: Project,
    /// The MLP, from `Normed` (or `Hidden` without norms before) to `Delta`.
    pub(super) mlp: &'static [Op],
}

/// What makes queries, keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Project {
    /// A matrix each.
    Apart,
    /// One matrix.
    Fused,
    /// A narrow vector for keys and values, and perhaps another one for queries.
    Latent,
}

/// Norms before attention and MLP, and nothing else.
pub(super) const PLAIN: Style = Style {
    pre_norms: true,
    post_norms: false,
    head_norms: false,
    project: Project::Apart,
    mlp: GATED,
};

const ADD: Op = Op::Add { from: Slot::Delta };
const QKV: &[(Part, Slot)] = &[(Part::Q, Slot::Q), (Part::K, Slot::K), (Part::V, Slot::V)];
const GATE_AND_UP: &[(Part, Slot)] = &[(Part::Gate, Slot::Gate), (Part::Up, Slot::Up)];
const DOWN: Op = Op::Linear {
    from: Slot::Gate,
    outputs: &[(Part::Down, Slot::Delta)],
};
const GATE_UP: Op = Op::Linear {
    from: Slot::Normed,
    outputs: GATE_AND_UP,
};

/// The gated MLP with SiLU.
pub(super) const GATED: &[Op] = &[GATE_UP, Op::SiluMul, DOWN];

/// The gated MLP with GELU.
pub(super) const GATED_GELU: &[Op] = &[GATE_UP, Op::GeluMul, DOWN];

/// The gated MLP that reads the residual stream itself.
pub(super) const GATED_BARE: &[Op] = &[
    Op::Linear {
        from: Slot::Hidden,
        outputs: GATE_AND_UP,
    },
    Op::SiluMul,
    DOWN,
];

/// The gated MLP whose first two projections are one matrix.
pub(super) const GATED_FUSED: &[Op] = &[
    Op::Linear {
        from: Slot::Normed,
        outputs: &[(Part::GateUp, Slot::GateUp)],
    },
    Op::Split {
        from: Slot::GateUp,
        to: &[Slot::Gate, Slot::Up],
    },
    Op::SiluMul,
    DOWN,
];

const EXPERTS_ALONE: Op = Op::Experts {
    from: Slot::Normed,
    to: Slot::Delta,
};

/// A mixture of experts.
pub(super) const EXPERTS: &[Op] = &[EXPERTS_ALONE];

/// A mixture of experts beside one that sees every token and has a score of its own.
pub(super) const EXPERTS_SHARED: &[Op] = &[
    Op::Linear {
        from: Slot::Normed,
        outputs: &[
            (Part::SharedRouter, Slot::Score),
            (Part::SharedGate, Slot::Gate),
            (Part::SharedUp, Slot::Up),
        ],
    },
    Op::SiluMul,
    Op::Linear {
        from: Slot::Gate,
        outputs: &[(Part::SharedDown, Slot::Delta)],
    },
    Op::Gate {
        slot: Slot::Delta,
        score: Slot::Score,
    },
    ADD,
    EXPERTS_ALONE,
];

/// A mixture of experts beside an MLP that sees every token.
pub(super) const EXPERTS_BESIDE: &[Op] = &[
    Op::Linear {
        from: Slot::Normed,
        outputs: &[(Part::SharedGate, Slot::Gate), (Part::SharedUp, Slot::Up)],
    },
    Op::SiluMul,
    Op::Linear {
        from: Slot::Gate,
        outputs: &[(Part::SharedDown, Slot::Delta)],
    },
    ADD,
    EXPERTS_ALONE,
];

const fn norm(from: Slot, to: Slot, weight: Part) -> Op {
    Op::RmsNorm { from, to, weight }
}

/// The operations of block `layer`.
pub(super) fn ops(config: &Config, layer: usize, style: &Style) -> Vec<Op> {
    let (shape, factors) = (config.blocks[layer], config.factors);
    let mut ops = Vec::new();
    if layer == 0 && factors.embedding != 1.0 {
        ops.push(Op::Scale {
            slot: Slot::Hidden,
            by: factors.embedding,
        });
    }
    let from = if style.pre_norms {
        Slot::Normed
    } else {
        Slot::Hidden
    };
    if style.pre_norms {
        ops.push(norm(Slot::Hidden, Slot::Normed, Part::InputNorm));
    }
    project(&mut ops, config, style.project, from);
    if style.head_norms {
        for (slot, weight) in [(Slot::Q, Part::QNorm), (Slot::K, Part::KNorm)] {
            ops.push(Op::HeadNorm { slot, weight });
        }
    }
    let latent = style.project == Project::Latent;
    if latent {
        ops.push(Op::LatentHeads);
    } else if shape.turning != Turning::Never {
        let local = shape.turning == Turning::Local;
        ops.push(Op::Rope { local });
    }
    let window = shape.window;
    ops.push(Op::Attention { window });
    if latent {
        ops.push(Op::CutAttended);
    }
    ops.push(Op::Linear {
        from: Slot::Attended,
        outputs: &[(Part::O, Slot::Delta)],
    });
    add(
        &mut ops,
        config,
        style.post_norms.then_some(Part::AttentionNorm),
    );
    if style.pre_norms {
        ops.push(norm(Slot::Hidden, Slot::Normed, Part::PostNorm));
    }
    ops.extend_from_slice(style.mlp);
    add(&mut ops, config, style.post_norms.then_some(Part::MlpNorm));
    ops
}

/// Queries, keys and values of what `from` holds.
fn project(ops: &mut Vec<Op>, config: &Config, project: Project, from: Slot) {
    match project {
        Project::Apart => ops.push(Op::Linear { from, outputs: QKV }),
        Project::Fused => ops.extend([
            Op::Linear {
                from,
                outputs: &[(Part::Qkv, Slot::Qkv)],
            },
            Op::Split {
                from: Slot::Qkv,
                to: &[Slot::Q, Slot::K, Slot::V],
            },
        ]),
        Project::Latent => latent(ops, config, from),
    }
}

/// Queries, keys and values through narrow vectors.
fn latent(ops: &mut Vec<Op>, config: &Config, from: Slot) {
    const KV: (Part, Slot) = (Part::KvDown, Slot::KvLatentAndTurn);
    if config.latent.is_some_and(|l| l.query_rank.is_some()) {
        ops.push(Op::Linear {
            from,
            outputs: &[(Part::QueryDown, Slot::QueryLatent), KV],
        });
        let latent = Slot::QueryLatent;
        ops.push(norm(latent, latent, Part::QueryLatentNorm));
        ops.push(Op::Linear {
            from: latent,
            outputs: &[(Part::Q, Slot::Q)],
        });
    } else {
        ops.push(Op::Linear {
            from,
            outputs: &[(Part::Q, Slot::Q), KV],
        });
    }
    ops.push(Op::Split {
        from: Slot::KvLatentAndTurn,
        to: &[Slot::KvLatent, Slot::KeyTurn],
    });
    ops.push(norm(Slot::KvLatent, Slot::KvLatent, Part::KvLatentNorm));
    ops.push(Op::Linear {
        from: Slot::KvLatent,
        outputs: &[(Part::KvUp, Slot::KeysAndValues)],
    });
}

/// Adds `Delta` to the residual stream.
fn add(ops: &mut Vec<Op>, config: &Config, normed: Option<Part>) {
    if let Some(weight) = normed {
        ops.push(norm(Slot::Delta, Slot::Delta, weight));
    }
    if config.factors.residual != 1.0 {
        ops.push(Op::Scale {
            slot: Slot::Delta,
            by: config.factors.residual,
        });
    }
    ops.push(ADD);
}
