//! Matrices of seeded values for the tests of layouts, in the form that each scheme takes.

use crate::kernels::shapes::Random;
use crate::matrix::{
    Codes, Floats, Inputs, Integer, Minifloat, Nested, QuantizedMatrix, Scales, Table, Values, Zero,
};
use crate::minifloat::{E2M1, FP4, NF4};
use crate::scheme::{Element, Group, Scheme, ZeroPoint};
use crate::tensor::Dtype;

/// Codes of `bits`, every one of which may come.
pub(super) fn codes(random: &mut Random, count: usize, bits: u8) -> Vec<u8> {
    let code = |_| (random.bits() >> (32 - u32::from(bits))) as u8;
    (0..count).map(code).collect()
}

fn floats(random: &mut Random, dtype: Dtype, count: usize) -> Floats {
    let values: Vec<f32> = (0..count).map(|_| 0.01 + random.signed().abs()).collect();
    Floats::from_f32(dtype, &values).unwrap()
}

/// A matrix of a scheme whose groups divide its columns.
pub(crate) fn matrix(
    random: &mut Random,
    scheme: &Scheme,
    (rows, cols): (usize, usize),
    dtype: Dtype,
) -> QuantizedMatrix {
    let values = match scheme.element {
        Element::Int => integer(random, scheme, (rows, cols), dtype),
        Element::Fp8 => minifloat(random, scheme, (rows, cols), dtype),
        _ => table(random, scheme, (rows, cols)),
    };
    let mut inputs = Inputs::of(scheme);
    if let (Some(inputs), Some(false)) = (&mut inputs, scheme.activations.map(|a| a.dynamic)) {
        // A power of two, which every type holds.
        inputs.scale = Some(0.125);
    }
    QuantizedMatrix {
        rows,
        cols,
        values,
        inputs,
    }
}

fn integer(random: &mut Random, scheme: &Scheme, shape: (usize, usize), dtype: Dtype) -> Values {
    let (rows, cols) = shape;
    let group = scheme.group_cols(cols).unwrap();
    let count = rows * (cols / group);
    let scales = match scheme.group {
        Group::Tensor => Floats::from_f32(dtype, &vec![0.75; count]).unwrap(),
        _ => floats(random, dtype, count),
    };
    let zero = match scheme.zero {
        ZeroPoint::None => Zero::Centre,
        ZeroPoint::Int if scheme.group == Group::Tensor => Zero::Int(vec![1; count]),
        ZeroPoint::Int => Zero::Int(codes(random, count, scheme.bits)),
        ZeroPoint::Float => Zero::Float(floats(random, dtype, count)),
    };
    Values::Integer(Integer {
        codes: Codes::pack(&codes(random, rows * cols, scheme.bits), cols, scheme.bits),
        group,
        scales: Scales::Flat(scales),
        zero,
        group_of_col: None,
    })
}

fn minifloat(random: &mut Random, scheme: &Scheme, shape: (usize, usize), dtype: Dtype) -> Values {
    let (rows, cols) = shape;
    let block = match scheme.group {
        Group::Tensor => (rows, cols),
        Group::Block { rows, cols } => (rows, cols),
        _ => (1, cols),
    };
    let mut bytes = codes(random, rows * cols, 8);
    let wrong = |b: &&mut u8| **b & 0x7f == 0x7f;
    bytes.iter_mut().filter(wrong).for_each(|b| *b = 0x80);
    let blocks = rows.div_ceil(block.0) * cols.div_ceil(block.1);
    Values::Minifloat(Minifloat {
        dtype: Dtype::F8E4M3,
        bytes,
        block,
        scales: floats(random, dtype, blocks),
    })
}

fn table(random: &mut Random, scheme: &Scheme, (rows, cols): (usize, usize)) -> Values {
    let group = scheme.group_cols(cols).unwrap();
    let count = rows * (cols / group);
    let small = |random: &mut Random| -> Vec<u8> {
        codes(random, count, 6).iter().map(|b| b + 32).collect()
    };
    let (values, scales) = match scheme.element {
        Element::Nvfp4 => (
            E2M1,
            Scales::Divided {
                values: Floats::E4m3(small(random)),
                divisor: 17.5,
            },
        ),
        Element::Mxfp4 => (E2M1, Scales::Flat(Floats::E8m0(small(random)))),
        _ => {
            let values = if scheme.element == Element::Fp4 {
                FP4
            } else {
                NF4
            };
            let nested = Nested {
                codes: codes(random, count, 8),
                map: (0..256).map(|_| random.signed()).collect(),
                absmax: (0..count.div_ceil(256)).map(|_| random.signed()).collect(),
                per: 256,
                offset: random.signed(),
            };
            let flat = Scales::Flat(floats(random, Dtype::F32, count));
            (
                values,
                if scheme.nested {
                    Scales::Nested(nested)
                } else {
                    flat
                },
            )
        }
    };
    Values::Table(Table {
        codes: Codes::pack(&codes(random, rows * cols, 4), cols, 4),
        values: values.to_vec(),
        group,
        scales,
    })
}
