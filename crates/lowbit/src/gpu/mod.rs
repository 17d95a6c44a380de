//! Devices, buffers, shader assembly and the recorded model pass.
