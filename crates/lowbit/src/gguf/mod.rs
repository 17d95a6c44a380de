//! GGUF, the file format of llama.cpp: container, block types and what a converter must know.
//!
//! ```text
//! "GGUF" | version u32 | tensors u64 | keys u64 | keys with values | tensor infos | pad | data
//! ```
//! Everything little-endian. Shapes are outermost first here, as everywhere in this crate, and
//! innermost first in the file. Source: ggml's `docs/gguf.md` and the behaviour of its loader, which
//! is the stricter of the two where they differ.

pub mod bridge;
pub mod bridge_back;
pub mod codec;
mod collect;
mod cursor;
mod decode;
mod decode_iq;
mod encode_32;
mod encode_k16;
mod encode_k32;
mod encode_plain;
pub mod export;
mod export_types;
mod extent;
mod families;
mod families_encoder;
mod families_latent;
pub mod family;
pub mod gather;
mod granted;
pub mod header;
pub mod imatrix;
mod imatrix_file;
mod imatrix_legacy;
pub mod import;
mod import_config;
mod import_keys;
mod import_latent;
mod import_merges;
mod import_names;
mod import_pieces;
mod import_rope;
mod import_rows;
mod import_splits;
mod import_tokenizer;
mod lanes;
pub mod latent;
pub mod metadata;
pub mod mix;
pub mod mix_choose;
pub mod mix_kinds;
mod pooling;
mod rotary;
mod rows;
mod search;
mod search_one;
mod simd;
mod special;
pub mod split;
pub mod tensors;
pub mod types;
pub mod value;
pub mod vocabulary;
mod vocabulary_pieces;
mod vocabulary_splits;
mod walk;
pub mod write;

pub use codec::{Importance, decode, encode};
pub use extent::ALIGNMENT;
pub use header::{Header, Limits, Parsed, TensorInfo, parse};
pub use import_rows::{Restore, rows};
pub use mix::Mix;
pub use mix_choose::{Choice, Facts, Overrides, choose};
pub use rows::Rows;
pub use types::{Codec, Type};
pub use value::{Array, Metadata, Value};

#[cfg(test)]
mod bridge_tests;
#[cfg(test)]
mod codec_tests;
#[cfg(test)]
mod export_tests;
#[cfg(test)]
mod imatrix_tests;
#[cfg(test)]
mod malformed_tests;
#[cfg(test)]
mod mix_tests;
#[cfg(test)]
mod tensors_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vocabulary_tests;
