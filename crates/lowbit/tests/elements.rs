//! Every element, HQQ and the weighted observer against the tools that define them
//! (`test/fixtures/make_element_vectors.py`).
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its fixture is not as written"
)]

use lowbit::container::safetensors;
use lowbit::matrix::{Floats, QuantizedMatrix, Scales, Values, Zero};
use lowbit::round::{RoundOptions, Weights, gptq::GptqOptions, hqq, observer::Observer, rtn};
use lowbit::{Cpu, Dtype, Isa, Scheme, Tensor};
use std::collections::BTreeMap;

const VECTORS: &[u8] = include_bytes!("../../../test/fixtures/vectors/elements.safetensors");

fn vectors() -> BTreeMap<String, Tensor> {
    let header = safetensors::parse(VECTORS, VECTORS.len() as u64).unwrap();
    let data = &VECTORS[header.data_start as usize..];
    let tensor = |e: safetensors::Entry| {
        let bytes = data[e.begin as usize..e.end as usize].to_vec();
        let (name, dtype, shape) = (e.name, e.dtype, e.shape);
        (
            name.clone(),
            Tensor {
                name,
                dtype,
                shape,
                bytes,
            },
        )
    };
    header.entries.into_iter().map(tensor).collect()
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.view().unwrap().to_f32().unwrap()
}

/// The rows of `odd` that HQQ is given: without those whose range it does not keep.
const HQQ_ROWS: [usize; 8] = [0, 1, 2, 3, 4, 8, 9, 10];

/// Rounds as a prefix `source.scheme.scales.observer` says.
fn rounded(all: &BTreeMap<String, Tensor>, prefix: &str, cpu: &Cpu) -> QuantizedMatrix {
    let words: Vec<_> = prefix.split('.').collect();
    let source = &all[&format!("{}.weight", words[0])];
    let (mut values, cols) = (floats(source), source.shape[1]);
    if words[3] == "hqq" && words[0] == "odd" {
        let row = |r: &usize| values[r * cols..][..cols].to_vec();
        values = HQQ_ROWS.iter().flat_map(row).collect();
    }
    let importance = all.get(&format!("{}.importance", words[0])).map(floats);
    let weights = Weights {
        values: &values,
        rows: values.len() / cols,
        cols,
        importance: importance.as_deref(),
    };
    let options = RoundOptions {
        observer: Observer::parse(words[3]).unwrap_or(Observer::MinMax),
        scale_dtype: match words[2] {
            "bf16" => Dtype::BF16,
            _ => Dtype::F32,
        },
        gptq: GptqOptions::default(),
    };
    let scheme: Scheme = words[1].parse().unwrap();
    let round = if words[3] == "hqq" {
        hqq::round
    } else {
        rtn::round
    };
    round(weights, &scheme, &options, cpu).unwrap()
}

/// Codes one byte each, row by row.
fn codes(matrix: &QuantizedMatrix) -> Vec<u8> {
    let codes = match &matrix.values {
        Values::Integer(m) => &m.codes,
        Values::Table(m) => &m.codes,
        Values::Minifloat(m) => return m.bytes.clone(),
        Values::Codebooks(_) => panic!("no rounder makes codebooks"),
    };
    let mut out = vec![0; matrix.rows * matrix.cols];
    for (r, row) in out.chunks_mut(matrix.cols).enumerate() {
        codes.row(r, row);
    }
    out
}

fn scales(matrix: &QuantizedMatrix) -> &Scales {
    match &matrix.values {
        Values::Integer(m) => &m.scales,
        Values::Table(m) => &m.scales,
        Values::Minifloat(_) | Values::Codebooks(_) => panic!("its scales are plain"),
    }
}

/// Bytes of one part of a matrix, as the vectors hold it.
fn part(matrix: &QuantizedMatrix, name: &str) -> Vec<u8> {
    let wide = |values: Vec<f32>| values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let plain = |f: &Floats| wide((0..f.len()).map(|i| f.get(i)).collect());
    match (name, &matrix.values) {
        ("codes", _) => codes(matrix),
        ("scales", Values::Minifloat(m)) => plain(&m.scales),
        _ => match (name, scales(matrix)) {
            ("scales", Scales::Flat(f @ Floats::E8m0(_)) | Scales::Divided { values: f, .. }) => {
                f.to_bytes()
            }
            ("scales", Scales::Flat(f)) => plain(f),
            ("divisor", Scales::Divided { divisor, .. }) => wide(vec![*divisor]),
            ("scales", Scales::Nested(n)) => n.codes.clone(),
            ("map", Scales::Nested(n)) => wide(n.map.clone()),
            ("nested", Scales::Nested(n)) => wide(n.absmax.clone()),
            ("offset", Scales::Nested(n)) => wide(vec![n.offset]),
            other => panic!("no part {other:?}"),
        },
    }
}

