//! Sixteen floats that belong to sixteen blocks, one each.
//!
//! ggml's searches add up the values of a block one after another, and those sums decide bytes. So
//! a vector holds the same place of sixteen blocks, never sixteen places of one: every sum runs in
//! the reference's order, on every instruction set.

use std::ops::{Add, Div, Mul, Sub};

/// Blocks that are searched at once.
pub(super) const LANES: usize = 16;

/// One float per block.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Lanes(pub(super) [f32; LANES]);

/// One yes or no per block, as all or no bits of a word, which is what vectors compare to.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Mask([u32; LANES]);

macro_rules! operator {
    ($trait:ident $method:ident $op:tt) => {
        impl $trait for Lanes {
            type Output = Lanes;

            #[inline(always)]
            fn $method(self, other: Lanes) -> Lanes {
                Lanes(std::array::from_fn(|l| self.0[l] $op other.0[l]))
            }
        }
    };
}

operator!(Add add +);
operator!(Sub sub -);
operator!(Mul mul *);
operator!(Div div /);

/// Adding this rounds to the nearest integer, ties to even, and leaves it in the lowest bits.
const MAGIC: f32 = 12_582_912.0;

/// The nearest integer, ties to even, of |v| ≤ 4,194,303; what ggml gives for others.
#[inline(always)]
pub(super) fn nearest(v: f32) -> i32 {
    ((v + MAGIC).to_bits() & 0x007f_ffff)
        .cast_signed()
        .wrapping_sub(0x0040_0000)
}

impl Lanes {
    #[inline(always)]
    pub(super) fn splat(v: f32) -> Self {
        Self([v; LANES])
    }

    #[inline(always)]
    pub(super) fn zero() -> Self {
        Self::splat(0.0)
    }

    #[inline(always)]
    pub(super) fn map(self, f: impl Fn(f32) -> f32) -> Self {
        Self(std::array::from_fn(|l| f(self.0[l])))
    }

    #[inline(always)]
    pub(super) fn abs(self) -> Self {
        self.map(f32::abs)
    }

    #[inline(always)]
    pub(super) fn sqrt(self) -> Self {
        self.map(f32::sqrt)
    }

    #[inline(always)]
    pub(super) fn neg(self) -> Self {
        self.map(|v| -v)
    }

    /// The nearest integers, clamped.
    #[inline(always)]
    pub(super) fn code(self, lo: i32, hi: i32) -> Self {
        self.map(|v| nearest(v).min(hi).max(lo) as f32)
    }

    #[inline(always)]
    pub(super) fn gt(self, other: Self) -> Mask {
        Mask(std::array::from_fn(|l| {
            u32::from(self.0[l] > other.0[l]).wrapping_neg()
        }))
    }

    #[inline(always)]
    pub(super) fn lt(self, other: Self) -> Mask {
        other.gt(self)
    }

    #[inline(always)]
    pub(super) fn ne(self, other: Self) -> Mask {
        Mask(std::array::from_fn(|l| {
            u32::from(self.0[l] != other.0[l]).wrapping_neg()
        }))
    }
}

impl Mask {
    #[inline(always)]
    pub(super) fn and(self, other: Self) -> Self {
        Self(std::array::from_fn(|l| self.0[l] & other.0[l]))
    }

    #[inline(always)]
    pub(super) fn any(self) -> bool {
        self.0.iter().fold(0, |a, b| a | b) != 0
    }

    /// `yes` where the mask is set, `no` elsewhere.
    #[inline(always)]
    pub(super) fn pick(self, yes: Lanes, no: Lanes) -> Lanes {
        Lanes(std::array::from_fn(|l| {
            if self.0[l] != 0 { yes.0[l] } else { no.0[l] }
        }))
    }
}

/// The largest magnitude and the value that has it, the first of equals.
#[inline(always)]
pub(super) fn extreme(x: &[Lanes]) -> (Lanes, Lanes) {
    let (mut amax, mut max) = (Lanes::zero(), Lanes::zero());
    for v in x {
        let a = v.abs();
        let more = a.gt(amax);
        amax = more.pick(a, amax);
        max = more.pick(*v, max);
    }
    (amax, max)
}
