//! Multi-head latent attention as config.json states it.

use crate::error::Result;
use crate::model::fields::Fields;

/// Sizes of attention whose keys and values are made of a narrow common vector.
///
/// ```text
/// q        = Q · norm(QueryDown · x), or Q · x        [heads, nope + rope]
/// (c, r)   = KvDown · x                               [kv_rank], [rope]
/// (k, v)   = KvUp · norm(c)                           [heads, nope], [heads, value]
/// keys     = (k, rotated r, the same for every head)  [heads, nope + rope]
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latent {
    /// Width of the vector that queries are made of, if there is one.
    pub query_rank: Option<usize>,
    /// Width of the vector that keys and values are made of.
    pub kv_rank: usize,
    /// Values of a query or key head that are not rotated, in front.
    pub nope: usize,
    /// Those that are, behind; even.
    pub rope: usize,
    /// Width of a value head, at most `nope + rope`.
    pub value: usize,
}

/// Reads the sizes; `config` names what is out of range.
pub(super) fn read(fields: &Fields<'_>) -> Result<Latent> {
    let nope = fields.count("qk_nope_head_dim", 1..=1 << 11, Some(128))?;
    let rope = fields.count("qk_rope_head_dim", 2..=1 << 11, Some(64))?;
    if !rope.is_multiple_of(2) {
        let allowed = "an even number, because rotation takes pairs";
        return Err(fields.refuse("qk_rope_head_dim", &rope.into(), allowed));
    }
    // A missing rank is the family's, null is none.
    let query_rank = if fields.is_null("q_lora_rank") {
        None
    } else {
        Some(fields.count("q_lora_rank", 1..=1 << 16, Some(1536))?)
    };
    Ok(Latent {
        query_rank,
        kv_rank: fields.count("kv_lora_rank", 1..=1 << 16, Some(512))?,
        nope,
        rope,
        // A wider value does not fit beside the keys.
        value: fields.count("v_head_dim", 1..=nope + rope, Some(128))?,
    })
}
