//! Rows of a GGUF tensor as the checkpoint had them: in its order, with its offset, as its floats.

use super::latent::{self, Latent};
use super::tensors::{Change, permute};
use super::types::Type;
use crate::error::{Code, Error, Result};
use crate::tensor::{Dtype, bytes_from_f32, f32_from};

/// What is done to rows on their way out of a file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Restore {
    /// Type in the file.
    pub ty: &'static Type,
    /// Values of a row.
    pub cols: usize,
    /// What was done when the file was written.
    pub change: Change,
    /// Floats that rows are decoded to; none: they stay as they are stored.
    pub to: Option<Dtype>,
    /// How these are the keys of a matrix whose values are in a tensor of this type.
    pub joined: Option<(Latent, &'static Type)>,
}

impl Restore {
    /// The type that a tensor has in the checkpoint, and how it gets it; none when its bytes are
    /// the checkpoint's already.
    ///
    /// `block` when rows are no whole blocks.
    pub fn of(
        ty: &'static Type,
        shape: &[usize],
        change: Change,
        floats: Option<Dtype>,
    ) -> Result<(Dtype, Option<Self>)> {
        let own = ty.dtype();
        let blocks = matches!(own, Dtype::Blocks(_));
        let cols = match (shape, change) {
            // The rows of a bias are its values.
            ([_], Change::Permute(_)) | ([], _) => 1,
            (all, _) => all[all.len() - 1],
        };
        ty.row_bytes(cols)?;
        let rows = shape.first().copied().unwrap_or(1);
        if let Change::Permute(height) = change
            && (height < 2 || !height.is_multiple_of(2) || !rows.is_multiple_of(height))
        {
            let what = format!("{rows} rows are no heads of {height}");
            return Err(Error::new(Code::Shape, what));
        }
        let to = match change {
            // Blocks hold no other numbers than their own.
            Change::Add(_) if blocks => Some(floats.unwrap_or(Dtype::F32)),
            _ => floats.filter(|_| blocks),
        };
        let restore = Self {
            ty,
            cols,
            change,
            to,
            joined: None,
        };
        let idle = to.is_none() && change == Change::None;
        Ok((to.unwrap_or(own), (!idle).then_some(restore)))
    }

    /// The same for a matrix of two tensors, keys and values: of their floats where both have the
    /// same, else F32.
    pub(super) fn joined(
        latent: Latent,
        [keys, values]: [&'static Type; 2],
        floats: Option<Dtype>,
    ) -> Result<(Dtype, Self)> {
        latent::head_bytes(latent, [keys, values])?;
        let own = (keys == values && keys.block == 1).then(|| keys.dtype());
        let to = own.or(floats).unwrap_or(Dtype::F32);
        let restore = Self {
            ty: keys,
            cols: latent.keys,
            change: Change::None,
            to: Some(to),
            joined: Some((latent, values)),
        };
        Ok((to, restore))
    }

    fn row_bytes(&self) -> Result<(usize, usize)> {
        let stored = self.ty.row_bytes(self.cols)?;
        Ok((
            stored,
            self.to.map_or(stored, |to| self.cols * to.bits() / 8),
        ))
    }

    /// Bytes of what can only be restored together: in the file, in the file's second tensor, and
    /// restored.
    pub fn unit_bytes(&self) -> Result<(usize, usize, usize)> {
        if let Some((latent, values)) = self.joined {
            let [keys, values] = latent::head_bytes(latent, [self.ty, values])?;
            let bits = self.to.unwrap_or(Dtype::F32).bits();
            return Ok((keys, values, latent.rows() * latent.rank * bits / 8));
        }
        let ((stored, row), rows) = (self.row_bytes()?, self.change.granule());
        Ok((rows * stored, 0, rows * row))
    }
}

/// Restores some rows, as many as `stored` holds, in whole units; of two tensors, those of the
/// second behind those of the first.
///
/// Rows that are only put into another order keep their blocks bit for bit. `shape` when the bytes
/// are no whole granules, `qparam` when the wanted floats cannot hold a value, else the codes of
/// `decode`.
pub fn rows(restore: &Restore, mut stored: Vec<u8>) -> Result<Vec<u8>> {
    if let Some((latent, values)) = restore.joined {
        let floats = latent::join(latent, [restore.ty, values], &stored)?;
        return narrowed(restore.ty, restore.to.unwrap_or(Dtype::F32), &floats);
    }
    let (row, _) = restore.row_bytes()?;
    if row == 0 || !stored.len().is_multiple_of(row) {
        let what = format!("{} bytes are no whole rows of {row}", stored.len());
        return Err(Error::new(Code::Shape, what));
    }
    if let Change::Permute(height) = restore.change {
        permute(&mut stored, height, row, true)?;
    }
    let own = restore.ty.dtype();
    let offset = match restore.change {
        Change::Add(offset) => offset,
        _ => 0.0,
    };
    let Some(to) = restore.to.or((offset != 0.0).then_some(own)) else {
        return Ok(stored);
    };
    let mut values = vec![0.0; stored.len() / row * restore.cols];
    f32_from(own, &stored, &mut values)?;
    for value in &mut values {
        *value -= offset;
    }
    narrowed(restore.ty, to, &values)
}

fn narrowed(from: &Type, to: Dtype, values: &[f32]) -> Result<Vec<u8>> {
    let bytes = bytes_from_f32(to, values)?;
    if to == Dtype::F16 && values.iter().any(|v| v.abs() > 65504.0) {
        let what = format!("a value of {} does not fit F16", from.name);
        return Err(Error::new(Code::Qparam, what));
    }
    Ok(bytes)
}
