//! GGUF, the file format of llama.cpp: container, block types and what a converter must know.
//!
//! ```text
//! "GGUF" | version u32 | tensors u64 | keys u64 | keys with values | tensor infos | pad | data
//! ```
//! Everything little-endian. Shapes are outermost first here, as everywhere in this crate, and
//! innermost first in the file. Source: ggml's `docs/gguf.md` and the behaviour of its loader, which
//! is the stricter of the two where they differ.

mod cursor;
mod extent;
pub mod header;
pub mod split;
pub mod types;
pub mod value;
mod walk;
pub mod write;

pub use extent::ALIGNMENT;
pub use header::{Header, Limits, Parsed, TensorInfo, parse};
pub use types::Type;
pub use value::{Array, Metadata, Value};

#[cfg(test)]
mod malformed_tests;
#[cfg(test)]
mod tests;
