//! Which models the shaders here can run; the CPU runs all of them.

use crate::error::{Code, Error, Result};
use crate::model::arch::{Dim, Kind};
use crate::model::config::{Config, Factors};
use crate::model::ops::{Op, Part, Slot};

/// `unsupported` for what a family needs and no kernel here does, before anything is uploaded.
pub fn check(config: &Config) -> Result<()> {
    let needed = |layer| config.ops(layer).iter().find_map(missing);
    let factors = Factors::plain(config.head_dim);
    let whole_heads = config.rotary == config.head_dim && !config.arch().rope.interleaved;
    let over_heads = |layer| {
        let rows = (config.arch().rows)(config, layer).iter();
        let mut norms = rows.filter(|r| matches!(r.part, Part::QNorm | Part::KNorm));
        norms.all(|r| r.kind == Kind::Vector(Dim::Head))
    };
    let what = if let Some(what) = (0..config.layers).find_map(needed) {
        what
    } else if config.factors != factors {
        "constants of scores and logits"
    } else if !whole_heads {
        "rotation of parts of heads"
    } else if !(0..config.layers).all(over_heads) {
        "norms over all heads"
    } else {
        return Ok(());
    };
    let what = format!("{what} on the GPU");
    Err(Error::new(Code::Unsupported, what).remedy("use device \"cpu\""))
}

/// What an operation needs that no shader does.
fn missing(op: &Op) -> Option<&'static str> {
    match op {
        Op::Experts { .. } | Op::Gate { .. } => Some("a mixture of experts"),
        Op::Attention { window: Some(_) } => Some("sliding-window attention"),
        Op::Rope { local: true } => Some("a second rotary base"),
        Op::GeluMul => Some("GELU"),
        Op::Scale { .. } => Some("scaled activations"),
        Op::LatentHeads | Op::CutAttended => Some("attention through a narrow vector"),
        Op::Split { .. } => Some("fused projections"),
        Op::LayerNorm { .. }
        | Op::AddPositions { .. }
        | Op::AddTypes { .. }
        | Op::Activate { .. } => Some("an encoder"),
        Op::RmsNorm { from, .. } if *from != Slot::Hidden => Some("norms of what blocks add"),
        Op::RmsNorm { .. }
        | Op::Linear { .. }
        | Op::HeadNorm { .. }
        | Op::Rope { local: false }
        | Op::Attention { window: None }
        | Op::SiluMul
        | Op::Add { .. } => None,
    }
}
