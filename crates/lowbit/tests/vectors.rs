//! RTN against scales, zero points and codes of compressed-tensors (`test/fixtures/make_vectors.py`).
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its fixture is not as written"
)]

use lowbit::container::safetensors;
use lowbit::layout::{Layout, compressed_tensors::CURRENT};
use lowbit::round::{RoundOptions, Weights, gptq::GptqOptions, observer::Observer, rtn};
use lowbit::{Cpu, Dtype, Isa, Scheme, Tensor};

const MODEL: &[u8] = include_bytes!("../../../models/novels-4m/model.safetensors");
const VECTORS: &[u8] = include_bytes!("../../../test/fixtures/vectors/rtn.safetensors");

fn tensors(file: &[u8]) -> Vec<Tensor> {
    let header = safetensors::parse(file, file.len() as u64).unwrap();
    let data = &file[header.data_start as usize..];
    header
        .entries
        .into_iter()
        .map(|e| Tensor {
            name: e.name,
            dtype: e.dtype,
            shape: e.shape,
            bytes: data[e.begin as usize..e.end as usize].to_vec(),
        })
        .collect()
}

/// A source of the vectors: values, rows, columns.
fn source(name: &str) -> (Vec<f32>, usize, usize) {
    let (file, tensor, rows) = match name {
        "k_proj" => (MODEL, "model.layers.0.self_attn.k_proj.weight", 32),
        "down_proj" => (MODEL, "model.layers.2.mlp.down_proj.weight", 12),
        _ => (VECTORS, "odd.weight", 17),
    };
    let all = tensors(file);
    let found = all.iter().find(|t| t.name == tensor).unwrap();
    let cols = found.shape[1];
    let mut values = found.view().unwrap().to_f32().unwrap();
    values.truncate(rows * cols);
    (values, rows, cols)
}

fn weights(values: &[f32], rows: usize, cols: usize) -> Weights<'_> {
    Weights {
        values,
        rows,
        cols,
        importance: None,
    }
}

/// Rounds as the name of a vector says; the tensors as they would be written.
fn encoded(prefix: &str, cpu: &Cpu) -> Vec<Tensor> {
    let words: Vec<_> = prefix.split('.').collect();
    let (values, rows, cols) = source(words[0]);
    let scheme: Scheme = words[1].parse().unwrap();
    let options = RoundOptions {
        observer: Observer::parse(words[3]).unwrap(),
        scale_dtype: if words[2] == "f32" {
            Dtype::F32
        } else {
            Dtype::BF16
        },
        gptq: GptqOptions::default(),
    };
    let matrix = rtn::round(weights(&values, rows, cols), &scheme, &options, cpu).unwrap();
    CURRENT
        .encode(prefix, &matrix, &scheme, Dtype::F32)
        .unwrap()
}

#[test]
fn rtn_equals_compressed_tensors() {
    let cpu = Cpu::single();
    let mut compared = 0;
    for want in tensors(VECTORS).iter().filter(|t| t.name != "odd.weight") {
        let prefix = want.name.rsplit_once('.').unwrap().0;
        let found = encoded(prefix, &cpu);
        let found = found.iter().find(|t| t.name == want.name).unwrap();
        assert_eq!(
            (found.dtype, &found.shape),
            (want.dtype, &want.shape),
            "{}",
            want.name
        );
        let differing = found
            .bytes
            .iter()
            .zip(&want.bytes)
            .filter(|(a, b)| a != b)
            .count();
        assert_eq!(differing, 0, "{}: of {} bytes", want.name, want.bytes.len());
        compared += 1;
    }
    assert_eq!(compared, 166);
}

#[test]
fn threads_and_instruction_sets_do_not_matter() {
    for prefix in [
        "down_proj.w4g128-asym.bf16.mse",
        "odd.w3.f32.mse",
        "k_proj.w8.f32.minmax",
    ] {
        let want = encoded(prefix, &Cpu::with_isa(Isa::Scalar));
        for (_, isa) in Isa::ALL.iter().filter(|(_, isa)| isa.available()) {
            for threads in [1, 2, 5] {
                let cpu = Cpu::new(*isa, threads).unwrap();
                assert_eq!(encoded(prefix, &cpu), want, "{prefix} {cpu:?}");
            }
        }
    }
}

#[test]
fn the_first_weight_that_is_not_finite_is_named() {
    let cpu = Cpu::new(Isa::detect(), 2).unwrap();
    let (rows, cols) = (700, 256);
    let options = RoundOptions {
        observer: Observer::Mse,
        scale_dtype: Dtype::F16,
        gptq: GptqOptions::default(),
    };
    let scheme = "w4g128".parse().unwrap();
    let mut values = vec![0.5; rows * cols];
    let round = |values: &[f32]| rtn::round(weights(values, rows, cols), &scheme, &options, &cpu);
    values[3 * cols + 7] = 1.0e6;
    values[3 * cols + 8] = 0.0;
    let error = round(&values).unwrap_err();
    assert_eq!(
        (error.code.name(), error.what.as_str()),
        ("qparam", "a scale of row 3 does not fit")
    );
    values[600 * cols + 1] = f32::NAN;
    values[2 * cols + 255] = f32::NEG_INFINITY;
    let error = round(&values).unwrap_err();
    let found = (error.code.name(), error.what.as_str());
    assert_eq!(found, ("nonfinite-weight", "weight [2, 255] is -inf"));
}
