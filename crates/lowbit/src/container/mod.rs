//! Bytes ⇄ named tensors: the files that hold a checkpoint, and nothing about what is in them.
//!
//! Everything here reads text that a stranger wrote. Readers are strict, so that no two tools can
//! see different tensors in one file, and need little memory to say no.

mod check;
mod json;
pub mod safetensors;
mod scan;
pub mod shards;
mod sniff;

pub(crate) use check::check_name;
pub(crate) use sniff::recognise;
