//! Stored tensors → model, sans I/O: says which tensors it wants next, takes their bytes.
