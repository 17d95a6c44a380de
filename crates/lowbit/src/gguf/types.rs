//! The table of ggml's types: what a block of each is called, how many values and bytes it has.

use super::rows::Rows;
use super::{decode, decode_iq, simd};
use crate::cpu::Isa;
use crate::error::{Code, Error, Result, nearest};
use crate::tensor::Dtype;
use std::hash::{Hash, Hasher};

/// One ggml type; types are compared by their id.
#[derive(Debug)]
pub struct Type {
    /// The id in tensor infos.
    pub id: u32,
    /// The name that llama.cpp's tools print.
    pub name: &'static str,
    /// Values per block; rows are whole blocks.
    pub block: usize,
    /// Bytes per block.
    pub bytes: usize,
    /// How blocks are written and read; none for types that are only carried along.
    pub codec: Option<Codec>,
}

impl PartialEq for Type {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Type {}

impl Hash for Type {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

/// Writes the blocks of whole rows.
pub(super) type Encode = fn(Isa, Rows<'_>, &mut [u8]);

/// How blocks of a type are written and read here.
#[derive(Debug, Clone, Copy)]
pub struct Codec {
    /// Values of whole blocks.
    pub(super) decode: fn(&[u8], &mut [f32]),
    /// Blocks of whole rows; none for types that are only read.
    pub(super) encode: Option<Encode>,
    /// Where halves lie in a block.
    pub(super) halves: &'static [usize],
}

impl Codec {
    /// Whether blocks are written here, not only read.
    pub fn writes(&self) -> bool {
        self.encode.is_some()
    }
}

/// Declares types once: constant, id, values per block, bytes per block, then for those that are
/// read here the name of their functions (behind `@` if there is none for writing) and where the
/// halves of a block lie.
macro_rules! types {
    ($($name:ident $id:literal $block:literal $bytes:literal $($code:ident $halves:tt)? $(@ $read:ident $its:tt)?;)*) => {
        $(
            #[doc = concat!("ggml's ", stringify!($name), ".")]
            pub static $name: Type = Type {
                id: $id,
                name: stringify!($name),
                block: $block,
                bytes: $bytes,
                codec: types!(@codec $($code $halves)? $(@ $read $its)?),
            };
        )*

        /// Every type that a file may hold, by id.
        pub static TYPES: &[&Type] = &[$(&$name,)*];
    };
    (@codec) => { None };
    (@codec $code:ident $halves:tt) => {
        Some(Codec { decode: decode::$code, encode: Some(simd::$code), halves: &$halves })
    };
    (@codec @ $code:ident $halves:tt) => {
        Some(Codec { decode: decode_iq::$code, encode: None, halves: &$halves })
    };
}

types! {
    F32 0 1 4 f32 [];
    F16 1 1 2 f16 [0];
    Q4_0 2 32 18 q4_0 [0];
    Q4_1 3 32 20 q4_1 [0, 2];
    Q5_0 6 32 22 q5_0 [0];
    Q5_1 7 32 24 q5_1 [0, 2];
    Q8_0 8 32 34 q8_0 [0];
    Q8_1 9 32 36;
    Q2_K 10 256 84 q2_k [80, 82];
    Q3_K 11 256 110 q3_k [108];
    Q4_K 12 256 144 q4_k [0, 2];
    Q5_K 13 256 176 q5_k [0, 2];
    Q6_K 14 256 210 q6_k [208];
    Q8_K 15 256 292;
    IQ2_XXS 16 256 66 @ iq2_xxs [0];
    IQ2_XS 17 256 74 @ iq2_xs [0];
    IQ3_XXS 18 256 98 @ iq3_xxs [0];
    IQ1_S 19 256 50 @ iq1_s [0];
    IQ4_NL 20 32 18 iq4_nl [0];
    IQ3_S 21 256 110 @ iq3_s [0];
    IQ2_S 22 256 82 @ iq2_s [0];
    IQ4_XS 23 256 136 iq4_xs [0];
    I8 24 1 1;
    I16 25 1 2;
    I32 26 1 4;
    I64 27 1 8;
    F64 28 1 8;
    IQ1_M 29 256 56 @ iq1_m [];
    BF16 30 1 2 bf16 [];
    TQ1_0 34 256 54 tq1_0 [52];
    TQ2_0 35 256 66 tq2_0 [64];
    MXFP4 39 32 17 mxfp4 [];
    NVFP4 40 64 36;
    Q1_0 41 128 18;
    Q2_0 42 64 18;
}

/// Ids that had a meaning once.
const REMOVED: &[(u32, &str)] = &[
    (4, "Q4_2"),
    (5, "Q4_3"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
];

impl Type {
    /// Looks a type up by id; `dtype` when it is unknown or was removed from ggml.
    pub fn by_id(id: u32) -> Result<&'static Self> {
        if let Some(found) = TYPES.iter().find(|t| t.id == id) {
            return Ok(found);
        }
        let what = match REMOVED.iter().find(|(removed, _)| *removed == id) {
            Some((_, name)) => format!("type {id} is {name}, which ggml no longer has"),
            None => format!("ggml type {} is unknown", id.cast_signed()),
        };
        Err(Error::new(Code::Dtype, what).remedy("convert the model again with a current tool"))
    }

    /// Looks a type up by name in any case; `option` with the nearest name otherwise.
    pub fn by_name(name: &str) -> Result<&'static Self> {
        let same = |t: &&&Self| t.name.eq_ignore_ascii_case(name);
        TYPES.iter().find(same).copied().ok_or_else(|| {
            let upper = name.to_ascii_uppercase();
            let near = nearest(&upper, TYPES.iter().map(|t| t.name)).unwrap_or_default();
            let what = format!("no ggml type is called {name:?}");
            Error::new(Code::Option, what).remedy(format!("did you mean {near}?"))
        })
    }

    /// Whether blocks of the type can be written here.
    pub fn is_written(&self) -> bool {
        self.codec.is_some_and(|c| c.encode.is_some())
    }

    /// Bytes of a row of `cols` values; `block` when blocks do not fill it.
    pub fn row_bytes(&self, cols: usize) -> Result<usize> {
        if !cols.is_multiple_of(self.block) {
            let what = format!(
                "rows of {cols} values are no whole blocks of {}, which have {} values",
                self.name, self.block
            );
            return Err(Error::new(Code::Block, what));
        }
        let bytes = (cols / self.block).checked_mul(self.bytes);
        bytes.ok_or_else(|| Error::new(Code::Shape, format!("rows of {cols} values are too long")))
    }

    /// The type that tensors of it have: that of the same name, or its blocks.
    pub fn dtype(&'static self) -> Dtype {
        let plain = Dtype::ALL.iter().find(|d| d.name() == self.name);
        plain.copied().unwrap_or(Dtype::Blocks(self))
    }

    /// Bits per value, scales included.
    pub fn bits(&self) -> f64 {
        (self.bytes * 8) as f64 / self.block as f64
    }
}
