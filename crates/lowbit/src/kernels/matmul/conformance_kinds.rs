//! Tables, small floats and rounded inputs on each instruction set against `scalar.rs` and against
//! the rows of the matrix.

use super::activations::fake_quantize;
use super::conformance::{check_f32, product};
use super::{Weight, matmul};
use crate::cpu::{Compute, Cpu, Isa};
use crate::kernels::conformance::{assert_close, everywhere, relative};
use crate::kernels::shapes::Random;
use crate::matrix::{
    Codes, Floats, Inputs, Integer, Minifloat, Nested, QuantizedMatrix, Scales, Table, Values, Zero,
};
use crate::minifloat::{E2M1, FP4, NF4};
use crate::pack::{words_from_codes, words_len};
use crate::scheme::Element;
use crate::tensor::Dtype;

/// Rows, columns, group (for small floats: rows and columns of a block).
const TABLES: &[(usize, usize, usize)] = &[(1, 16, 16), (17, 64, 32), (35, 192, 64), (64, 520, 65)];
const BLOCKS: &[(usize, usize, (usize, usize))] = &[
    (1, 7, (1, 7)),
    (19, 130, (1, 130)),
    (33, 600, (33, 600)),
    (40, 300, (16, 128)),
    (150, 129, (128, 128)),
];

fn codes(random: &mut Random, rows: usize, cols: usize, bits: u8) -> Codes {
    let mut row = || -> Vec<u8> {
        let code = |_| (random.bits() >> (32 - u32::from(bits))) as u8;
        (0..cols).map(code).collect()
    };
    Codes {
        bits,
        row_words: words_len(cols, bits),
        words: (0..rows)
            .flat_map(|_| words_from_codes(&row(), bits))
            .collect(),
    }
}

fn positive(random: &mut Random, n: usize) -> Vec<f32> {
    (0..n).map(|_| 0.01 + random.signed().abs()).collect()
}

/// Every way to store scales.
fn scales(random: &mut Random, n: usize, turn: usize) -> Scales {
    let bytes = |random: &mut Random, n: usize| -> Vec<u8> {
        (0..n).map(|_| (random.bits() >> 26) as u8 + 32).collect()
    };
    match turn % 4 {
        0 => Scales::Flat(Floats::F32(positive(random, n))),
        1 => Scales::Divided {
            values: Floats::E4m3(bytes(random, n)),
            divisor: 3.7,
        },
        2 => Scales::Flat(Floats::E8m0((0..n).map(|i| 120 + (i % 9) as u8).collect())),
        _ => Scales::Nested(Nested {
            codes: bytes(random, n),
            map: (0..256u16).map(|i| f32::from(i) / 128.0 - 1.0).collect(),
            absmax: positive(random, n.div_ceil(32)),
            per: 32,
            offset: 0.3,
        }),
    }
}

fn tables(random: &mut Random) -> Vec<QuantizedMatrix> {
    let mut all = Vec::new();
    for (turn, &(rows, cols, group)) in TABLES.iter().enumerate() {
        for (i, values) in [NF4, FP4, E2M1].iter().enumerate() {
            all.push(QuantizedMatrix {
                rows,
                cols,
                values: Values::Table(Table {
                    codes: codes(random, rows, cols, 4),
                    values: values.to_vec(),
                    group,
                    scales: scales(random, rows * cols / group, turn + i),
                }),
                inputs: None,
            });
        }
    }
    all
}

fn minifloats(random: &mut Random) -> Vec<QuantizedMatrix> {
    let dtypes = [Dtype::F32, Dtype::BF16, Dtype::F16];
    let one = |(turn, &(rows, cols, block)): (usize, &(usize, usize, (usize, usize)))| {
        let blocks = rows.div_ceil(block.0) * cols.div_ceil(block.1);
        // Every code but the two that are no numbers.
        let byte = |_| match (random.bits() >> 24) as u8 {
            0x7f | 0xff => 0x01,
            code => code,
        };
        let bytes = (0..rows * cols).map(byte).collect();
        let scales = positive(random, blocks);
        QuantizedMatrix {
            rows,
            cols,
            values: Values::Minifloat(Minifloat {
                dtype: Dtype::F8E4M3,
                bytes,
                block,
                scales: Floats::from_f32(dtypes[turn % 3], &scales).unwrap(),
            }),
            inputs: None,
        }
    };
    BLOCKS.iter().enumerate().map(one).collect()
}

/// Integer matrices with 8-bit codes, as W8A8 has them.
fn bytes_per_row(random: &mut Random, rows: usize, cols: usize) -> QuantizedMatrix {
    QuantizedMatrix {
        rows,
        cols,
        values: Values::Integer(Integer {
            codes: codes(random, rows, cols, 8),
            group: cols,
            scales: Scales::Flat(Floats::F32(positive(random, rows))),
            zero: Zero::Centre,
            group_of_col: None,
        }),
        inputs: None,
    }
}

/// Every rounding of inputs.
const ROUNDINGS: &[Inputs] = &[
    Inputs {
        element: Element::Int,
        bits: 8,
        scale: None,
        group: None,
    },
    Inputs {
        element: Element::Int,
        bits: 8,
        scale: Some(0.01),
        group: None,
    },
    Inputs {
        element: Element::Int,
        bits: 4,
        scale: None,
        group: None,
    },
    Inputs {
        element: Element::Fp8,
        bits: 8,
        scale: None,
        group: None,
    },
    Inputs {
        element: Element::Fp8,
        bits: 8,
        scale: Some(0.004),
        group: None,
    },
    Inputs {
        element: Element::Fp8,
        bits: 8,
        scale: None,
        group: Some(128),
    },
];

