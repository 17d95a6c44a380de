//! Rounders: weight and statistics → QuantizedMatrix.
