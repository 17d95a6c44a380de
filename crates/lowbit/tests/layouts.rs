//! Every layout against matrices that the reference tools wrote (`test/fixtures/make_layouts.py` and
//! `make_gptq.py`), both ways bit for bit.
//!
//! | layout                                                   | tool                     |
//! | -------------------------------------------------------- | ------------------------ |
//! | compressed-tensors: pack, int, float, naive, nvfp4, mxfp4 | compressed-tensors 0.19  |
//! | GPTQ 1 and 2 (2, 3, 4, 8 bits, by index), AWQ GEMM        | GPTQModel 7.7            |
//! | bitsandbytes NF4, FP4, both with nested scales, INT8      | bitsandbytes 0.50        |
//! | HQQ 2, 3, 4, 8 bits                                       | hqq 0.2.8                |
//! | Hugging Face FP8, EETQ, AQLM, AWQ GEMV                    | their definitions, below |
//!
//! The definitions are followed one weight at a time in `layout/golden_tests.rs` (EETQ, GEMV, the
//! known words of GPTQ and AWQ), `layout/aqlm_tests.rs` and here (FP8). The known words of
//! compressed-tensors before and since 0.18 are in `layout/compressed_tensors/pack_tests.rs`, those of
//! bitsandbytes in `layout/golden_tests.rs` too, those of GGUF in `tests/gguf.rs` and `gguf/codec_tests.rs`.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its fixture is not as written"
)]

use lowbit::container::safetensors;
use lowbit::kernels::matmul::activations::fake_quantize;
use lowbit::layout::{self, Layout};
use lowbit::matrix::{Inputs, QuantizedMatrix};
use lowbit::scheme::Element;
use lowbit::{Cpu, Dtype, Scheme, Tensor};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const VECTORS: [&[u8]; 2] = [
    include_bytes!("../../../test/fixtures/vectors/layouts.safetensors"),
    include_bytes!("../../../test/fixtures/vectors/gptq.safetensors"),
];

/// The tensors of one matrix by the name of their part.
type Case = BTreeMap<String, Tensor>;

/// Cases by layout and scheme.
fn cases() -> BTreeMap<(String, String), Case> {
    VECTORS.iter().flat_map(|file| cases_of(file)).collect()
}

fn cases_of(file: &[u8]) -> BTreeMap<(String, String), Case> {
    let header = safetensors::parse(file, file.len() as u64).unwrap();
    let data = &file[header.data_start as usize..];
    let mut cases: BTreeMap<_, Case> = BTreeMap::new();
    for entry in header.entries {
        let [layout, scheme, part]: [&str; 3] = entry
            .name
            .split('/')
            .collect::<Vec<_>>()
            .try_into()
            .unwrap();
        let tensor = Tensor {
            name: format!("base.{part}"),
            dtype: entry.dtype,
            shape: entry.shape,
            bytes: data[entry.begin as usize..entry.end as usize].to_vec(),
        };
        let case = cases.entry((layout.into(), scheme.into())).or_default();
        case.insert(part.into(), tensor);
    }
    cases
}

/// Cases of matrices rather than of inputs, with what reads them.
fn matrices() -> Vec<(&'static dyn Layout, Scheme, Case, String)> {
    let of_layout = |((layout, scheme), mut case): ((String, String), Case)| {
        let found = layout::find(&layout).ok()?;
        let what = format!("{layout} {scheme}");
        let config = case.remove("config");
        // Names of compressed-tensors' formats are in the config only.
        let config = config.map(|t| serde_json::from_slice(&t.bytes).unwrap());
        let resolver = config.map(|config: Value| found.detect(&config).unwrap().unwrap());
        let rule = resolver.as_ref().map(|r| r.rule("base").unwrap());
        // Behind the scheme may stand what it does not say.
        let own = scheme.split(' ').next().unwrap_or_default();
        let parsed: Scheme = own.parse().unwrap();
        if let Some(rule) = rule {
            assert_eq!(rule.scheme, parsed, "{what}: the scheme of the config");
        }
        Some((rule.map_or(found, |r| r.layout), parsed, case, what))
    };
    cases().into_iter().filter_map(of_layout).collect()
}

fn decode(layout: &dyn Layout, scheme: &Scheme, case: &Case) -> QuantizedMatrix {
    let tensors = case.iter().filter(|(part, _)| *part != "dense");
    let tensors: Vec<_> = tensors.map(|(_, t)| t.clone()).collect();
    layout.decode("base", scheme, &tensors).unwrap()
}

/// The type of the original, where the tensors tell it.
fn original(case: &Case) -> Dtype {
    let state = case.iter().find(|(part, _)| part.contains("quant_state"));
    let Some((_, state)) = state else {
        return Dtype::F32;
    };
    let json: Value = serde_json::from_slice(&state.bytes).unwrap();
    match json["dtype"].as_str().unwrap() {
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        _ => Dtype::F32,
    }
}