#[test]
fn packed_values_are_the_matrix_s_own() {
    let mut random = Random(11);
    for matrix in tables(&mut random)
        .into_iter()
        .chain(minifloats(&mut random))
    {
        let w = Weight::packed(&matrix, Compute::Int8, Isa::Scalar).unwrap();
        let (mut found, mut wanted) = (vec![0.0; matrix.cols], vec![0.0; matrix.cols]);
        for r in 0..matrix.rows {
            w.row(r, &mut found).unwrap();
            matrix.dequantize_row(r, &mut wanted).unwrap();
            assert_eq!(found, wanted, "row {r} of {}×{}", matrix.rows, matrix.cols);
        }
    }
}

/// Tables and small floats, one token and several.
fn kinds(isa: Isa) {
    let mut random = Random(12);
    let all = tables(&mut random)
        .into_iter()
        .chain(minifloats(&mut random));
    for (i, matrix) in all.enumerate() {
        let w = Weight::packed(&matrix, Compute::F32, isa).unwrap();
        for m in [1, 3, 9] {
            let x = random.values(m * matrix.cols);
            check_f32(isa, &x, &w, &format!("matrix {i}, m {m}"));
        }
    }
}

/// A single input of 1 in the product gives the weight itself.
fn unit_inputs(isa: Isa) {
    let mut random = Random(13);
    for matrix in [&tables(&mut random)[2], &minifloats(&mut random)[3]] {
        let w = Weight::packed(matrix, Compute::F32, isa).unwrap();
        for column in 0..matrix.cols {
            let mut x = vec![0.0; 8 * matrix.cols];
            x[column] = 1.0;
            let y = product(isa, &x, &w, "unit");
            let mut row = vec![0.0; matrix.cols];
            for (r, y) in y[..matrix.rows].iter().enumerate() {
                matrix.dequantize_row(r, &mut row).unwrap();
                assert_eq!(*y, row[column], "[{r}, {column}]");
            }
        }
    }
}

/// Rounded inputs in f32 mode, and as integers where that is possible.
fn rounded_inputs(isa: Isa) {
    let mut random = Random(14);
    for rounding in ROUNDINGS {
        for (rows, cols) in [(3, 24), (33, 384), (20, 600)] {
            let mut matrix = bytes_per_row(&mut random, rows, cols);
            let plain = Weight::packed(&matrix, Compute::F32, isa).unwrap();
            matrix.inputs = Some(*rounding);
            let x = random.values(5 * cols);
            let rounded = fake_quantize(&Cpu::with_isa(isa), &x, cols, rounding);
            let wanted = product(isa, &rounded, &plain, "rounded before");
            let w = Weight::packed(&matrix, Compute::F32, isa).unwrap();
            assert_eq!(product(isa, &x, &w, "f32"), wanted, "{rounding:?}");
            let w = Weight::packed(&matrix, Compute::Int8, isa).unwrap();
            let bound = relative(cols) * cols as f64 * 140.0;
            let found = product(isa, &x, &w, "int8");
            assert_close(
                &format!("{rounding:?} {rows}×{cols}"),
                &found,
                &wanted,
                |_| bound,
            );
        }
    }
}

#[test]
fn kinds_and_rounded_inputs_conform() {
    let checks: [fn(Isa); 3] = [kinds, unit_inputs, rounded_inputs];
    checks.into_iter().for_each(everywhere);
}

#[test]
fn inputs_that_are_not_finite_reach_the_output() {
    let mut matrix = bytes_per_row(&mut Random(15), 4, 24);
    for rounding in ROUNDINGS.iter().filter(|r| r.scale.is_none()) {
        matrix.inputs = Some(*rounding);
        for compute in [Compute::F32, Compute::Int8] {
            for fault in [f32::NAN, f32::INFINITY] {
                let mut x = vec![0.5; 2 * 24];
                x[3] = fault;
                let mut y = vec![0.0; 8];
                let w = Weight::packed(&matrix, compute, Isa::detect()).unwrap();
                matmul(&Cpu::single(), &x, &w, &mut y);
                assert!(y[..4].iter().all(|y| !y.is_finite()), "{rounding:?}: {y:?}");
                assert!(y[4..].iter().all(|y| y.is_finite()), "{rounding:?}: {y:?}");
            }
        }
    }
}

#[test]
fn unsound_matrices_are_refused() {
    let mut random = Random(16);
    let refused = |matrix: &QuantizedMatrix, word: &str| {
        let error = Weight::packed(matrix, Compute::F32, Isa::Scalar).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    };
    let mut table = tables(&mut random).swap_remove(0);
    if let Values::Table(m) = &mut table.values {
        m.values.pop();
    }
    refused(&table, "table of 15");
    let mut small = minifloats(&mut random).swap_remove(0);
    if let Values::Minifloat(m) = &mut small.values {
        m.bytes[3] = 0xff;
    }
    refused(&small, "weight [0, 3] is NaN");
    if let Values::Minifloat(m) = &mut small.values {
        m.bytes[3] = 0;
        m.scales = Floats::F32(vec![f32::INFINITY]);
    }
    refused(&small, "scale 0 is inf");
    let mut inputs = bytes_per_row(&mut random, 2, 8);
    inputs.inputs = Some(Inputs {
        scale: Some(0.0),
        ..ROUNDINGS[0]
    });
    refused(&inputs, "scale of the inputs");
}
