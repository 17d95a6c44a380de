//! Bytes ⇄ named tensors.
