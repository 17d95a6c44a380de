//! Round to nearest: each weight goes to the closest code of its group's grid.

use super::observer::{Grid, Observer, relative_importance};
use super::rows::{self, RoundGroup};
use super::{RoundOptions, Weights, fp8, table};
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::matrix::{Floats, Inputs, Integer, QuantizedMatrix, Scales, Values, Zero};
use crate::scheme::{Element, Group, Scheme, ZeroPoint};

/// Rounds `weights` to `scheme`.
///
/// Integers are rounded with what `options.observer` finds; the other elements always take the
/// largest weight of a group to the largest value of the element.
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
    match scheme.element {
        Element::Int => integers(weights, scheme, options, cpu),
        Element::Fp8 => fp8::round(weights, scheme, options, cpu),
        Element::Aqlm => {
            let what = format!("{scheme} is only read: no method here makes codebooks");
            Err(Error::new(Code::Scheme, what).remedy("use for example w2g64"))
        }
        Element::Nf4 | Element::Fp4 | Element::Mxfp4 | Element::Nvfp4 => {
            table::round(weights, scheme, None, cpu)
        }
    }
}

/// Rounds to NVFP4 under the scale of a matrix whose largest magnitude is `largest`; errors as
/// `round`.
///
/// Engines join some matrices into one (`Part::joined`), which has one such scale.
pub fn round_joined(
    weights: Weights<'_>,
    scheme: &Scheme,
    largest: f32,
    cpu: &Cpu,
) -> Result<QuantizedMatrix> {
    weights.check()?;
    table::round(weights, scheme, Some(largest), cpu)
}

/// NVFP4's scale for values whose largest magnitude is `largest`: 448 · 6 over it.
pub fn nvfp4_divisor(largest: f32) -> f32 {
    table::divisor(largest)
}

/// The largest magnitude of finite values; 0 when there are none.
pub fn absmax(values: &[f32]) -> f32 {
    table::absmax(values)
}

/// Rows of a matrix of `rows` that must be rounded in one call, since they share scales; a cut
/// must fall on a multiple of it.
pub fn rows_together(scheme: &Scheme, rows: usize) -> usize {
    match scheme.group {
        _ if scheme.nested || scheme.element == Element::Nvfp4 => rows,
        Group::Tensor => rows,
        Group::Block { rows: height, .. } => height.min(rows),
        Group::Row | Group::Run(_) | Group::Flat(_) => 1,
    }
}

fn integers(
    weights: Weights<'_>,
    scheme: &Scheme,
    options: &RoundOptions,
    cpu: &Cpu,
) -> Result<QuantizedMatrix> {
    if scheme.zero == ZeroPoint::Float {
        let what = format!("{scheme} is not rounded to nearest");
        return Err(Error::new(Code::Scheme, what).remedy("use --method hqq"));
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
        inputs: Inputs::of(scheme),
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
