//! Latent attention: one matrix of the checkpoint is two tensors of the file.
//!
//! ```text
//! kv_b_proj [heads · (keys + values), rank]   of every head its rows of keys, then those of values
//! attn_k_b  [heads, rank, keys]               turned, because queries are multiplied with it
//! attn_v_b  [heads, values, rank]
//! ```
//! Files of older converters hold the matrix as it is, as `attn_kv_b`. Source: the tensors that
//! llama.cpp's loader asks for, with and without the key `attention.key_length_mla`.

use super::codec::decode;
use super::metadata::{Sizes, count, missing};
use super::types::Type;
use crate::error::{Code, Error, Result};
use serde_json::Value as Json;

/// How the matrix of a model is made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latent {
    /// Heads.
    pub heads: usize,
    /// Rows of a head that make its keys.
    pub keys: usize,
    /// Rows of a head that make its values.
    pub values: usize,
    /// Columns: the width of the vector that keys and values are made of.
    pub rank: usize,
}

/// One of the two tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// `attn_k_b`.
    Keys,
    /// `attn_v_b`.
    Values,
}

impl Latent {
    /// Reads config.json; `config` names what it lacks.
    pub(super) fn from_config(config: &Json, sizes: &Sizes) -> Result<Self> {
        let of = |key: &str| {
            let found = count(config, &[key])?.filter(|n| *n > 0);
            found.ok_or_else(|| missing(format!("{key} is missing")))
        };
        Ok(Self {
            heads: sizes.heads,
            keys: of("qk_nope_head_dim")?,
            values: of("v_head_dim")?,
            rank: of("kv_lora_rank")?,
        })
    }

    /// Rows of a head.
    pub(super) fn rows(self) -> usize {
        self.keys + self.values
    }

    /// Extents of a half, outermost first.
    pub(super) fn shape(self, half: Half) -> Vec<usize> {
        match half {
            Half::Keys => vec![self.heads, self.rank, self.keys],
            Half::Values => vec![self.heads, self.values, self.rank],
        }
    }

    /// A half of whole heads `[heads · (keys + values), rank]`; `shape` when they are not whole.
    pub(super) fn cut(self, half: Half, matrix: &[f32]) -> Result<Vec<f32>> {
        whole(matrix.len(), self.rows() * self.rank)?;
        let mut out = Vec::with_capacity(matrix.len());
        for head in matrix.chunks_exact(self.rows() * self.rank) {
            let (keys, values) = head.split_at(self.keys * self.rank);
            match half {
                Half::Values => out.extend_from_slice(values),
                Half::Keys => (0..self.rank).for_each(|col| {
                    let column = keys.iter().skip(col).step_by(self.rank);
                    out.extend(column);
                }),
            }
        }
        Ok(out)
    }

    /// Puts a half of whole heads where it is in the matrix; `shape` when it is of other heads.
    pub(super) fn put(self, half: Half, part: &[f32], matrix: &mut [f32]) -> Result<()> {
        let size = match half {
            Half::Keys => self.keys * self.rank,
            Half::Values => self.values * self.rank,
        };
        whole(part.len(), size)?;
        whole(matrix.len(), self.rows() * self.rank)?;
        let heads = matrix.chunks_exact_mut(self.rows() * self.rank);
        for (head, part) in heads.zip(part.chunks_exact(size)) {
            let (keys, values) = head.split_at_mut(self.keys * self.rank);
            match half {
                Half::Values => values.copy_from_slice(part),
                Half::Keys => {
                    for (i, key) in keys.iter_mut().enumerate() {
                        *key = part[i % self.rank * self.keys + i / self.rank];
                    }
                }
            }
        }
        Ok(())
    }
}

fn whole(count: usize, size: usize) -> Result<()> {
    if size > 0 && count.is_multiple_of(size) {
        return Ok(());
    }
    let what = format!("{count} values are no heads of {size}");
    Err(Error::new(Code::Shape, what))
}

