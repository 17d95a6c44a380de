//! The functions that both bindings export: JSON text and bytes in, the same out.
