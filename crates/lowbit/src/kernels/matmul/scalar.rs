//! The specification: plain loops, f64 sums in f32 mode, exact integers in int8 mode.

use super::inputs::Rounded;
use super::panel::ROWS;
use super::weight::{Dense, Packed, Zeros};

/// `y = x · Wᵀ` for a dense matrix; `x [m, cols]`.
pub fn dense(x: &[f32], w: &Dense, y: &mut [f32]) {
    for (x, y) in x.chunks_exact(w.cols).zip(y.chunks_exact_mut(w.rows)) {
        for (r, y) in y.iter_mut().enumerate() {
            let value = |k| w.values.get(r / ROWS * w.cols + k, r % ROWS);
            *y = dot(x, value);
        }
    }
}

/// `y = x · Wᵀ` for a packed matrix; `x [m, width]` in padded order.
pub fn packed(x: &[f32], w: &Packed, y: &mut [f32]) {
    for (x, y) in x.chunks_exact(w.width()).zip(y.chunks_exact_mut(w.rows)) {
        for (r, y) in y.iter_mut().enumerate() {
            *y = dot(x, |k| w.value(r, k));
        }
    }
}

fn dot(x: &[f32], value: impl Fn(usize) -> f32) -> f32 {
    let products = x
        .iter()
        .enumerate()
        .map(|(k, x)| f64::from(*x) * f64::from(value(k)));
    products.sum::<f64>() as f32
}

/// `y = Σ_g (s_w · s_x) · Σ_k (q − z) · code`, inner sums as integers, outer in f32, in order.
pub fn packed_int8(x: &Rounded, w: &Packed, y: &mut [f32]) {
    let (width, groups) = (w.width(), w.groups);
    for (m, y) in y.chunks_exact_mut(w.rows).enumerate() {
        for (r, y) in y.iter_mut().enumerate() {
            *y = 0.0;
            for g in 0..groups {
                let at = r / ROWS * groups + g;
                let zero = match &w.zeros {
                    Zeros::Centre(z) => *z,
                    Zeros::Int(z) => i32::from(z[at][r % ROWS]),
                    Zeros::Min(_) => 0,
                    Zeros::Float(_) => unreachable!("packed for f32"),
                };
                let mut sum = 0i32;
                for k in g * w.group..(g + 1) * w.group {
                    sum += (w.code(r, k) as i32 - zero) * i32::from(x.codes[m * width + k]);
                }
                let scale = w.scales.get(at, r % ROWS) * x.scales[m * groups + g];
                *y += scale * sum as f32;
                if let Zeros::Min(min) = &w.zeros {
                    let inputs = x.scales[m * groups + g] * x.sums[m * groups + g] as f32;
                    *y -= min.get(at, r % ROWS) * inputs;
                }
            }
        }
    }
}

/// Adds `xᵀ · x` into the lower triangle of `h[n, n]`.
pub fn gram(x: &[f32], n: usize, h: &mut [f32]) {
    for i in 0..n {
        for j in 0..=i {
            let products = x.chunks_exact(n).map(|x| f64::from(x[i]) * f64::from(x[j]));
            h[i * n + j] += products.sum::<f64>() as f32;
        }
    }
}

/// `c[m, n] −= a[m, k] · b[k, n]`; rows of `c` are `c_stride` apart.
pub fn gemm_sub(a: &[f32], b: &[f32], n: usize, c: &mut [f32], c_stride: usize) {
    let k = b.len() / n;
    for (a, c) in a.chunks_exact(k).zip(c.chunks_mut(c_stride)) {
        for (j, c) in c[..n].iter_mut().enumerate() {
            let products = a
                .iter()
                .zip(b.chunks_exact(n))
                .map(|(a, b)| f64::from(*a) * f64::from(b[j]));
            *c -= products.sum::<f64>() as f32;
        }
    }
}
