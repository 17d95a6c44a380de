//! BERT and its kin: encoders whose tokens see their whole text.
//!
//! ```text
//! x ← norm(words + positions + kinds)          then in every block
//! x ← norm(x + O·attention(x))   x ← norm(x + down·f(up·x))
//! ```
//! | family | what differs from BERT (Devlin et al., 2018) |
//! |---|---|
//! | RoBERTa, XLM-RoBERTa | positions count from behind the padding token's id; another head |
//! | DistilBERT | no kinds of text; other names; a head with ReLU |
//!
//! What stands before the first block is its part, as the multipliers of embeddings are: it runs
//! where that block runs, and calibration sees what it gives.

use super::llama::LLAMA;
use super::{LINEAR, behind};
use crate::model::arch::{
    Arch, Bias, BiasOf, Biases, Dim, EncoderKeys, Kind, Place, Policy, Row, Tail,
};
use crate::model::config::{Config, factors};
use crate::model::ops::{Activation, Op, Part, Slot};
use std::borrow::Cow;

/// Activations by their names in transformers.
pub(in crate::model) const ACTIVATIONS: &[(&str, Activation)] = &[
    ("gelu", Activation::Gelu),
    ("gelu_python", Activation::Gelu),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("relu", Activation::Relu),
];
const NAMES: &[&str] = &{
    let mut names = [""; ACTIVATIONS.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = ACTIVATIONS[i].0;
        i += 1;
    }
    names
};

