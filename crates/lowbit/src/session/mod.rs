//! KV cache, sampler and generation: tokens in, tokens out.
