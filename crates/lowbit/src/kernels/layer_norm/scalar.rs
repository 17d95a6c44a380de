//! The specification of layer norm: f64, rounded once.

/// Norms every row of `x [rows, weight.len()]`, in place.
pub(super) fn layer_norm(x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    let n = weight.len();
    for row in x.chunks_mut(n) {
        let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / n as f64;
        let squares = row
            .iter()
            .map(|v| (f64::from(*v) - mean) * (f64::from(*v) - mean));
        let scale = 1.0 / (squares.sum::<f64>() / n as f64 + f64::from(eps)).sqrt();
        for j in 0..n {
            let normed = (f64::from(row[j]) - mean) * scale;
            row[j] = (normed * f64::from(weight[j]) + f64::from(bias[j])) as f32;
        }
    }
}
