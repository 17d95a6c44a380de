//! Loading a checkpoint whose linears are quantized.

mod support;

use lowbit::cpu::{Compute, Cpu};
use lowbit::layout::{self, Layout, compressed_tensors::CURRENT};
use lowbit::matrix::Inputs;
use lowbit::model::config::Config;
use lowbit::model::load::Loader;
use lowbit::model::weights;
use lowbit::round::gptq::GptqOptions;
use lowbit::round::observer::Observer;
use lowbit::round::{RoundOptions, Weights, hqq, rtn};
use lowbit::scheme::ZeroPoint;
use lowbit::tensor::{Dtype, Tensor, bytes_from_f32};
use lowbit::{Code, Scheme};
use support::{Checkpoint, Sequence};

/// The format that most tests are in.
const CT: &str = "compressed-tensors";

/// Every linear of `name` rounded: in a format, and as the floats that it stands for.
fn rounded(name: &str, scheme: &str, format: &str) -> (Checkpoint, Checkpoint) {
    let cpu = Cpu::single();
    let scheme: Scheme = scheme.parse().expect("a scheme");
    let layout = layout::find(format).expect("a format");
    let (mut packed, mut dense) = (Checkpoint::open(name), Checkpoint::open(name));
    let config = Config::from_json(&packed.source.config).expect("a config");
    let options = RoundOptions {
        observer: Observer::MinMax,
        scale_dtype: Dtype::BF16,
        gptq: GptqOptions::default(),
    };
    let mut assignment = Vec::new();
    let mut ignored = vec!["lm_head".to_owned()];
    for linear in (0..config.layers).flat_map(|layer| weights::linears(&config, layer)) {
        if !linear.quantizable {
            ignored.push(linear.module);
            continue;
        }
        let source = packed.tensors.remove(&linear.weight).expect("a weight");
        let floats = source.view().and_then(|t| t.to_f32()).expect("floats");
        let (rows, cols) = (linear.rows, linear.cols);
        let source = Weights {
            values: &floats,
            rows,
            cols,
            importance: None,
        };
        let round = match scheme.zero {
            ZeroPoint::Float => hqq::round,
            _ => rtn::round,
        };
        let mut matrix = round(source, &scheme, &options, &cpu).expect("codes");
        matrix.inputs = Inputs::of(&scheme);
        for tensor in layout
            .encode(&linear.module, &matrix, &scheme, Dtype::F32)
            .expect("tensors")
        {
            packed.tensors.insert(tensor.name.clone(), tensor);
        }
        let mut values = vec![0.0; rows * cols];
        for (row, out) in values.chunks_mut(cols).enumerate() {
            matrix.dequantize_row(row, out).expect("a row");
        }
        let bytes = bytes_from_f32(Dtype::F32, &values).expect("bytes");
        let (name, shape) = (linear.weight, vec![rows, cols]);
        dense.add(Tensor {
            name,
            dtype: Dtype::F32,
            shape,
            bytes,
        });
        assignment.push((linear.module, scheme));
    }
    packed.source.config["quantization_config"] = layout.config(&assignment, &ignored, false);
    packed.list();
    dense.list();
    (packed, dense)
}