/// Parts of a vector by its prefix.
fn by_prefix(all: &BTreeMap<String, Tensor>) -> BTreeMap<&str, Vec<&Tensor>> {
    let mut found: BTreeMap<&str, Vec<&Tensor>> = BTreeMap::new();
    for (name, tensor) in all.iter().filter(|(n, _)| n.matches('.').count() == 4) {
        let prefix = name.rsplit_once('.').unwrap().0;
        found.entry(prefix).or_default().push(tensor);
    }
    found
}

/// Whether a vector is HQQ's, by the last part of its name.
fn is_hqq(prefix: &str) -> bool {
    prefix.rsplit('.').next() == Some("hqq")
}

#[test]
fn elements_equal_the_reference_tools() {
    let (all, cpu) = (vectors(), Cpu::single());
    let mut wrong = Vec::new();
    let mut compared = 0;
    for (prefix, parts) in by_prefix(&all) {
        if is_hqq(prefix) {
            continue;
        }
        let matrix = rounded(&all, prefix, &cpu);
        matrix.validate().unwrap();
        for tensor in parts {
            let name = tensor.name.rsplit_once('.').unwrap().1;
            let found = part(&matrix, name);
            let width = tensor.dtype.bits() / 8;
            let pairs = found.chunks(width).zip(tensor.bytes.chunks(width));
            let differing = pairs.filter(|(a, b)| a != b).count();
            if found.len() != tensor.bytes.len() || differing > 0 {
                wrong.push(format!("{}: {differing} differ", tensor.name));
            }
            compared += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(compared, 78);
}

#[test]
fn hqq_equals_the_tool() {
    let (all, cpu) = (vectors(), Cpu::single());
    let mut compared = 0;
    for (prefix, parts) in by_prefix(&all) {
        if !is_hqq(prefix) {
            continue;
        }
        let matrix = rounded(&all, prefix, &cpu);
        let Values::Integer(m) = &matrix.values else {
            panic!("HQQ gives integers");
        };
        let Zero::Float(zeros) = &m.zero else {
            panic!("HQQ has float zeros");
        };
        for tensor in parts {
            let want = match tensor.dtype {
                Dtype::U8 => tensor.bytes.iter().map(|c| f32::from(*c)).collect(),
                _ => floats(tensor),
            };
            let (found, near): (Vec<f32>, f32) = match tensor.name.rsplit_once('.').unwrap().1 {
                "codes" => (codes(&matrix).into_iter().map(f32::from).collect(), 0.0),
                "scales" => ((0..want.len()).map(|i| m.scales.get(i)).collect(), 0.0),
                _ => ((0..want.len()).map(|i| zeros.get(i)).collect(), 1e-4),
            };
            // Sums are added in another order, so that a group may take one turn more or less.
            let far = found
                .iter()
                .zip(&want)
                .filter(|(a, b)| (*a - *b).abs() > near);
            let (far, name) = (far.count(), &tensor.name);
            assert!(far * 100 <= want.len(), "{name}: {far} of {}", want.len());
            assert!(far == 0 || !name.ends_with("scales"), "{name}: {far}");
            compared += 1;
        }
    }
    assert_eq!(compared, 18);
}

#[test]
fn threads_and_instruction_sets_do_not_matter() {
    let all = vectors();
    for prefix in [
        "odd.nf4.own.minmax",
        "odd.nvfp4.own.minmax",
        "odd.fp8b32x128.bf16.minmax",
        "down_proj.w3g128-float.f32.hqq",
        "down_proj.w4g128-asym.bf16.imatrix-mse",
    ] {
        let want = rounded(&all, prefix, &Cpu::with_isa(Isa::Scalar));
        for (_, isa) in Isa::ALL.iter().filter(|(_, isa)| isa.available()) {
            for threads in [1, 3] {
                let cpu = Cpu::new(*isa, threads).unwrap();
                assert_eq!(rounded(&all, prefix, &cpu), want, "{prefix} {cpu:?}");
            }
        }
    }
}
