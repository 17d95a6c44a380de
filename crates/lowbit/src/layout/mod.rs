//! On-disk formats: QuantizedMatrix ⇄ named tensors and config JSON.