/// The matrix of whole heads, from the blocks of their keys and then those of their values.
///
/// `shape` when the bytes are not of whole heads, else the codes of `decode`.
pub(super) fn join(latent: Latent, types: [&Type; 2], stored: &[u8]) -> Result<Vec<f32>> {
    let [keys, values] = head_bytes(latent, types)?;
    if !stored.len().is_multiple_of((keys + values).max(1)) {
        let what = format!("{} bytes are no whole heads", stored.len());
        return Err(Error::new(Code::Shape, what));
    }
    let heads = stored.len() / (keys + values).max(1);
    let parts = stored.split_at(heads * keys);
    let mut out = vec![0.0; heads * latent.rows() * latent.rank];
    for (half, ty, bytes, count) in [
        (Half::Keys, types[0], parts.0, latent.keys),
        (Half::Values, types[1], parts.1, latent.values),
    ] {
        let mut part = vec![0.0; heads * count * latent.rank];
        decode(ty, bytes, &mut part)?;
        latent.put(half, &part, &mut out)?;
    }
    Ok(out)
}

/// Bytes of one head in both tensors; `block` when rows are no whole blocks.
pub(super) fn head_bytes(latent: Latent, [keys, values]: [&Type; 2]) -> Result<[usize; 2]> {
    Ok([
        latent.rank * keys.row_bytes(latent.keys)?,
        latent.values * values.row_bytes(latent.rank)?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;
    use crate::gguf::codec::encode;
    use crate::gguf::types::{Q5_0, Q8_0};

    const LATENT: Latent = Latent {
        heads: 2,
        keys: 2,
        values: 1,
        rank: 3,
    };

    #[test]
    fn blocks_of_both_halves_are_joined() {
        let latent = Latent {
            heads: 2,
            keys: 32,
            values: 3,
            rank: 64,
        };
        let matrix: Vec<f32> = (0..2 * 35 * 64u16)
            .map(|i| f32::from(i % 251) / 100.0 - 1.2)
            .collect();
        let cpu = Cpu::single();
        let [keys, values] = [(Half::Keys, 32, &Q8_0), (Half::Values, 64, &Q5_0)];
        let blocks = |(half, cols, ty): (Half, usize, &'static Type)| {
            encode(ty, &latent.cut(half, &matrix).unwrap(), cols, None, &cpu).unwrap()
        };
        let stored = [blocks(keys), blocks(values)].concat();
        let found = join(latent, [&Q8_0, &Q5_0], &stored).unwrap();
        for (i, (a, b)) in found.iter().zip(&matrix).enumerate() {
            // A step of 8 bits for keys, one of 5 for values.
            let step = if i / 64 % 35 < 32 { 0.01 } else { 0.09 };
            assert!((a - b).abs() <= step, "{i}: {a} {b}");
        }
        let cut = &stored[1..];
        let error = join(latent, [&Q8_0, &Q5_0], cut).unwrap_err();
        assert_eq!(error.code, Code::Shape);
    }

    #[test]
    fn halves_are_cut_and_put_back() {
        let matrix: Vec<f32> = (0..18u8).map(f32::from).collect();
        let keys = LATENT.cut(Half::Keys, &matrix).unwrap();
        // Head 0 has rows 0 1 2 and 3 4 5 of keys.
        assert_eq!(keys[..6], [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        let values = LATENT.cut(Half::Values, &matrix).unwrap();
        assert_eq!(values, [6.0, 7.0, 8.0, 15.0, 16.0, 17.0]);
        let mut back = vec![0.0; 18];
        LATENT.put(Half::Keys, &keys, &mut back).unwrap();
        LATENT.put(Half::Values, &values, &mut back).unwrap();
        assert_eq!(back, matrix);
        let code = |found: Result<Vec<f32>>| found.unwrap_err().code;
        assert_eq!(code(LATENT.cut(Half::Keys, &matrix[1..])), Code::Shape);
    }
}
