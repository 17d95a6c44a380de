//! Perplexity, KL divergence and agreement, reduced window by window.
