//! The forward pass against transformers in f32: logits, greedy tokens, perplexity.
#![allow(clippy::print_stdout, reason = "the worst difference is worth seeing")]

mod support;

use lowbit::Tensor;
use lowbit::cpu::{Compute, Cpu, Isa};
use lowbit::evaluate::score_window;
use lowbit::model::config::Config;
use lowbit::model::rotary::frequencies;
use std::collections::BTreeMap;
use support::{Checkpoint, Sequence, eval_tokens, ids, root, tensors};

const TINY: &[&str] = &[
    "tiny-llama",
    "tiny-llama-linear",
    "tiny-mistral",
    "tiny-qwen2",
    "tiny-qwen3",
    "tiny-mixtral",
    "tiny-qwen2-moe",
    "tiny-qwen3-moe",
    "tiny-qwen2-window",
    "tiny-gemma2",
    "tiny-gemma3",
    "tiny-phi3",
    "tiny-glm4",
    "tiny-granite",
    "tiny-olmo2",
    "tiny-smollm3",
    "tiny-deepseek-v2",
    "tiny-deepseek-v3",
    "tiny-qwen2-vl",
    "tiny-qwen3-vl",
    "tiny-gemma3-vision",
];

fn fixture(name: &str) -> BTreeMap<String, Tensor> {
    tensors(&root("test/fixtures").join(format!("{name}.safetensors")))
}

fn worst(found: &[f32], wanted: &Tensor) -> f32 {
    let wanted = wanted.view().and_then(|t| t.to_f32()).expect("floats");
    assert_eq!(found.len(), wanted.len());
    let differences = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs());
    differences.fold(
        0.0,
        |worst, d| if d > worst || d.is_nan() { d } else { worst },
    )
}

/// Logits in one go and in pieces (3 tokens, 1, the rest), and greedy tokens one by one.
fn check(name: &str, prefix: &str, fixture: &BTreeMap<String, Tensor>, isa: Isa, prompt: usize) {
    let cpu = Cpu::new(isa, 2).expect("threads");
    let model = Checkpoint::open(name)
        .load(&cpu, Compute::F32)
        .expect("a model");
    let get = |key: &str| &fixture[&format!("{prefix}{key}")];
    let tokens = ids(get("tokens"));

    let whole = Sequence::new(&cpu, &model).logits(&tokens);
    let mut sequence = Sequence::new(&cpu, &model);
    let pieces = [&tokens[..3], &tokens[3..4], &tokens[4..]];
    let pieces: Vec<f32> = pieces.iter().flat_map(|p| sequence.logits(p)).collect();
    for (way, logits) in [("whole", whole), ("in pieces", pieces)] {
        let worst = worst(&logits, get("logits"));
        println!("{name} {prefix} {} {way}: worst {worst:.2e}", isa.name());
        assert!(worst <= 1e-4, "{name} {prefix} {way}: {worst:e} off");
    }

    let wanted = ids(get("greedy"));
    let mut sequence = Sequence::new(&cpu, &model);
    let mut found = vec![sequence.next(&tokens[..prompt])];
    while found.len() < wanted.len() {
        found.push(sequence.next(&found[found.len() - 1..]));
    }
    assert_eq!(found, wanted, "{name} {prefix} greedy");
}

/// Bits of `model.rotary_emb.inv_freq` in transformers 5.17.0.
const FREQUENCIES: &[(&str, &[u32])] = &[
    (
        "tiny-llama",
        &[
            0x3f80_0000,
            0x3ea1_e89b,
            0x3dcc_cccd,
            0x3bd8_b2c3,
            0x3aa3_d70a,
            0x39cf_3e38,
            0x3903_126f,
            0x3825_cb60,
        ],
    ),
    (
        "tiny-llama-linear",
        &[
            0x3e80_0000,
            0x3d3a_6d00,
            0x3c07_c291,
            0x3ac5_ba55,
            0x398f_fd93,
        ],
    ),
    (
        "tiny-phi3",
        &[
            0x3f80_0000,
            0x3eaf_3dc0,
            0x3df0_768a,
            0x3d1e_6ed1,
            0x3c52_3b64,
            0x3b82_f595,
            0x3a9c_e191,
            0x39b8_8451,
            0x38d0_68af,
        ],
    ),
    (
        "tiny-deepseek-v3",
        &[
            0x3f80_0000,
            0x3e65_5edb,
            0x3d2a_aaaa,
            0x3b81_86e3,
            0x3aa3_d70a,
            0x39cf_3e38,
            0x3903_126f,
            0x3825_cb60,
        ],
    ),
];

#[test]
fn rotary_frequencies_have_the_bits_of_transformers() {
    for (name, wanted) in FREQUENCIES {
        let config = Config::from_json(&Checkpoint::open(name).source.config).unwrap();
        let found: Vec<_> = frequencies(&config).iter().map(|f| f.to_bits()).collect();
        assert_eq!(found, *wanted, "{name}");
    }
}

#[test]
fn tiny_checkpoints_agree_with_transformers() {
    for name in TINY {
        for isa in [Isa::Scalar, Isa::detect()] {
            check(name, "", &fixture(name), isa, 12);
        }
    }
}

#[test]
fn novels_agrees_with_transformers() {
    let fixture = fixture("novels-4m-reference");
    for prompt in ["prompt_0.", "prompt_1.", "prompt_2."] {
        let length = ids(&fixture[&format!("{prompt}tokens")]).len();
        check("novels-4m", prompt, &fixture, Isa::detect(), length);
    }
}

#[test]
fn perplexity_of_novels_is_the_published_one() {
    let cpu = Cpu::new(Isa::detect(), 2).expect("threads");
    let checkpoint = Checkpoint::open("novels-4m");
    let model = checkpoint.load(&cpu, Compute::F32).expect("a model");
    let (mut nll, mut positions) = (0.0, 0);
    for window in eval_tokens().chunks_exact(512) {
        let logits = Sequence::new(&cpu, &model).logits(window);
        let scores = score_window(&logits, None, window, model.config.vocabulary);
        let scores = scores.expect("finite logits");
        nll += scores.nll;
        positions += scores.positions;
    }
    let perplexity = (nll / positions as f64).exp();
    println!("perplexity {perplexity:.4} over {positions} positions");
    assert_eq!(positions, 66_941);
    assert!((perplexity / 45.923 - 1.0).abs() < 2e-4, "{perplexity}");
}
