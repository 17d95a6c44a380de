//! Hadamard matrices, applied without being formed.
//!
//! ```text
//! H = H₂ ⊗ … ⊗ H₂ ⊗ C       order 2^k · m, C of order m by Paley's constructions (m = 1, 12, 20, 28, …)
//! ```
//! Paley I: m − 1 is a prime ≡ 3 mod 4. Paley II: m/2 − 1 is a prime ≡ 1 mod 4. (R. Paley, "On
//! Orthogonal Matrices", 1933.) Sizes that neither reaches get one matrix per block of columns.

/// Vectors that are transformed side by side.
pub(super) const LANES: usize = 8;

/// One entry of several vectors.
pub(super) type Lanes = [f64; LANES];

/// Largest core that is built; larger ones cost more than they mix.
const CORE_MAX: usize = 512;

/// An orthogonal matrix of entries ±1/√block, block-diagonal.
#[derive(Debug, Clone)]
pub struct Hadamard {
    n: usize,
    block: usize,
    /// Order of C.
    m: usize,
    /// C, `[m, m]` row-major; empty when m is 1.
    core: Vec<f64>,
}

impl Hadamard {
    /// The matrix of order `n` with the largest blocks there are; 1 when n is odd.
    pub fn new(n: usize) -> Self {
        let divisors = (1..=n).rev().filter(|b| n.is_multiple_of(*b));
        let mut fits = divisors.filter_map(|block| Some((block, core_order(block)?)));
        let (block, m) = fits.next().unwrap_or((1, 1));
        Self {
            n,
            block,
            m,
            core: if m == 1 { Vec::new() } else { core(m) },
        }
    }

    /// The order.
    pub fn order(&self) -> usize {
        self.n
    }

    /// Columns that are mixed with each other.
    pub fn block(&self) -> usize {
        self.block
    }

    /// `x · H` for row vectors side by side: `x[i]` is their entry i.
    pub(super) fn apply(&self, x: &mut [Lanes]) {
        let mut product = vec![[0.0; LANES]; self.m];
        let scale = 1.0 / (self.block as f64).sqrt();
        for block in x.chunks_exact_mut(self.block) {
            if self.m > 1 {
                for run in block.chunks_exact_mut(self.m) {
                    self.apply_core(run, &mut product);
                }
            }
            let mut stride = self.m;
            while stride < self.block {
                butterflies(block, stride);
                stride *= 2;
            }
            block.iter_mut().flatten().for_each(|x| *x *= scale);
        }
    }

    fn apply_core(&self, run: &mut [Lanes], product: &mut [Lanes]) {
        product.fill([0.0; LANES]);
        for (x, row) in run.iter().zip(self.core.chunks_exact(self.m)) {
            for (sum, h) in product.iter_mut().zip(row) {
                for (sum, x) in sum.iter_mut().zip(x) {
                    *sum += x * h;
                }
            }
        }
        run.copy_from_slice(product);
    }
}

/// One factor H₂ over entries that are `stride` apart.
fn butterflies(x: &mut [Lanes], stride: usize) {
    for pair in x.chunks_exact_mut(2 * stride) {
        let (low, high) = pair.split_at_mut(stride);
        for (a, b) in low.iter_mut().flatten().zip(high.iter_mut().flatten()) {
            (*a, *b) = (*a + *b, *a - *b);
        }
    }
}

/// The smallest core whose order times a power of two is `n`.
fn core_order(n: usize) -> Option<usize> {
    if n.is_power_of_two() {
        return Some(1);
    }
    let odd = n >> n.trailing_zeros();
    let orders = (2..=n.trailing_zeros()).map(|k| odd << k);
    orders
        .take_while(|m| *m <= CORE_MAX)
        .find(|m| paley_one(*m) || paley_two(*m))
}

fn paley_one(m: usize) -> bool {
    m.is_multiple_of(4) && is_prime(m - 1)
}

fn paley_two(m: usize) -> bool {
    m.is_multiple_of(4) && (m / 2) % 4 == 2 && is_prime(m / 2 - 1)
}

fn is_prime(q: usize) -> bool {
    q >= 2 && (2..=q.isqrt()).all(|d| !q.is_multiple_of(d))
}

/// A Hadamard matrix of an order that one of the constructions reaches, `[m, m]`.
fn core(m: usize) -> Vec<f64> {
    if paley_one(m) {
        let c = conference(m - 1, -1.0);
        let entry = |i: usize, j: usize| c(i, j) + f64::from(u8::from(i == j));
        return square(m, entry);
    }
    let c = conference(m / 2 - 1, 1.0);
    let entry = |i: usize, j: usize| {
        let (a, b) = (i % 2, j % 2);
        let plain = if a + b == 2 { -1.0 } else { 1.0 };
        let diagonal = if a + b == 0 { 1.0 } else { -1.0 };
        if i / 2 == j / 2 {
            diagonal
        } else {
            c(i / 2, j / 2) * plain
        }
    };
    square(m, entry)
}

fn square(m: usize, entry: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    (0..m * m).map(|at| entry(at / m, at % m)).collect()
}

/// The conference matrix of order q + 1 from the quadratic residues modulo a prime q; `mirror` is
/// 1 when it is symmetric and −1 when it is skew.
fn conference(q: usize, mirror: f64) -> impl Fn(usize, usize) -> f64 {
    let mut residue = vec![-1.0; q];
    (1..q).for_each(|x| residue[x * x % q] = 1.0);
    residue[0] = 0.0;
    move |i, j| match (i, j) {
        (0, 0) => 0.0,
        (0, _) => 1.0,
        (_, 0) => mirror,
        _ => residue[(j + q - i) % q],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of H.
    fn rows(h: &Hadamard) -> Vec<Vec<f64>> {
        let row = |i: usize| {
            let mut x = vec![[0.0; LANES]; h.n];
            x[i] = [1.0; LANES];
            h.apply(&mut x);
            assert!(x.iter().all(|x| x.iter().all(|v| *v == x[0])));
            x.iter().map(|x| x[0]).collect()
        };
        (0..h.n).map(row).collect()
    }

    #[test]
    fn matrices_are_orthogonal_with_entries_of_one_size() {
        for n in [
            1, 2, 4, 8, 12, 20, 24, 28, 36, 40, 44, 48, 56, 60, 76, 84, 180, 256, 7, 10, 18, 92,
        ] {
            let h = Hadamard::new(n);
            let rows = rows(&h);
            let size = 1.0 / (h.block() as f64).sqrt();
            for (i, a) in rows.iter().enumerate() {
                let filled = a.iter().filter(|v| v.abs() > 1e-12);
                let sizes: Vec<_> = filled.map(|v| v.abs()).collect();
                assert_eq!(sizes.len(), h.block(), "order {n}");
                assert!(sizes.iter().all(|v| (v - size).abs() < 1e-12), "order {n}");
                for (j, b) in rows.iter().enumerate() {
                    let dot: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
                    let wanted = f64::from(u8::from(i == j));
                    assert!((dot - wanted).abs() < 1e-12, "order {n}, rows {i} and {j}");
                }
            }
        }
    }

    #[test]
    fn common_widths_have_full_matrices() {
        for n in [
            256, 640, 768, 896, 1152, 1536, 2048, 2304, 2560, 2880, 3072, 3584, 4096, 5120, 5376,
            6144, 7168, 8192,
        ] {
            assert_eq!(Hadamard::new(n).block(), n);
        }
        assert_eq!(Hadamard::new(10).block(), 2);
        assert_eq!(Hadamard::new(18).block(), 2);
        assert_eq!(Hadamard::new(7).block(), 1);
    }
}
