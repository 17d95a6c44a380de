//! Sizes and places of tensors: the one computation that reader and writer share, all of it checked.

use super::types::Type;
use super::value::Metadata;
use crate::error::{Code, Error, Result};

/// Alignment of tensors when `general.alignment` does not say otherwise.
pub const ALIGNMENT: u32 = 32;
/// The widest alignment that a file may ask for.
pub(super) const ALIGNMENT_MAX: u32 = 1 << 20;
/// The key that sets the alignment.
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";
/// Most dimensions of a tensor.
pub(super) const DIMENSIONS_MAX: usize = 4;

/// Bytes of a tensor of `shape` (outermost first); `shape` when a product overflows, `block` when
/// rows are no whole blocks.
pub(super) fn tensor_bytes(ty: &Type, shape: &[u64]) -> Result<u64> {
    let overflow = || {
        let what = format!("{} {shape:?} has more bytes than a file can have", ty.name);
        Error::new(Code::Shape, what)
    };
    let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
    let elements = elements.filter(|n| i64::try_from(*n).is_ok());
    let elements = elements.ok_or_else(overflow)?;
    let cols = shape.last().copied().unwrap_or(1);
    if !cols.is_multiple_of(ty.block as u64) {
        let what = format!(
            "rows of {cols} values are no whole blocks of {}, which have {} values",
            ty.name, ty.block
        );
        return Err(Error::new(Code::Block, what));
    }
    let bytes = (elements / ty.block as u64).checked_mul(ty.bytes as u64);
    bytes.ok_or_else(overflow)
}

/// The next multiple of the alignment; `data-limit` on overflow.
pub(super) fn padded(bytes: u64, alignment: u32) -> Result<u64> {
    bytes
        .checked_next_multiple_of(u64::from(alignment))
        .ok_or_else(too_much)
}

/// Where the next tensor begins after one at `offset`; `data-limit` on overflow.
pub(super) fn after(offset: u64, bytes: u64, alignment: u32) -> Result<u64> {
    padded(offset.checked_add(bytes).ok_or_else(too_much)?, alignment)
}

fn too_much() -> Error {
    Error::new(
        Code::DataLimit,
        "the tensors together are larger than a file can be",
    )
}

/// The alignment that the metadata asks for; `alignment` unless a power of two up to 1 MiB.
pub(super) fn alignment(metadata: &Metadata) -> Result<u32> {
    match metadata.get(ALIGNMENT_KEY) {
        None => Ok(ALIGNMENT),
        Some(value) => checked_alignment(value.as_u32()),
    }
}

/// The same for the value of the key, `None` when it has another type than u32.
pub(super) fn checked_alignment(value: Option<u32>) -> Result<u32> {
    match value {
        Some(a) if a.is_power_of_two() && a <= ALIGNMENT_MAX => Ok(a),
        Some(a) => {
            let what = format!("{ALIGNMENT_KEY} is {a}");
            Err(Error::new(Code::Alignment, what)
                .remedy(format!("expected a power of two up to {ALIGNMENT_MAX}")))
        }
        None => {
            let what = format!("{ALIGNMENT_KEY} is not a u32");
            Err(Error::new(Code::Alignment, what).remedy("write it with its own type"))
        }
    }
}
