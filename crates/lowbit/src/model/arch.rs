//! The table of architectures: which tensors a model has, in which order its blocks use them.