#[test]
fn codes_give_the_logits_of_the_floats_that_they_stand_for() {
    let cpu = Cpu::new(lowbit::Isa::detect(), 2).expect("threads");
    for (name, scheme, format) in [
        ("tiny-llama", "w4g32", CT),
        ("tiny-llama-linear", "w8", CT),
        ("tiny-qwen3", "w3g32-asym", CT),
        ("tiny-mixtral", "w4g16", CT),
        ("tiny-qwen2-moe", "w8", CT),
        ("tiny-qwen3-moe", "w8", CT),
        ("tiny-qwen2-window", "w8", CT),
        ("tiny-gemma2", "w4g16", CT),
        ("tiny-gemma3", "w3g32-asym", CT),
        ("tiny-phi3", "w8", CT),
        ("tiny-glm4", "w4", CT),
        ("tiny-granite", "w4g32", CT),
        ("tiny-olmo2", "w4g16", CT),
        ("tiny-smollm3", "w4g32-asym", CT),
        ("tiny-deepseek-v2", "w8", CT),
        ("tiny-deepseek-v3", "w4", CT),
        ("tiny-qwen2-vl", "w4g16", CT),
        ("tiny-qwen3-vl", "w4g16", CT),
        ("tiny-gemma3-vision", "w8", CT),
        ("tiny-qwen3", "w4g32", "gptq"),
        ("tiny-qwen3", "w2g32-asym", "gptq-v2"),
        ("tiny-llama", "w4g32-asym", "awq"),
        ("tiny-qwen3", "w8", "bitsandbytes"),
        ("tiny-qwen3", "w4g32-float", "hqq"),
        ("tiny-llama", "w3g32-float", "hqq"),
    ] {
        let (packed, dense) = rounded(name, scheme, format);
        let tokens: Vec<u32> = (2..40).collect();
        let logits = |c: &Checkpoint| {
            let model = c.load(&cpu, Compute::F32).expect("a model");
            Sequence::new(&cpu, &model).logits(&tokens)
        };
        let (packed, dense) = (logits(&packed), logits(&dense));
        let differences = packed.iter().zip(&dense).map(|(a, b)| (a - b).abs());
        let worst = differences.fold(0.0, f32::max);
        assert!(worst <= 1e-4, "{name} {scheme} {format}: {worst:e}");
    }
}

#[test]
fn rounded_inputs_give_the_same_logits_as_integers() {
    let cpu = Cpu::new(lowbit::Isa::detect(), 2).expect("threads");
    let (packed, dense) = rounded("tiny-llama", "w8a8", CT);
    let tokens: Vec<u32> = (2..40).collect();
    let logits = |c: &Checkpoint, compute| {
        let model = c.load(&cpu, compute).expect("a model");
        Sequence::new(&cpu, &model).logits(&tokens)
    };
    let floats = logits(&packed, Compute::F32);
    let integers = logits(&packed, Compute::Int8);
    let plain = logits(&dense, Compute::F32);
    let worst = |a: &[f32], b: &[f32]| {
        let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
        differences.fold(0.0, f32::max)
    };
    let largest = plain.iter().fold(0.0f32, |a, b| a.max(b.abs()));
    // Sums in another order may move an input of a later layer across a rounding border.
    let (same, rounding) = (worst(&floats, &integers), worst(&floats, &plain));
    assert!(same <= 0.02 * largest, "{same:e} of {largest:e}");
    assert!(
        rounding > 1e-3 * largest,
        "inputs are rounded: {rounding:e} of {largest:e}"
    );
}

#[test]
fn a_missing_part_is_named_before_anything_is_read() {
    let (mut packed, _) = rounded("tiny-qwen3", "w4g32", CT);
    let name = "model.layers.1.mlp.up_proj.weight_scale";
    packed.tensors.remove(name);
    packed.list();
    let e = Loader::new(&packed.source).unwrap_err();
    assert_eq!(e.code, Code::MissingTensor);
    assert!(e.to_string().contains(name), "{e}");
}

#[test]
fn a_matrix_of_other_sizes_than_the_config_is_refused() {
    let cpu = Cpu::single();
    let (mut packed, _) = rounded("tiny-qwen3", "w4g32", CT);
    let module = "model.layers.0.self_attn.q_proj";
    let other = "model.layers.0.self_attn.k_proj";
    for part in CURRENT.parts() {
        if let Some(mut tensor) = packed.tensors.get(&format!("{other}.{part}")).cloned() {
            tensor.name = format!("{module}.{part}");
            packed.add(tensor);
        }
    }
    packed.list();
    let e = packed.load(&cpu, Compute::F32).unwrap_err();
    assert_eq!(e.code, Code::Shape, "{e}");
    assert!(e.to_string().contains(module), "{e}");
}

#[test]
fn another_tools_method_is_unsupported_by_name() {
    let mut checkpoint = Checkpoint::open("tiny-qwen3");
    checkpoint.source.config["quantization_config"] = serde_json::json!({ "quant_method": "quip" });
    let e = Loader::new(&checkpoint.source).unwrap_err();
    assert_eq!(e.code, Code::Unsupported);
    assert!(e.to_string().contains("quip"), "{e}");
}
