//! `h += xᵀ · x` on a device, its lower triangle. On the CPU it is a product like others:
//! `kernels::matmul::gram`, with the specification in `kernels::matmul::scalar`.

pub(crate) mod gpu;
