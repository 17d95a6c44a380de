//! What errors of finished columns ask of the columns that are not rounded yet (lazy batches).
//!
//! ```text
//! work[strip][j][lane]   j in the order of `Factor::columns`, finished from the last to the first
//!            0 ……………… low │ block │ high …………… n
//!            weights      │  now  │ errors w − q of finished columns
//! ```
//! The block's columns first take in all finished errors as one product, then are finished one by
//! one, each taking in the errors of its own block.

use super::factor::Factor;
use crate::linalg::{DEPTH, LANES, Lanes, add, multiply_add, product};

/// Rows of a tile: the factor is read once per tile.
pub(super) const ROWS: usize = 64;

/// Up to `ROWS` rows of weights `[rows, n]` as strips of `LANES` rows, columns in the factor's
/// order.
pub(super) fn strips(weights: &[f32], factor: &Factor) -> Vec<Vec<Lanes>> {
    let n = factor.columns.len();
    let rows = weights.len() / n;
    let mut work = vec![vec![[0.0; LANES]; n]; rows.div_ceil(LANES)];
    for (r, row) in weights.chunks_exact(n).enumerate() {
        for (lanes, c) in work[r / LANES].iter_mut().zip(&factor.columns) {
            lanes[r % LANES] = row[*c as usize];
        }
    }
    work
}

/// The block's weights plus what the errors of all columns from `high` on ask for.
#[inline(always)]
pub(super) fn take_in<const FMA: bool, const M: usize>(
    work: &[Vec<Lanes>],
    factor: &Factor,
    (low, high): (usize, usize),
) -> Vec<Vec<Lanes>> {
    let n = factor.columns.len();
    let mut now: Vec<Vec<Lanes>> = work.iter().map(|s| s[low..high].to_vec()).collect();
    for j in (low..high).step_by(M) {
        let width = M.min(high - j);
        let asked = &factor.u[j * n..];
        let sums = sums::<FMA, M>(&asked[high.min(n)..], n, width, (work, high, n));
        for (now, sums) in now.iter_mut().zip(&sums) {
            for (m, sum) in sums.iter().enumerate().take(width) {
                let pivot = factor.u[(j + m) * n + j + m];
                add(&mut now[j - low + m], &sum.map(|s| s / pivot));
            }
        }
    }
    now
}

/// `Σ_i u[m · stride + i − from] · values[i]` for `width` rows m of u and i from `from` to `to`.
#[inline(always)]
pub(super) fn sums<const FMA: bool, const M: usize>(
    u: &[f32],
    stride: usize,
    width: usize,
    (values, from, to): (&[Vec<Lanes>], usize, usize),
) -> [[Lanes; M]; ROWS / LANES] {
    let mut sums = [[[0.0f32; LANES]; M]; ROWS / LANES];
    for i in (from..to).step_by(DEPTH) {
        let len = DEPTH.min(to - i);
        let left = columns::<M>(&u[i - from..], stride, width, len);
        for (sums, strip) in sums.iter_mut().zip(values) {
            product::<FMA, M>(&left[..len], &strip[i..i + len], sums);
        }
    }
    sums
}

/// The first `len` columns of `rows` rows that lie `stride` apart, for `product`.
#[inline(always)]
fn columns<const M: usize>(u: &[f32], stride: usize, rows: usize, len: usize) -> [[f32; M]; DEPTH] {
    let mut out = [[0.0f32; M]; DEPTH];
    for m in 0..rows {
        for (column, v) in out.iter_mut().zip(&u[m * stride..][..len]) {
            column[m] = *v;
        }
    }
    out
}

/// `Σ_i u[i] · d[i]` over the columns of a block, in four interleaved sums.
#[inline(always)]
pub(super) fn errors_asked<const FMA: bool>(u: &[f32], d: &[Lanes]) -> Lanes {
    let mut sums = [[0.0f32; LANES]; 4];
    let ((u4, u_rest), (d4, d_rest)) = (u.as_chunks::<4>(), d.as_chunks::<4>());
    for (u, d) in u4.iter().zip(d4) {
        for (sum, (u, d)) in sums.iter_mut().zip(u.iter().zip(d)) {
            for (s, d) in sum.iter_mut().zip(d) {
                *s = multiply_add::<FMA>(*u, *d, *s);
            }
        }
    }
    for (sum, (u, d)) in sums.iter_mut().zip(u_rest.iter().zip(d_rest)) {
        for (s, d) in sum.iter_mut().zip(d) {
            *s = multiply_add::<FMA>(*u, *d, *s);
        }
    }
    let mut out = [0.0; LANES];
    for l in 0..LANES {
        out[l] = (sums[0][l] + sums[1][l]) + (sums[2][l] + sums[3][l]);
    }
    out
}
