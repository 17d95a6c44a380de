//! Source weights that are NaN or infinite: refused, made zero or kept. Activations that are:
//! refused.

use super::tapped::Tapped;
use crate::error::{Code, Error, Result, nearest};
use crate::tensor::{Dtype, f32_from};

/// What becomes of NaN and infinity in tensors that the model uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nonfinite {
    /// `nonfinite-weight` with tensor and index.
    Refuse,
    /// They become zero, and the report counts them.
    Zero,
    /// Tensors that stay as stored keep them; a weight to be rounded is refused, as no code
    /// stands for them.
    Keep,
}

/// What the option takes.
const NAMES: &[(&str, Nonfinite)] = &[
    ("error", Nonfinite::Refuse),
    ("zero", Nonfinite::Zero),
    ("keep", Nonfinite::Keep),
];

impl Nonfinite {
    /// Reads the option; `option` with the nearest value otherwise.
    pub(super) fn parse(option: Option<&str>) -> Result<Self> {
        let Some(name) = option else {
            return Ok(Self::Refuse);
        };
        let found = NAMES.iter().find(|(n, _)| *n == name).map(|(_, own)| *own);
        found.ok_or_else(|| {
            let near = nearest(name, NAMES.iter().map(|(n, _)| *n)).unwrap_or_default();
            Error::new(Code::Option, format!("allowNonfinite is {name:?}"))
                .remedy(format!("did you mean {near:?}?"))
        })
    }

    /// Checks floats that start `offset` bytes into a tensor that is rounded or run; how many
    /// became zero.
    pub(super) fn check(
        self,
        name: &str,
        dtype: Dtype,
        bytes: &mut [u8],
        offset: u64,
    ) -> Result<usize> {
        let size = dtype.bits() / 8;
        let mut values = [0.0f32; 4096];
        let mut zeroed = 0;
        for (chunk, part) in bytes.chunks_mut(4096 * size).enumerate() {
            let values = &mut values[..part.len() / size];
            f32_from(dtype, part, values).map_err(|e| e.at(format!("tensor {name:?}")))?;
            if values.iter().all(|v| v.is_finite()) {
                continue;
            }
            for (i, v) in values.iter().enumerate().filter(|(_, v)| !v.is_finite()) {
                if self != Self::Zero {
                    let index = offset / size as u64 + (chunk * 4096 + i) as u64;
                    return Err(refusal(name, index, *v));
                }
                part[i * size..(i + 1) * size].fill(0);
                zeroed += 1;
            }
        }
        Ok(zeroed)
    }

    /// The same for a tensor that stays as stored.
    pub(super) fn check_copied(
        self,
        name: &str,
        dtype: Dtype,
        bytes: &mut [u8],
        offset: u64,
    ) -> Result<usize> {
        match self {
            Self::Keep => Ok(0),
            _ => self.check(name, dtype, bytes, offset),
        }
    }
}

fn refusal(name: &str, index: u64, value: f32) -> Error {
    Error::new(Code::NonfiniteWeight, format!("element {index} is {value}"))
        .at(format!("tensor {name:?}"))
        .remedy("repair or download the source again, or allow it to become zero")
}

/// What the report says of values that became zero; none when none did.
pub(super) fn note(name: &str, zeroed: usize) -> Option<String> {
    (zeroed > 0).then(|| format!("{zeroed} values of {name} were NaN or infinite and became 0"))
}

/// `nonfinite-activation` naming layer, sample and token.
pub(super) fn require_finite(
    x: &[f32],
    tapped: &Tapped,
    sample: usize,
    first: usize,
) -> Result<()> {
    let Some(i) = first_nonfinite(x) else {
        return Ok(());
    };
    let width = tapped.stats.hessian.width();
    let token = first + i / width;
    let what = format!(
        "an input is {} at sample {sample}, token {token}, channel {}",
        x[i],
        i % width
    );
    Err(Error::new(Code::NonfiniteActivation, what)
        .at(format!("layer {:?}", tapped.module))
        .remedy("leave that sample out, or ignore the layers before it"))
}

/// Index of the first value that is NaN or infinite.
pub(super) fn first_nonfinite(x: &[f32]) -> Option<usize> {
    // Without early exit the scan vectorizes.
    let largest = x
        .iter()
        .fold(0, |m: u32, v| m.max(v.to_bits() & 0x7fff_ffff));
    let all_finite = largest < f32::INFINITY.to_bits();
    (!all_finite).then(|| x.iter().position(|v| !v.is_finite()))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::bytes_from_f32;

    #[test]
    fn each_policy_does_what_it_says() {
        let mut values = vec![1.0f32; 5000];
        values[4097] = f32::NAN;
        values[4999] = f32::INFINITY;
        let bytes = bytes_from_f32(Dtype::BF16, &values).unwrap();
        let e = Nonfinite::Refuse.check("t", Dtype::BF16, &mut bytes.clone(), 20);
        let e = e.unwrap_err();
        assert_eq!(
            (e.code, &*e.what),
            (Code::NonfiniteWeight, "element 4107 is NaN")
        );
        let mut zeroed = bytes.clone();
        let count = Nonfinite::Zero.check("t", Dtype::BF16, &mut zeroed, 0);
        assert_eq!(count.unwrap(), 2);
        values[4097] = 0.0;
        values[4999] = 0.0;
        assert_eq!(zeroed, bytes_from_f32(Dtype::BF16, &values).unwrap());
        let keep = |copied: bool| {
            let mut bytes = bytes.clone();
            let checked = if copied {
                Nonfinite::Keep.check_copied("t", Dtype::BF16, &mut bytes, 0)
            } else {
                Nonfinite::Keep.check("t", Dtype::BF16, &mut bytes, 0)
            };
            checked.map(|_| bytes)
        };
        assert_eq!(keep(true).unwrap(), bytes);
        assert_eq!(keep(false).unwrap_err().code, Code::NonfiniteWeight);
        let e = Nonfinite::parse(Some("zeros")).unwrap_err();
        assert_eq!(
            (e.code, &*e.remedy),
            (Code::Option, "did you mean \"zero\"?")
        );
    }
}
