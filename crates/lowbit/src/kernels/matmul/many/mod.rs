//! Products of dense matrices with many tokens on a device that can be waited for: calibration's. Few
//! tokens, and codes, are the matter of `matmul/gpu.rs`.

pub(crate) mod gpu;
