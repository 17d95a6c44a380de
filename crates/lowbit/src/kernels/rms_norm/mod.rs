//! (filled by its lane)
