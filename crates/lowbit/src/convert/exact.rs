//! Whether a quantized matrix fits another scheme as it is: same values, other form.
//!
//! | from → to           | exact when                                                     |
//! | ------------------- | -------------------------------------------------------------- |
//! | bits                | every code, moved with the centre of symmetric ones, is in range |
//! | centre → integer z  | always: z = 2^(b−1) in every group                             |
//! | integer z → centre  | every z is 2^(b−1)                                             |
//! | integer → float z   | always; back when every z is an integer in range               |
//! | narrower groups     | always: scales and zero points repeat                          |
//! | wider groups        | neighbours have the same scale and zero point                  |
//! | type of scales      | every scale survives it                                        |
//!
//! Nothing here claims that bytes mean the same: what was written is decoded again and compared
//! value by value (`remake.rs`).

use super::forecast::{block, groups};
use super::regroup::{Regroup, divided, flat};
use crate::matrix::{
    Codes, Floats, Inputs, Integer, Minifloat, QuantizedMatrix, Scales, Table, Values, Zero,
};
use crate::minifloat::{E2M1, FP4, NF4};
use crate::scheme::{Activations, Element, Group, Scheme, ZeroPoint};
use crate::tensor::Dtype;

/// Why something does not fit.
pub(super) type Fit<T> = Result<T, String>;

/// What a module becomes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub scheme: Scheme,
    /// Type of flat scales.
    pub scale_dtype: Dtype,
    /// What stored scales are divided by, if they are (LLM.int8's row maxima).
    pub over: Option<f32>,
    /// Whether columns may have groups in an order of their own, and must say so.
    pub by_index: bool,
}

/// The same matrix in the form that `wanted` asks for; the reason when its values do not fit.
///
/// Scales may be rounded to the wanted type: comparing is the caller's.
pub(super) fn refit(matrix: &QuantizedMatrix, wanted: &Wanted) -> Fit<QuantizedMatrix> {
    let shape = (matrix.rows, matrix.cols);
    let values = match &matrix.values {
        Values::Integer(m) => Values::Integer(integer(m, shape, wanted)?),
        Values::Table(m) => Values::Table(table(m, shape, wanted)?),
        Values::Minifloat(m) => Values::Minifloat(minifloat(m, shape, wanted)?),
        Values::Codebooks(_) => return Err("sums out of codebooks have no other form".into()),
    };
    let scale = matrix.inputs.and_then(|i| i.scale);
    let mut inputs = Inputs::of(&wanted.scheme);
    if let (Some(inputs), Some(Activations { dynamic: false, .. })) =
        (&mut inputs, wanted.scheme.activations)
    {
        inputs.scale = Some(scale.ok_or("there is no scale for the inputs")?);
    }
    Ok(QuantizedMatrix {
        rows: shape.0,
        cols: shape.1,
        values,
        inputs,
    })
}

fn integer(m: &Integer, (rows, cols): (usize, usize), wanted: &Wanted) -> Fit<Integer> {
    let to = &wanted.scheme;
    if to.element != Element::Int {
        return Err(format!("integers are no {to}"));
    }
    let group = group_of(to, cols)?;
    let ordered = m.group_of_col.is_some();
    if ordered && (group != m.group || !wanted.by_index) {
        return Err("columns have groups in an order of their own".into());
    }
    let pick = Regroup::new(rows, cols, m.group, group)?;
    let middle = 1u8 << (m.codes.bits - 1);
    let (zero, shift) = match (&m.zero, to.zero) {
        (Zero::Centre, ZeroPoint::None) => {
            (Zero::Centre, (1i16 << (to.bits - 1)) - i16::from(middle))
        }
        (Zero::Min(_), _) => return Err("groups have minima instead of zero points".into()),
        (zero, kind) => (zero_to(zero, kind, middle, &pick, wanted)?, 0),
    };
    let scales = match wanted.over {
        Some(divisor) => divided(&m.scales, &pick, divisor)?,
        None => Scales::Flat(flat(&m.scales, &pick, wanted.scale_dtype)?),
    };
    if to.group == Group::Tensor {
        one_for_all(&scales, &zero)?;
    }
    Ok(Integer {
        codes: recode(&m.codes, cols, to.bits, shift)?,
        group,
        scales,
        zero,
        group_of_col: match &m.group_of_col {
            None if wanted.by_index => Some((0..cols).map(|j| (j / group) as u32).collect()),
            order => order.clone(),
        },
    })
}

/// A tensor's one scale and zero point stand here once for each row.
fn one_for_all(scales: &Scales, zero: &Zero) -> Fit<()> {
    let same_zero = match zero {
        Zero::Int(z) => z.iter().all(|v| *v == z[0]),
        _ => true,
    };
    if same_zero && (1..scales.len()).all(|i| scales.get(i) == scales.get(0)) {
        return Ok(());
    }
    Err("rows have scales of their own".into())
}

fn group_of(to: &Scheme, cols: usize) -> Fit<usize> {
    match to.group {
        Group::Tensor => Ok(cols),
        _ => to.group_cols(cols).map_err(|e| e.what),
    }
}