const fn row(part: Part, (place, module): (Place, &'static str), kind: Kind) -> Row {
    Row {
        part,
        module: Cow::Borrowed(module),
        place,
        kind,
        policy: Policy::Keep,
    }
}

const fn table(part: Part, module: &'static str, rows: Dim) -> Row {
    let cols = Dim::Hidden;
    row(part, (Place::Base, module), Kind::Table { rows, cols })
}

const fn norm(part: Part, module: (Place, &'static str)) -> Row {
    row(part, module, Kind::Vector(Dim::Hidden))
}

const fn bias(part: Part, module: (Place, &'static str)) -> Row {
    row(part, module, Kind::Bias(Dim::Hidden))
}

const fn linear(part: Part, module: &'static str, rows: Dim, cols: Dim) -> Row {
    super::linear(part, module, (rows, cols), (BiasOf::Always, LINEAR))
}

/// The rows of a block by its modules, behind those that only the first one has.
macro_rules! rows {
    ([$($first:expr),* $(,)?] $q:literal $k:literal $v:literal $o:literal $attention:literal
        $up:literal $down:literal $mlp:literal) => {
        &[
            $($first,)*
            linear(Part::Q, $q, Dim::Hidden, Dim::Hidden),
            linear(Part::K, $k, Dim::Hidden, Dim::Hidden),
            linear(Part::V, $v, Dim::Hidden, Dim::Hidden),
            linear(Part::O, $o, Dim::Hidden, Dim::Hidden),
            norm(Part::AttentionNorm, (Place::Block, $attention)),
            bias(Part::AttentionNormBias, (Place::Block, $attention)),
            linear(Part::Up, $up, Dim::Intermediate, Dim::Hidden),
            linear(Part::Down, $down, Dim::Hidden, Dim::Intermediate),
            norm(Part::MlpNorm, (Place::Block, $mlp)),
            bias(Part::MlpNormBias, (Place::Block, $mlp)),
        ]
    };
}

macro_rules! bert_rows {
    ($($first:expr),* $(,)?) => {
        rows!([$($first),*]
            "attention.self.query" "attention.self.key" "attention.self.value"
            "attention.output.dense" "attention.output.LayerNorm"
            "intermediate.dense" "output.dense" "output.LayerNorm")
    };
}

macro_rules! distilbert_rows {
    ($($first:expr),* $(,)?) => {
        rows!([$($first),*]
            "attention.q_lin" "attention.k_lin" "attention.v_lin" "attention.out_lin"
            "sa_layer_norm" "ffn.lin1" "ffn.lin2" "output_layer_norm")
    };
}

const POSITIONS: Row = table(
    Part::PositionTable,
    "embeddings.position_embeddings",
    Dim::Positions,
);
const TYPES: Row = table(
    Part::TypeTable,
    "embeddings.token_type_embeddings",
    Dim::Types,
);
const EMBED_NORM: Row = norm(Part::EmbedNorm, (Place::Base, "embeddings.LayerNorm"));
const EMBED_BIAS: Row = bias(Part::EmbedNormBias, (Place::Base, "embeddings.LayerNorm"));

const BERT_ROWS: &[Row] = bert_rows!();
const BERT_FIRST: &[Row] = bert_rows!(POSITIONS, TYPES, EMBED_NORM, EMBED_BIAS);
const DISTILBERT_ROWS: &[Row] = distilbert_rows!();
const DISTILBERT_FIRST: &[Row] = distilbert_rows!(POSITIONS, EMBED_NORM, EMBED_BIAS);

/// The operations of block `layer`.
fn ops(config: &Config, layer: usize) -> Vec<Op> {
    let mut ops = Vec::new();
    let (types, first, activation) = match config.encoder {
        Some(e) => (e.types, e.first, e.activation),
        None => (0, 0, Activation::Gelu),
    };
    let norm = |weight, bias| Op::LayerNorm {
        slot: Slot::Hidden,
        weight,
        bias,
    };
    if layer == 0 {
        let table = Part::PositionTable;
        ops.push(Op::AddPositions { table, first });
        if types > 0 {
            let table = Part::TypeTable;
            ops.push(Op::AddTypes { table });
        }
        ops.push(norm(Part::EmbedNorm, Part::EmbedNormBias));
    }
    ops.extend([
        Op::Linear {
            from: Slot::Hidden,
            outputs: &[(Part::Q, Slot::Q), (Part::K, Slot::K), (Part::V, Slot::V)],
        },
        Op::Attention { window: None },
        Op::Linear {
            from: Slot::Attended,
            outputs: &[(Part::O, Slot::Delta)],
        },
        Op::Add { from: Slot::Delta },
        norm(Part::AttentionNorm, Part::AttentionNormBias),
        Op::Linear {
            from: Slot::Hidden,
            outputs: &[(Part::Up, Slot::Up)],
        },
        Op::Activate {
            slot: Slot::Up,
            by: activation,
        },
        Op::Linear {
            from: Slot::Up,
            outputs: &[(Part::Down, Slot::Delta)],
        },
        Op::Add { from: Slot::Delta },
        norm(Part::MlpNorm, Part::MlpNormBias),
    ]);
    ops
}

/// A layer, an activation, then scores: what heads of encoders have in common.
const fn head(by: Activation) -> [Op; 3] {
    [
        Op::Linear {
            from: Slot::Hidden,
            outputs: &[(Part::Pooler, Slot::Delta)],
        },
        Op::Activate {
            slot: Slot::Delta,
            by,
        },
        Op::Linear {
            from: Slot::Delta,
            outputs: &[(Part::Classifier, Slot::Labels)],
        },
    ]
}

const TANH: &[Op] = &head(Activation::Tanh);
const RELU: &[Op] = &head(Activation::Relu);

const fn dense(part: Part, module: (Place, &'static str), rows: Dim) -> Row {
    behind(part, module, (rows, Dim::Hidden), BiasOf::Always)
}

pub(super) const BERT: Arch = Arch {
    name: "BERT",
    model_types: &["bert"],
    base: "bert.",
    renamed: &[],
    eps: ("layer_norm_eps", 1e-12),
    encoder: Some(EncoderKeys {
        behind_padding: None,
        types: Some(2),
    }),
    embed: "bert.embeddings.word_embeddings",
    blocks: "bert.encoder.layer",
    norm: "",
    head: "",
    rows: |_, layer| if layer == 0 { BERT_FIRST } else { BERT_ROWS },
    ops,
    biases: Biases {
        qkv: Bias::Always,
        o: Bias::Always,
        mlp: Bias::Always,
    },
    activation: (&["hidden_act"], NAMES),
    factors: factors::plain,
    tail: Tail {
        rows: &[
            dense(Part::Pooler, (Place::Base, "pooler.dense"), Dim::Hidden),
            dense(Part::Classifier, (Place::Whole, "classifier"), Dim::Labels),
        ],
        ops: TANH,
    },
    ..LLAMA
};

pub(super) const ROBERTA: Arch = Arch {
    name: "RoBERTa",
    model_types: &["roberta", "xlm-roberta"],
    base: "roberta.",
    encoder: Some(EncoderKeys {
        behind_padding: Some(1),
        types: Some(2),
    }),
    embed: "roberta.embeddings.word_embeddings",
    blocks: "roberta.encoder.layer",
    tail: Tail {
        rows: &[
            dense(
                Part::Pooler,
                (Place::Whole, "classifier.dense"),
                Dim::Hidden,
            ),
            dense(
                Part::Classifier,
                (Place::Whole, "classifier.out_proj"),
                Dim::Labels,
            ),
        ],
        ops: TANH,
    },
    ..BERT
};

pub(super) const DISTILBERT: Arch = Arch {
    name: "DistilBERT",
    model_types: &["distilbert"],
    base: "distilbert.",
    renamed: &[
        ("hidden_size", "dim"),
        ("num_attention_heads", "n_heads"),
        ("num_hidden_layers", "n_layers"),
        ("intermediate_size", "hidden_dim"),
        ("hidden_act", "activation"),
    ],
    encoder: Some(EncoderKeys {
        behind_padding: None,
        types: None,
    }),
    embed: "distilbert.embeddings.word_embeddings",
    blocks: "distilbert.transformer.layer",
    rows: |_, layer| {
        if layer == 0 {
            DISTILBERT_FIRST
        } else {
            DISTILBERT_ROWS
        }
    },
    tail: Tail {
        rows: &[
            dense(Part::Pooler, (Place::Whole, "pre_classifier"), Dim::Hidden),
            dense(Part::Classifier, (Place::Whole, "classifier"), Dim::Labels),
        ],
        ops: RELU,
    },
    ..BERT
};
