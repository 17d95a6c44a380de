//! Rows of activations: what passes do to them between kernels.

/// Makes a buffer `len` long; its contents are of no use.
pub(super) fn resize(buffer: &mut Vec<f32>, len: usize) {
    buffer.resize(len, 0.0);
}

/// Adds a bias, if there is one, to every row.
pub(super) fn add_bias(y: &mut [f32], bias: Option<&[f32]>) {
    if let Some(bias) = bias {
        y.chunks_mut(bias.len()).for_each(|row| add(row, bias));
    }
}

/// Adds one row to another.
pub(super) fn add(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}
