//! What a vector machine must offer, and the only places where kernels touch raw memory.
//!
//! Each kernel is written once over [`Simd`]: `simd_f32.rs` and `simd_int8.rs`. A machine file
//! (`simd_x86.rs`, `simd_wasm.rs`, `simd_neon.rs`) implements the trait and wraps the kernels in
//! functions that carry its instruction set.

use super::panel::{Lanes, ROWS};
use std::marker::PhantomData;

/// Vectors of a machine: 32-bit lanes, [`Simd::LANES`] of them.
///
/// # Safety
/// Every method needs the machine's instruction set, and its pointers are valid for
/// `LANES` elements, or for four bytes in [`Simd::quad`].
pub(super) trait Simd: Copy {
    /// 32-bit lanes of a vector; divides [`ROWS`].
    const LANES: usize;
    /// What [`Simd::dot8`] takes off each code before it multiplies.
    const BIAS8: i32;
    /// Vector of f32.
    type F: Copy;
    /// Vector of 32-bit integers.
    type I: Copy;
    /// Four 8-bit inputs, the same in every lane.
    type Quad: Copy;
    /// Sixteen f32 to look up.
    type Table: Copy;

    /// The same value in every lane.
    unsafe fn splat(v: f32) -> Self::F;
    /// Reads f32.
    unsafe fn load(p: *const f32) -> Self::F;
    /// Reads f16, exactly.
    unsafe fn load_f16(p: *const u16) -> Self::F;
    /// Reads bf16, exactly.
    unsafe fn load_bf16(p: *const u16) -> Self::F;
    /// Writes f32.
    unsafe fn store(p: *mut f32, v: Self::F);
    /// a + b.
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    /// a − b.
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    /// a · b.
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    /// a · b + c, rounded once where the machine can.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// Integers as floats.
    unsafe fn float(v: Self::I) -> Self::F;

    /// The same integer in every lane.
    unsafe fn splat_i(v: i32) -> Self::I;
    /// Reads words.
    unsafe fn load_words(p: *const u32) -> Self::I;
    /// Reads bytes, widened without sign.
    unsafe fn load_bytes(p: *const u8) -> Self::I;
    /// a · b, low 32 bits.
    unsafe fn mul_i(a: Self::I, b: Self::I) -> Self::I;
    /// a + b, wrapping.
    unsafe fn add_i(a: Self::I, b: Self::I) -> Self::I;
    /// Bits `shift .. shift + 4` of each word, as floats.
    unsafe fn nibble(v: Self::I, shift: u32) -> Self::F;
    /// Bits `shift .. shift + 8` of each word, as floats.
    unsafe fn byte(v: Self::I, shift: u32) -> Self::F;

    /// Reads a table of sixteen f32.
    unsafe fn table(p: *const f32) -> Self::Table;
    /// The value of `table` for bits `shift .. shift + 4` of each word.
    unsafe fn look_up(table: Self::Table, v: Self::I, shift: u32) -> Self::F;
    /// The E4M3 in bits `shift .. shift + 8` of each word; what would be NaN is ±480.
    unsafe fn e4m3(v: Self::I, shift: u32) -> Self::F;

    /// Asks for a cache line to be read soon; any address is allowed.
    fn prefetch(_line: *const u8) {}

    /// Reads four inputs.
    unsafe fn quad(p: *const i8) -> Self::Quad;
    /// `acc + Σ low nibbles · low + Σ high nibbles · high`, exact.
    unsafe fn dot4(acc: Self::I, codes: Self::I, low: Self::Quad, high: Self::Quad) -> Self::I;
    /// `acc + Σ (bytes − BIAS8) · x`, exact.
    unsafe fn dot8(acc: Self::I, codes: Self::I, x: Self::Quad) -> Self::I;
}

/// What turns the magnitude of an E4M3, put at its place in an f32, into its value: 2^120.
pub(super) const E4M3_SCALE: f32 = f32::from_bits((127 + 120) << 23);

/// Implements methods of [`Simd`] whose bodies are single expressions over intrinsics.
macro_rules! methods {
    ($($name:ident($($arg:ident: $type:ty),*) -> $out:ty = $body:expr;)*) => {$(
        #[inline(always)]
        #[allow(unused_unsafe, reason = "wasm's intrinsics are safe unless they read memory")]
        unsafe fn $name($($arg: $type),*) -> $out {
            // SAFETY: the caller has the instruction set and valid pointers, as `Simd` asks.
            unsafe { $body }
        }
    )*};
}
pub(super) use methods;

