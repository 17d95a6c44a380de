//! What every operation's check shares: an operation runs on each instruction set of the host and
//! is compared with its specification.
//!
//! Bounds are `|y − ref| ≤ c · ε · Σ|a·b|`, which hold across shapes and scales; integers are
//! equal. A failing check prints the worst element.

use crate::cpu::Isa;

/// Asserts that every element is within its bound and names the worst one.
pub(crate) fn assert_close(
    what: &str,
    found: &[f32],
    wanted: &[f32],
    bound: impl Fn(usize) -> f64,
) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    // Sums of subnormals have an absolute grain.
    let excess = |i: usize| {
        let error = (f64::from(found[i]) - f64::from(wanted[i])).abs();
        if error.is_nan() {
            f64::INFINITY
        } else {
            error / (bound(i) + 1e-40)
        }
    };
    let worst = (0..found.len()).max_by(|a, b| excess(*a).total_cmp(&excess(*b)));
    if let Some(i) = worst.filter(|i| excess(*i) > 1.0) {
        let times = excess(i);
        panic!(
            "{what}: element {i} is {}, expected {}, {times:.2} × the bound",
            found[i], wanted[i]
        );
    }
}

/// `c · ε` for sums of `len` products in blocks.
pub(crate) fn relative(len: usize) -> f64 {
    ((len.max(2) as f64).log2() + 8.0) * f64::from(f32::EPSILON)
}

/// Runs a check on every instruction set of this host.
pub(crate) fn everywhere(check: fn(Isa)) {
    for (_, isa) in Isa::ALL.iter().filter(|(_, isa)| isa.available()) {
        check(*isa);
    }
}
