//! The numbers of lowbit: quantizers, bit packing, formats, kernels and the model pass.
//!
//! This crate opens no file, reads no clock and no environment, and starts no thread that the
//! caller did not ask for. Bytes go in, bytes come out; `ARCHITECTURE.md` shows the rooms.

pub mod container;
pub mod convert;
pub mod cpu;
pub mod error;
pub mod evaluate;
pub mod gguf;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod job;
pub mod kernels;
pub mod kv_cache;
pub mod layout;
pub mod linalg;
pub mod maths;
pub mod matrix;
pub mod minifloat;
pub mod model;
pub mod pack;
pub mod port;
pub mod round;
pub mod scheme;
pub mod session;
pub mod tensor;
pub mod transform;

pub use cpu::{Compute, Cpu, Isa};
pub use error::{Code, Error, Result};
pub use matrix::QuantizedMatrix;
pub use scheme::Scheme;
pub use tensor::{Dtype, Tensor, TensorRef};