/// Vectors of a panel.
pub(super) const fn vectors<S: Simd>() -> usize {
    ROWS / S::LANES
}

/// Vector `i` of sixteen-lane group `at`, widened.
///
/// # Safety
/// As [`Simd`]; `at` is inside `lanes` and `i < vectors::<S>()`.
#[inline(always)]
pub(super) unsafe fn load_lanes<S: Simd>(lanes: &Lanes, at: usize, i: usize) -> S::F {
    let offset = at * ROWS + i * S::LANES;
    // SAFETY: the caller gives a place inside the vector.
    unsafe {
        match lanes {
            Lanes::F32(v) => S::load(v.as_ptr().cast::<f32>().add(offset)),
            Lanes::F16(v) => S::load_f16(v.as_ptr().cast::<u16>().add(offset)),
            Lanes::Bf16(v) => S::load_bf16(v.as_ptr().cast::<u16>().add(offset)),
        }
    }
}

/// A row-major output that tasks write column ranges of.
#[derive(Debug)]
pub(super) struct Out<'a> {
    at: *mut f32,
    /// Distance of rows.
    stride: usize,
    /// Columns that exist; panels may reach beyond them.
    columns: usize,
    /// Columns beyond the row's own index are left alone.
    lower: bool,
    owner: PhantomData<&'a mut [f32]>,
}

// SAFETY: tasks write disjoint columns, which the drivers in `gemm.rs` guarantee by giving each
// task its own range of panels.
unsafe impl Sync for Out<'_> {}
// SAFETY: as above; the borrow of the slice lives as long as the value.
unsafe impl Send for Out<'_> {}

impl<'a> Out<'a> {
    /// Takes `rows` rows of `columns` values, `stride` apart.
    pub(super) fn new(y: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> Self {
        let needed = if rows == 0 {
            0
        } else {
            (rows - 1) * stride + columns
        };
        assert!(
            columns <= stride && y.len() >= needed,
            "the output holds all its rows"
        );
        let at = y.as_mut_ptr();
        Self {
            at,
            stride,
            columns,
            lower: false,
            owner: PhantomData,
        }
    }

    /// Keeps everything above the diagonal as it is.
    pub(super) fn lower(self) -> Self {
        Self {
            lower: true,
            ..self
        }
    }

    /// Whether only the lower triangle is written.
    pub(super) fn is_lower(&self) -> bool {
        self.lower
    }

    /// Columns of a row that may be written.
    pub(super) fn limit(&self, row: usize) -> usize {
        if self.lower {
            self.columns.min(row + 1)
        } else {
            self.columns
        }
    }

    /// Asks for the vectors that [`Out::add`] will add to: rows lie too far apart for the
    /// hardware to foresee.
    #[inline(always)]
    pub(super) fn prefetch<S: Simd, const N: usize>(&self, row: usize, panel: usize) {
        for i in 0..N {
            let at = row * self.stride + panel * ROWS + i * S::LANES;
            S::prefetch(self.at.wrapping_add(at).cast());
        }
    }

    /// Adds vectors to `row` from the first column of `panel` on.
    ///
    /// # Safety
    /// As [`Simd`]; `row` exists and no other task writes these columns.
    #[inline(always)]
    pub(super) unsafe fn add<S: Simd, const N: usize>(
        &self,
        row: usize,
        panel: usize,
        v: &[S::F; N],
    ) {
        let limit = self.limit(row);
        for (i, v) in v.iter().enumerate() {
            let column = panel * ROWS + i * S::LANES;
            // SAFETY: the row exists, and the bounds keep the columns inside it.
            unsafe {
                let at = self.at.add(row * self.stride + column.min(limit));
                if column + S::LANES <= limit {
                    S::store(at, S::add(S::load(at), *v));
                } else if column < limit {
                    let mut lanes = [0.0f32; ROWS];
                    S::store(lanes.as_mut_ptr(), *v);
                    for (l, lane) in lanes[..limit - column].iter().enumerate() {
                        *at.add(l) += lane;
                    }
                }
            }
        }
    }
}
