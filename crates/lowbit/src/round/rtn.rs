//! Round to nearest: each weight goes to the closest code of its group's grid.

use super::observer::{Grid, Observer, relative_importance};
use super::rows::{self, RoundGroup};
use super::{RoundOptions, Weights};
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::matrix::{Floats, Integer, QuantizedMatrix, Scales, Values, Zero};
use crate::scheme::{Element, Group, Scheme, ZeroPoint};

/// Rounds `weights` to `scheme`.
///
/// `nonfinite-weight` with the first place of a NaN or infinity, `qparam` when a scale does not fit
/// `options.scale_dtype`, `scheme` when the groups do not fit the matrix. The result is the same
/// for every instruction set and number of threads.
pub fn round(
    weights: Weights<'_>,
    scheme: &Scheme,
    options: &RoundOptions,
    cpu: &Cpu,
) -> Result<QuantizedMatrix> {
    weights.check()?;
    if scheme.element != Element::Int || scheme.zero == ZeroPoint::Float {
        let what = format!("{scheme} is not rounded to nearest");
        return Err(Error::new(Code::Scheme, what).remedy("use integers with integer zero points"));
    }
    if matches!(scheme.group, Group::Tensor) {
        let what = format!("{scheme} has one scale for the whole matrix");
        return Err(Error::new(Code::Scheme, what).remedy("use a scale per row or per group"));
    }
    let group = scheme.group_cols(weights.cols)?;
    let importance = match options.observer {
        Observer::ImatrixMse => relative_importance(weights.importance),
        Observer::MinMax | Observer::Mse => None,
    };
    let rounder = Nearest {
        grid: Grid::new(scheme, options.scale_dtype),
        observer: options.observer,
    };
    let weights = Weights {
        importance: importance.as_deref(),
        ..weights
    };
    let rounded = rows::round(weights, (group, scheme.bits), rounder, cpu)?;
    Ok(QuantizedMatrix {
        rows: weights.rows,
        cols: weights.cols,
        inputs: None,
        values: Values::Integer(Integer {
            codes: rounded.codes,
            group,
            scales: Scales::Flat(Floats::from_f32(options.scale_dtype, &rounded.scales)?),
            zero: match scheme.zero {
                ZeroPoint::None => Zero::Centre,
                _ => Zero::Int(rounded.zeros.iter().map(|z| *z as u8).collect()),
            },
            group_of_col: None,
        }),
    })
}

/// A group with the parameters that an observer chooses.
#[derive(Clone, Copy)]
struct Nearest {
    grid: Grid,
    observer: Observer,
}

impl RoundGroup for Nearest {
    #[inline(always)]
    fn round(self, values: &[f32], importance: &[f32], codes: &mut [u8]) -> (f32, f32) {
        let params = self.grid.observe(values, importance, self.observer);
        self.grid.codes(values, params, codes);
        (params.scale, f32::from(self.grid.unsigned(params.zero)))
    }
}
