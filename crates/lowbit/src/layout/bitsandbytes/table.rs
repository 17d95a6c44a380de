//! Codes into a table, in blocks: NF4 and FP4.

use super::NESTED;
use super::state::State;
use crate::error::{Code, Error, Result};
use crate::layout::parts::Parts;
use crate::matrix::{Codes, Floats, Nested, QuantizedMatrix, Scales, Table, Values};
use crate::minifloat::{FP4, NF4};
use crate::scheme::{Element, Scheme};
use crate::tensor::Dtype;

fn values_of(element: Element) -> &'static [f32; 16] {
    match element {
        Element::Fp4 => &FP4,
        _ => &NF4,
    }
}

/// Bytes of every tensor, in the order of `outputs`; none when the matrix has another form.
pub(super) fn encode(
    m: &Table,
    scheme: &Scheme,
    (rows, cols): (usize, usize),
    dtype: Dtype,
) -> Option<Vec<Vec<u8>>> {
    let values = values_of(scheme.element);
    if m.values != values || m.group != scheme.group_cols(cols).ok()? {
        return None;
    }
    let mut codes = vec![0; cols];
    let mut weight = Vec::with_capacity(rows * cols / 2);
    for r in 0..rows {
        m.codes.row(r, &mut codes);
        weight.extend(codes.as_chunks::<2>().0.iter().map(|[a, b]| a << 4 | b));
    }
    let floats = |v: &[f32]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let state = |offset| State::new(scheme, (rows, cols), dtype, offset).to_bytes();
    match &m.scales {
        Scales::Flat(Floats::F32(absmax)) if !scheme.nested => {
            Some(vec![weight, floats(absmax), floats(values), state(0.0)])
        }
        Scales::Nested(n) if scheme.nested && n.per == NESTED => Some(vec![
            weight,
            n.codes.clone(),
            floats(values),
            state(n.offset),
            floats(&n.absmax),
            floats(&n.map),
        ]),
        _ => None,
    }
}

/// Undoes `encode`.
pub(super) fn decode(parts: &Parts<'_>, scheme: &Scheme) -> Result<QuantizedMatrix> {
    let place = |e: Error| e.at(format!("{:?}", parts.base));
    let wrong = |what: String| place(Error::new(Code::Qparam, what));
    let state = State::read(parts, scheme.element).map_err(place)?;
    let (rows, cols, block) = (state.shape.0, state.shape.1, state.block);
    if block == 0 || !cols.is_multiple_of(block) {
        let what = format!("blocks of {block} do not end with rows of {cols}");
        return Err(place(Error::new(Code::Unsupported, what)));
    }
    let blocks = rows * (cols / block);
    let shape = parts.find("weight").map_or(&[][..], |t| &t.shape);
    let packed = parts.get("weight", &[Dtype::U8], shape)?;
    if packed.bytes.len() != rows * cols / 2 {
        return Err(wrong(format!(
            "{} bytes of codes for {rows}×{cols}",
            packed.bytes.len()
        )));
    }
    let map = parts.get("weight.quant_map", &[Dtype::F32], &[16])?;
    let Floats::F32(values) = Floats::from_bytes(Dtype::F32, &map.bytes)? else {
        return Err(wrong("quant_map is not F32".into()));
    };
    let scales = if let Some(offset) = state.nested {
        let codes = parts.get("weight.absmax", &[Dtype::U8], &[blocks])?;
        let second = blocks.div_ceil(NESTED);
        let absmax = parts.get("weight.nested_absmax", &[Dtype::F32], &[second])?;
        let map = parts.get("weight.nested_quant_map", &[Dtype::F32], &[256])?;
        let floats = |bytes: &[u8]| -> Vec<f32> {
            let singles = bytes.as_chunks::<4>().0.iter();
            singles.map(|b| f32::from_le_bytes(*b)).collect()
        };
        Scales::Nested(Nested {
            codes: codes.bytes.clone(),
            map: floats(&map.bytes),
            absmax: floats(&absmax.bytes),
            per: NESTED,
            offset,
        })
    } else {
        let absmax = parts.get("weight.absmax", &[Dtype::F32], &[blocks])?;
        Scales::Flat(Floats::from_bytes(Dtype::F32, &absmax.bytes)?)
    };
    let codes: Vec<u8> = packed.bytes.iter().flat_map(|b| [b >> 4, b & 15]).collect();
    Ok(QuantizedMatrix {
        rows,
        cols,
        values: Values::Table(Table {
            codes: Codes::pack(&codes, cols, 4),
            values,
            group: block,
            scales,
        }),
        inputs: None,
    })
}