#[test]
fn values_are_those_that_the_reference_restores() {
    let all = matrices();
    assert_eq!(all.len(), 43);
    for (layout, scheme, case, what) in all {
        let matrix = decode(layout, &scheme, &case);
        let dense = case["dense"].view().unwrap().to_f32().unwrap();
        let mut row = vec![0.0; matrix.cols];
        for (r, wanted) in dense.chunks_exact(matrix.cols).enumerate() {
            matrix.dequantize_row(r, &mut row).unwrap();
            assert_eq!(row, wanted, "{what}: row {r}");
        }
        assert_eq!(dense.len(), matrix.rows * matrix.cols, "{what}");
    }
}

#[test]
fn encoding_gives_the_bytes_that_were_read() {
    for (layout, scheme, case, what) in matrices() {
        let matrix = decode(layout, &scheme, &case);
        let tensors = layout
            .encode("base", &matrix, &scheme, original(&case))
            .unwrap();
        for found in &tensors {
            let part = found.name.strip_prefix("base.").unwrap();
            let wanted = &case[part];
            assert_eq!(found.dtype, wanted.dtype, "{what}: {part}");
            if part.contains("quant_state") {
                // But for the padding.
                let found = found.bytes.trim_ascii_end();
                assert!(found == wanted.bytes, "{what}: {part}");
                continue;
            }
            assert_eq!(found.shape, wanted.shape, "{what}: {part}");
            assert!(found.bytes == wanted.bytes, "{what}: bytes of {part}");
        }
        assert_eq!(tensors.len(), case.len() - 1, "{what}: number of tensors");
    }
}

#[test]
fn plans_and_configs_agree_with_what_is_written() {
    for (_, scheme, case, what) in matrices() {
        // As it is written, not as it was read: each scheme in the format that is its own.
        let layout = layout::find(what.split(' ').next().unwrap()).unwrap();
        let matrix = decode(layout, &scheme, &case);
        let tensors = layout
            .encode("base", &matrix, &scheme, original(&case))
            .unwrap();
        let shape = (matrix.rows, matrix.cols);
        let scale = tensors
            .iter()
            .find(|t| t.name.ends_with("scale") || t.name.ends_with(".scales"));
        let dtype = scale.map_or(original(&case), |t| t.dtype);
        let planned = layout.outputs("base", &scheme, shape, dtype, false);
        assert_eq!(planned.len(), tensors.len(), "{what}");
        for (p, t) in planned.iter().zip(&tensors) {
            assert_eq!(
                (&p.name, p.dtype, &p.shape),
                (&t.name, t.dtype, &t.shape),
                "{what}"
            );
            t.view().unwrap();
            let part = t.name.strip_prefix("base.").unwrap();
            assert!(layout.parts().contains(&part), "{what}: {part}");
        }
        let config = layout.config(&[("base".into(), scheme)], &["lm_head".into()], false);
        let found = layout::detect(&json!({ "quantization_config": config }))
            .unwrap()
            .unwrap();
        assert_eq!(found.scheme("base"), Some(scheme), "{what}");
        assert_eq!(found.layout.name(), layout.name());
    }
}

#[test]
fn schemes_go_to_the_layout_that_holds_them() {
    for (scheme, layout) in [
        ("w4g128", "compressed-tensors"),
        ("w8a8", "compressed-tensors"),
        ("fp8a8b128x128", "compressed-tensors"),
        ("nvfp4", "compressed-tensors"),
        ("mxfp4", "compressed-tensors"),
        ("nf4", "bitsandbytes"),
        ("fp4-dq", "bitsandbytes"),
        ("w4g64-float", "hqq"),
    ] {
        let found = layout::default_for(&scheme.parse().unwrap()).unwrap();
        assert_eq!(found.name(), layout, "{scheme}");
    }
    let error = layout::default_for(&"w4b16x16".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains("w4b16x16"), "{error}");
}

#[test]
fn inputs_are_rounded_as_compressed_tensors_does() {
    let cpu = Cpu::single();
    let mut compared = 0;
    for ((kind, name), case) in cases() {
        if kind != "inputs" {
            continue;
        }
        let scheme: Scheme = name.parse().unwrap();
        let mut inputs = Inputs::of(&scheme).unwrap();
        assert_eq!(
            inputs.element == Element::Int,
            scheme.element == Element::Int
        );
        if !scheme.activations.unwrap().dynamic {
            let fixed = if inputs.element == Element::Nvfp4 {
                44.8
            } else {
                0.0123
            };
            inputs.scale = Some(fixed);
        }
        let values = |part: &str| case[part].view().unwrap().to_f32().unwrap();
        let cols = case["x"].shape[1];
        let found = fake_quantize(&cpu, &values("x"), cols, &inputs);
        assert_eq!(found, values("y"), "{name}");
        compared += 1;
    }
    assert_eq!(compared, 6);
}
