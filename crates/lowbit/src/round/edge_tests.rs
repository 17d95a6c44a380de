//! Shapes and values at the edges, for every rounder that needs no data.

use super::testing::noise;
use super::{RoundOptions, Weights, gptq::GptqOptions, hqq, observer::Observer, rtn};
use crate::cpu::Cpu;
use crate::error::Result;
use crate::matrix::QuantizedMatrix;
use crate::scheme::{Element, Scheme};
use crate::tensor::Dtype;

/// Method and scheme; the second list needs rows of whole blocks of 64.
const ANY: &[(&str, &str)] = &[
    ("rtn", "w4"),
    ("rtn", "w3-asym"),
    ("rtn", "w2"),
    ("rtn", "w8-asym"),
    ("hqq", "w4-float"),
    ("hqq", "w3-asym"),
    ("hqq", "w8-float"),
    ("rtn", "fp8"),
    ("rtn", "fp8t"),
    ("rtn", "fp8b32x64"),
];
const BLOCKS: &[(&str, &str)] = &[
    ("rtn", "w4g32"),
    ("hqq", "w2g64-float"),
    ("rtn", "nf4"),
    ("rtn", "nf4-dq"),
    ("rtn", "fp4flat32"),
    ("rtn", "mxfp4"),
    ("rtn", "nvfp4"),
];
const SHAPES: &[(usize, usize)] = &[(1, 1), (1, 31), (31, 33), (33, 127), (127, 1), (2, 4097)];
const BLOCK_SHAPES: &[(usize, usize)] = &[(1, 64), (31, 192), (127, 64), (2, 4160)];

/// Method and scheme, rows and columns.
type Case = ((&'static str, Scheme), (usize, usize));

/// Every scheme with every shape that it takes.
fn cases() -> impl Iterator<Item = Case> {
    every(ANY, SHAPES).chain(every(BLOCKS, BLOCK_SHAPES))
}

fn every(
    names: &'static [(&'static str, &'static str)],
    shapes: &'static [(usize, usize)],
) -> impl Iterator<Item = Case> {
    names.iter().flat_map(move |(method, name)| {
        let scheme: Scheme = name.parse().unwrap();
        shapes.iter().map(move |shape| ((*method, scheme), *shape))
    })
}

fn round(
    (method, scheme): (&str, Scheme),
    (rows, cols): (usize, usize),
    values: &[f32],
    (observer, scale_dtype): (Observer, Dtype),
) -> Result<QuantizedMatrix> {
    let options = RoundOptions {
        observer,
        scale_dtype,
        gptq: GptqOptions::default(),
    };
    let weights = Weights {
        values,
        rows,
        cols,
        importance: None,
    };
    let round = if method == "hqq" {
        hqq::round
    } else {
        rtn::round
    };
    round(weights, &scheme, &options, &Cpu::single())
}

fn dense(m: &QuantizedMatrix) -> Vec<f32> {
    m.validate().unwrap();
    let mut out = vec![0.0; m.rows * m.cols];
    for (r, row) in out.chunks_mut(m.cols).enumerate() {
        m.dequantize_row(r, row).unwrap();
    }
    out
}

const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::BF16, Dtype::F16];

#[test]
fn constants_and_zeros_come_back_exactly() {
    for ((method, scheme), shape) in cases() {
        let micro = matches!(scheme.element, Element::Mxfp4 | Element::Nvfp4);
        for dtype in DTYPES {
            for c in [0.0, 0.3125, -0.3125] {
                if c != 0.0 && (micro || scheme.nested) {
                    continue;
                }
                let values = vec![c; shape.0 * shape.1];
                let m = round((method, scheme), shape, &values, (Observer::MinMax, dtype));
                assert_eq!(
                    dense(&m.unwrap()),
                    values,
                    "{method} {scheme} {shape:?} {dtype:?}"
                );
            }
        }
    }
}

#[test]
fn tiny_weights_stay_finite_and_others_near() {
    for ((method, scheme), shape) in cases() {
        let plain = noise(3, shape.0 * shape.1);
        for dtype in DTYPES {
            for observer in [Observer::MinMax, Observer::ImatrixMse] {
                let rounded = |values: &[f32]| {
                    let m = round((method, scheme), shape, values, (observer, dtype));
                    dense(&m.unwrap())
                };
                for small in [1e-44, 1e-30, 1e-7] {
                    let values: Vec<f32> = plain.iter().map(|w| w * small).collect();
                    let all = rounded(&values);
                    assert!(
                        all.iter().all(|v| v.is_finite()),
                        "{method} {scheme} {small:e}"
                    );
                }
                let absmax = plain.iter().fold(0.0f32, |m, w| m.max(w.abs()));
                for (q, w) in rounded(&plain).iter().zip(&plain) {
                    let far = (q - w).abs();
                    assert!(
                        far <= 0.8 * absmax,
                        "{method} {scheme} {shape:?}: {w} became {q}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_first_weight_that_is_not_finite_is_named() {
    for ((method, scheme), shape) in cases().filter(|(_, (rows, _))| *rows > 30) {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = noise(5, shape.0 * shape.1);
            values[30 * shape.1] = bad;
            let end = round(
                (method, scheme),
                shape,
                &values,
                (Observer::Mse, Dtype::F32),
            );
            let error = end.unwrap_err();
            assert_eq!(error.code.name(), "nonfinite-weight", "{method} {scheme}");
            assert_eq!(
                error.what,
                format!("weight [30, 0] is {bad}"),
                "{method} {scheme}"
            );
        }
    }
}

#[test]
fn what_a_method_cannot_do_is_said() {
    let values = [0.5f32; 64];
    let refused = |method, scheme: &str| {
        let scheme = scheme.parse().unwrap();
        let end = round(
            (method, scheme),
            (1, 64),
            &values,
            (Observer::MinMax, Dtype::F32),
        );
        end.unwrap_err().remedy
    };
    assert_eq!(refused("hqq", "w4"), "use w4-asym or w4-float");
    assert_eq!(refused("rtn", "w4-float"), "use --method hqq");
    assert_eq!(refused("rtn", "w4g48"), "use w4g32");
    assert_eq!(refused("rtn", "w4t"), "use a scale per row or per group");
}

#[test]
fn rows_that_share_scales_are_rounded_together() {
    let rows = |scheme: &str| rtn::rows_together(&scheme.parse().unwrap(), 500);
    let found = [
        "w4g128",
        "fp8",
        "fp8b128x128",
        "fp8t",
        "nvfp4",
        "mxfp4",
        "nf4",
        "nf4-dq",
    ];
    assert_eq!(found.map(rows), [1, 1, 128, 500, 500, 1, 1, 500]);
}
