//! The specification of RMS norm: f64 throughout, rounded once.

/// Norms every row of `x [rows, weight.len()]`, in place.
pub(super) fn rms_norm(x: &mut [f32], weight: &[f32], eps: f32) {
    let n = weight.len();
    for row in x.chunks_mut(n) {
        let mut sum = 0.0f64;
        for v in row.iter() {
            sum += f64::from(*v) * f64::from(*v);
        }
        let scale = 1.0 / (sum / n as f64 + f64::from(eps)).sqrt();
        for j in 0..n {
            row[j] = (f64::from(row[j]) * scale * f64::from(weight[j])) as f32;
        }
    }
}
