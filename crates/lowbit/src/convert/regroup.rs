//! Scales and zero points of one group width taken to another.

use super::exact::Fit;
use crate::matrix::{Floats, Scales};
use crate::tensor::Dtype;

/// Flat scales of a type, taken to other groups.
pub(super) fn flat(scales: &Scales, pick: &Regroup, dtype: Dtype) -> Fit<Floats> {
    if let Scales::Flat(floats) = scales
        && floats.dtype() == dtype
        && pick.same()
    {
        return Ok(floats.clone());
    }
    let values: Vec<f32> = (0..scales.len()).map(|i| scales.get(i)).collect();
    let floats = Floats::from_f32(dtype, &pick.take(&values)?).map_err(|e| e.what)?;
    match (0..floats.len()).find(|i| !floats.get(*i).is_finite()) {
        None => Ok(floats),
        Some(_) => Err(format!("a scale is beyond {}", dtype.name())),
    }
}

/// Scales as numbers over one divisor: those that give the same quotients, where there are any.
pub(super) fn divided(scales: &Scales, pick: &Regroup, divisor: f32) -> Fit<Scales> {
    if let (Scales::Divided { divisor: own, .. }, true) = (scales, pick.same())
        && *own == divisor
    {
        return Ok(scales.clone());
    }
    let values: Vec<f32> = (0..scales.len()).map(|i| scales.get(i)).collect();
    let mut values = pick.take(&values)?;
    for value in &mut values {
        let near = *value * divisor;
        let tried = [near, near.next_up(), near.next_down()];
        let same = tried.into_iter().find(|v| *v / divisor == *value);
        *value = same.unwrap_or(near);
    }
    Ok(Scales::Divided {
        values: Floats::F32(values),
        divisor,
    })
}

/// Numbers per row and group taken to groups of another width.
pub(super) struct Regroup {
    rows: usize,
    cols: usize,
    from: usize,
    to: usize,
}

impl Regroup {
    pub(super) fn new(rows: usize, cols: usize, from: usize, to: usize) -> Fit<Self> {
        if from.is_multiple_of(to) || to.is_multiple_of(from) {
            return Ok(Self {
                rows,
                cols,
                from,
                to,
            });
        }
        Err(format!("groups of {from} do not go with groups of {to}"))
    }

    pub(super) fn same(&self) -> bool {
        self.from == self.to
    }

    pub(super) fn from_len(&self) -> usize {
        self.rows * (self.cols / self.from)
    }

    pub(super) fn take(&self, values: &[f32]) -> Fit<Vec<f32>> {
        let (before, after) = (self.cols / self.from, self.cols / self.to);
        let mut taken = Vec::with_capacity(self.rows * after);
        for row in values.chunks_exact(before) {
            for g in 0..after {
                let (first, last) = (g * self.to / self.from, ((g + 1) * self.to - 1) / self.from);
                let own = row[first];
                if row[first..=last]
                    .iter()
                    .any(|v| v.to_bits() != own.to_bits())
                {
                    return Err("neighbouring groups differ in scale or zero point".into());
                }
                taken.push(own);
            }
        }
        Ok(taken)
    }
}