/// Zero points of another kind, but for centres that stay centres.
fn zero_to(zero: &Zero, kind: ZeroPoint, middle: u8, pick: &Regroup, wanted: &Wanted) -> Fit<Zero> {
    let count = match zero {
        Zero::Int(z) => z.len(),
        Zero::Float(z) => z.len(),
        Zero::Centre | Zero::Min(_) => pick.before(),
    };
    let get = |i: usize| match zero {
        Zero::Int(z) => f32::from(z[i]),
        Zero::Float(z) => z.get(i),
        Zero::Centre | Zero::Min(_) => f32::from(middle),
    };
    let values: Vec<f32> = (0..count).map(get).collect();
    let values = pick.take(&values)?;
    let bits = wanted.scheme.bits;
    match kind {
        ZeroPoint::Float => lossless(wanted.scale_dtype, &values).map(Zero::Float),
        ZeroPoint::None => {
            let centre = f32::from(1u8 << (bits - 1));
            match values.iter().find(|v| **v != centre) {
                None => Ok(Zero::Centre),
                Some(v) => Err(format!("zero point {v} is not in the middle")),
            }
        }
        ZeroPoint::Int => {
            let most = f32::from(u8::MAX >> (8 - bits));
            let fits = |v: &&f32| v.fract() == 0.0 && (0.0..=most).contains(*v);
            match values.iter().find(|v| !fits(v)) {
                None => Ok(Zero::Int(values.iter().map(|v| *v as u8).collect())),
                Some(v) => Err(format!("zero point {v} is no integer of {bits} bits")),
            }
        }
    }
}

fn lossless(dtype: Dtype, values: &[f32]) -> Fit<Floats> {
    let floats = Floats::from_f32(dtype, values).map_err(|e| e.what)?;
    match (0..values.len()).find(|i| floats.get(*i).to_bits() != values[*i].to_bits()) {
        None => Ok(floats),
        Some(i) => Err(format!(
            "zero point {} is none of {}",
            values[i],
            dtype.name()
        )),
    }
}

/// Codes of another width, all moved by `shift`.
fn recode(codes: &Codes, cols: usize, bits: u8, shift: i16) -> Fit<Codes> {
    if bits == codes.bits && shift == 0 {
        return Ok(codes.clone());
    }
    let most = i16::from(u8::MAX >> (8 - bits));
    let mut all = codes.unpack(cols);
    for code in &mut all {
        let moved = i16::from(*code) + shift;
        if !(0..=most).contains(&moved) {
            return Err(format!("code {code} does not fit {bits} bits"));
        }
        *code = moved as u8;
    }
    Ok(Codes::pack(&all, cols, bits))
}

/// What the codes of an element stand for.
fn values_of(element: Element) -> Option<&'static [f32; 16]> {
    match element {
        Element::Nf4 => Some(&NF4),
        Element::Fp4 => Some(&FP4),
        Element::Mxfp4 | Element::Nvfp4 => Some(&E2M1),
        Element::Int | Element::Fp8 | Element::Aqlm => None,
    }
}

fn table(m: &Table, (rows, cols): (usize, usize), wanted: &Wanted) -> Fit<Table> {
    let to = &wanted.scheme;
    let values = values_of(to.element).ok_or_else(|| format!("a table of values is no {to}"))?;
    if m.values != values {
        return Err(format!(
            "the values that codes stand for are not those of {to}"
        ));
    }
    let group = group_of(to, cols)?;
    let pick = Regroup::new(rows, cols, m.group, group)?;
    let scales = match (&m.scales, to.nested) {
        (nested @ Scales::Nested(_), true) if pick.same() => nested.clone(),
        (_, true) => return Err("scales are quantized themselves".into()),
        (scales, false) if pick.same() && !matches!(scales, Scales::Nested(_)) => scales.clone(),
        (scales @ (Scales::Nested(_) | Scales::Flat(Floats::F32(_))), false) => {
            Scales::Flat(flat(scales, &pick, Dtype::F32)?)
        }
        _ => return Err("its scales do not go with other groups".into()),
    };
    Ok(Table {
        codes: m.codes.clone(),
        values: m.values.clone(),
        group,
        scales,
    })
}

fn minifloat(m: &Minifloat, (rows, cols): (usize, usize), wanted: &Wanted) -> Fit<Minifloat> {
    let to = &wanted.scheme;
    let Some(block) = block(to, rows, cols).filter(|_| to.element == Element::Fp8) else {
        return Err(format!("FP8 is no {to}"));
    };
    if groups(Some(m.block), Some(block)).is_none() {
        return Err("blocks of one do not divide those of the other".into());
    }
    let across = |(_, w): (usize, usize)| cols.div_ceil(w);
    let mut scales = vec![f32::NAN; rows.div_ceil(block.0) * across(block)];
    // Each stored scale reaches every new block that it has a weight in.
    for r in 0..rows {
        for first in (0..cols).step_by(m.block.1.min(block.1)) {
            let from = m
                .scales
                .get(r / m.block.0 * across(m.block) + first / m.block.1);
            let to = &mut scales[r / block.0 * across(block) + first / block.1];
            if !to.is_nan() && *to != from {
                return Err("neighbouring groups have other scales".into());
            }
            *to = from;
        }
    }
    let dtype = wanted.scale_dtype;
    Ok(Minifloat {
        dtype: m.dtype,
        bytes: m.bytes.clone(),
        block,
        scales: Floats::from_f32(dtype, &scales).map_err(|e| e.what)?,
    })
}
