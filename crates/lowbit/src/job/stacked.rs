//! A matrix whose rows are rounded some at a time, as far as it is there.

use super::report::quality;
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::matrix::{Floats, Integer, QuantizedMatrix, Scales, Values, Zero};
use crate::round::gptq::Quality;
use crate::scheme::{Element, Group, Scheme};

/// Rows that are rounded, and what that cost.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stacked {
    matrix: Option<QuantizedMatrix>,
    quality: Quality,
}

impl Stacked {
    /// Takes the next rows, which `values` were rounded to.
    pub(crate) fn push(&mut self, part: QuantizedMatrix, values: &[f32], cpu: &Cpu) -> Result<()> {
        let own = quality(cpu, &part, values)?;
        self.quality.squared_error += own.squared_error;
        self.quality.squared_weight += own.squared_weight;
        self.matrix = Some(match self.matrix.take() {
            None => part,
            Some(matrix) => append(matrix, part)?,
        });
        Ok(())
    }

    /// The matrix, if rows came, and its error.
    pub(crate) fn finish(self) -> (Option<QuantizedMatrix>, Quality) {
        (self.matrix, self.quality)
    }
}

/// Whether rows can be rounded some at a time: their scales know nothing of other rows.
pub(crate) fn cuts(scheme: &Scheme) -> bool {
    matches!(scheme.group, Group::Row | Group::Run(_)) && scheme.element == Element::Int
}

/// The rows of `b` below those of `a`; both come from the same rounder and scheme.
fn append(a: QuantizedMatrix, b: QuantizedMatrix) -> Result<QuantizedMatrix> {
    let differ = || Error::new(Code::Internal, "slices of one matrix differ in kind");
    let (Values::Integer(mut x), Values::Integer(y)) = (a.values, b.values) else {
        return Err(differ());
    };
    x.codes.words.extend(y.codes.words);
    x.scales = match (x.scales, y.scales) {
        (Scales::Flat(a), Scales::Flat(b)) => Scales::Flat(join(a, b).ok_or_else(differ)?),
        _ => return Err(differ()),
    };
    x.zero = match (x.zero, y.zero) {
        (Zero::Centre, Zero::Centre) => Zero::Centre,
        (Zero::Int(mut a), Zero::Int(b)) => {
            a.extend(b);
            Zero::Int(a)
        }
        (Zero::Float(a), Zero::Float(b)) => Zero::Float(join(a, b).ok_or_else(differ)?),
        _ => return Err(differ()),
    };
    Ok(QuantizedMatrix {
        rows: a.rows + b.rows,
        cols: a.cols,
        inputs: a.inputs,
        values: Values::Integer(Integer { ..x }),
    })
}

fn join(a: Floats, b: Floats) -> Option<Floats> {
    Some(match (a, b) {
        (Floats::F32(mut a), Floats::F32(b)) => {
            a.extend(b);
            Floats::F32(a)
        }
        (Floats::F16(mut a), Floats::F16(b)) => {
            a.extend(b);
            Floats::F16(a)
        }
        (Floats::Bf16(mut a), Floats::Bf16(b)) => {
            a.extend(b);
            Floats::Bf16(a)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::shapes::Random;
    use crate::round::gptq::GptqOptions;
    use crate::round::observer::Observer;
    use crate::round::{RoundOptions, Weights, rtn};
    use crate::tensor::Dtype;

    #[test]
    fn rows_come_together_to_what_they_are_at_once() {
        let (cpu, scheme) = (Cpu::single(), "w8a8s".parse().unwrap());
        let options = RoundOptions {
            observer: Observer::MinMax,
            scale_dtype: Dtype::F32,
            gptq: GptqOptions::default(),
        };
        let values = Random(3).values(6 * 32);
        let round = |values: &[f32]| {
            let weights = Weights {
                values,
                rows: values.len() / 32,
                cols: 32,
                importance: None,
            };
            rtn::round(weights, &scheme, &options, &cpu).unwrap()
        };
        let mut stacked = Stacked::default();
        for part in values.chunks(2 * 32) {
            stacked.push(round(part), part, &cpu).unwrap();
        }
        let (matrix, found) = stacked.finish();
        let whole = round(&values);
        let wanted = quality(&cpu, &whole, &values).unwrap();
        assert_eq!(matrix.unwrap(), whole);
        assert!(whole.inputs.is_some());
        let ratio = found.squared_error / wanted.squared_error;
        assert!((ratio - 1.0).abs() < 1e-12, "{ratio}");
    }
}
