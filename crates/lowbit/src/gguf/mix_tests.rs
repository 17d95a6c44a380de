//! The types that llama-quantize gives, by mix.

use super::mix::{MIXES, Mix};
use super::mix_choose::{Choice, Facts, Overrides, choose};
use super::mix_kinds::quantizes;
use super::types::{self, Type};
use crate::error::Code;
use regex_lite::Regex;

const FACTS: Facts = Facts {
    layers: 32,
    heads: 32,
    kv_heads: 8,
    experts: 0,
    imatrix: false,
};

/// The tensors of a Llama-like model of `layers` layers, as wide as `hidden`.
fn model(layers: usize, hidden: usize, tied: bool) -> Vec<(String, Vec<usize>)> {
    let mut out = vec![("token_embd.weight".to_string(), vec![1000, hidden])];
    for i in 0..layers {
        let square = |part: &str| (format!("blk.{i}.{part}.weight"), vec![hidden, hidden]);
        out.push((format!("blk.{i}.attn_norm.weight"), vec![hidden]));
        out.extend(
            [
                "attn_q",
                "attn_k",
                "attn_v",
                "attn_output",
                "ffn_gate",
                "ffn_up",
            ]
            .map(square),
        );
        out.push((format!("blk.{i}.ffn_down.weight"), vec![hidden, 4 * hidden]));
    }
    out.push(("output_norm.weight".into(), vec![hidden]));
    if !tied {
        out.push(("output.weight".into(), vec![1000, hidden]));
    }
    out
}

struct Chosen(Vec<(String, Choice)>);

impl Chosen {
    fn of(mix: &str, tensors: &[(String, Vec<usize>)], facts: Facts, o: &Overrides) -> Self {
        let found = choose(Mix::by_name(mix).unwrap(), tensors, &facts, o).unwrap();
        let names = tensors.iter().map(|(name, _)| name.clone());
        Self(names.zip(found).collect())
    }

    fn get(&self, name: &str) -> &'static str {
        let found = self.0.iter().find(|(n, _)| n == name).unwrap();
        found.1.ty.name
    }

    /// Layers in which a part has a type.
    fn layers(&self, part: &str, ty: &str) -> Vec<usize> {
        let name = |i| format!("blk.{i}.{part}.weight");
        let has = |i: &usize| {
            self.0
                .iter()
                .any(|(n, c)| *n == name(*i) && c.ty.name == ty)
        };
        (0..100).filter(has).collect()
    }
}

fn plain(mix: &str) -> Chosen {
    Chosen::of(mix, &model(32, 512, false), FACTS, &Overrides::default())
}

#[test]
fn q4_k_m() {
    let c = plain("q4_k_m");
    let more: Vec<usize> = (0..32)
        .filter(|i| *i < 4 || *i >= 28 || (i - 4) % 3 == 2)
        .collect();
    assert_eq!(c.layers("attn_v", "Q6_K"), more);
    assert_eq!(c.layers("ffn_down", "Q6_K"), more);
    assert_eq!(c.layers("attn_q", "Q4_K").len(), 32);
    assert_eq!(c.get("token_embd.weight"), "Q4_K");
    assert_eq!(c.get("output.weight"), "Q6_K");
    assert_eq!(c.get("blk.3.attn_norm.weight"), "F32");
    let tied = Chosen::of("Q4_K", &model(32, 512, true), FACTS, &Overrides::default());
    assert_eq!(tied.get("token_embd.weight"), "Q6_K");
}

#[test]
fn the_other_mixes() {
    let c = plain("Q4_K_S");
    assert_eq!(c.layers("attn_v", "Q5_K"), [0, 1, 2, 3]);
    assert_eq!(c.layers("ffn_down", "Q5_K"), [0, 1, 2, 3]);
    let c = plain("Q3_K_M");
    assert_eq!(c.layers("attn_v", "Q5_K"), [0, 1]);
    assert_eq!(c.layers("ffn_down", "Q5_K"), [0, 1]);
    assert_eq!(c.layers("ffn_down", "Q4_K").len(), 30);
    assert_eq!(c.layers("attn_output", "Q4_K").len(), 32);
    assert_eq!(c.layers("attn_q", "Q3_K").len(), 32);
    let c = plain("Q2_K");
    assert_eq!(c.layers("attn_v", "Q4_K").len(), 32);
    assert_eq!(c.layers("attn_output", "Q3_K").len(), 32);
    let few = Facts {
        kv_heads: 32,
        ..FACTS
    };
    let c = Chosen::of("Q2_K", &model(4, 512, false), few, &Overrides::default());
    assert_eq!(c.layers("attn_v", "Q3_K").len(), 4);
    let c = plain("IQ4_XS");
    assert_eq!(c.layers("ffn_down", "Q5_K"), [0, 1, 2, 3]);
    let c = plain("TQ2_0");
    assert_eq!(
        (c.get("output.weight"), c.get("token_embd.weight")),
        ("Q6_K", "Q4_K")
    );
    for (mix, head) in [
        ("F16", "F16"),
        ("Q8_0", "Q8_0"),
        ("Q4_0", "Q6_K"),
        ("Q6_K", "Q6_K"),
    ] {
        assert_eq!(plain(mix).get("output.weight"), head, "{mix}");
    }
}

#[test]
fn an_importance_matrix_changes_some() {
    let with = Facts {
        imatrix: true,
        ..FACTS
    };
    let tensors = model(32, 512, false);
    let layers = |mix: &str, facts, ty: &str| {
        Chosen::of(mix, &tensors, facts, &Overrides::default()).layers("ffn_down", ty)
    };
    assert_eq!(layers("Q4_0", with, "Q4_1"), [0, 1, 2, 3]);
    assert_eq!(layers("Q4_0", FACTS, "Q4_1"), [0usize; 0]);
    assert_eq!(layers("IQ4_NL", with, "Q5_K"), [0usize; 0]);
    let missing = choose(
        Mix::by_name("Q2_K_S").unwrap(),
        &tensors,
        &FACTS,
        &Overrides::default(),
    );
    assert_eq!(missing.unwrap_err().code, Code::Imatrix);
    assert_eq!(layers("Q2_K_S", with, "Q4_K"), [0, 1, 2, 3]);
}

#[test]
fn experts_and_eighty_layers() {
    let mut tensors = model(4, 512, false);
    for i in 0..4 {
        for part in ["gate", "up", "down"] {
            tensors.push((format!("blk.{i}.ffn_{part}_exps.weight"), vec![8, 512, 512]));
        }
        tensors.push((format!("blk.{i}.ffn_gate_inp.weight"), vec![8, 512]));
    }
    let eight = Facts {
        layers: 4,
        experts: 8,
        ..FACTS
    };
    let c = Chosen::of("Q4_K_M", &tensors, eight, &Overrides::default());
    assert_eq!(c.layers("attn_v", "Q8_0").len(), 4);
    assert_eq!(c.layers("attn_k", "Q8_0").len(), 4);
    assert_eq!(c.layers("attn_output", "Q5_K").len(), 4);
    assert_eq!(c.layers("ffn_down_exps", "Q6_K"), [2, 3]);
    assert_eq!(c.get("blk.0.ffn_gate_inp.weight"), "F32");
    let c = Chosen::of("MXFP4_MOE", &tensors, eight, &Overrides::default());
    assert_eq!(c.layers("ffn_up_exps", "MXFP4").len(), 4);
    assert_eq!(c.layers("attn_v", "Q8_0").len(), 4);
    let big = Facts {
        layers: 80,
        ..FACTS
    };
    let c = Chosen::of("Q4_K_M", &model(80, 256, false), big, &Overrides::default());
    assert_eq!(c.layers("attn_v", "Q4_K"), [0usize; 0]);
    assert!(!c.layers("attn_v", "Q5_K").is_empty());
}

#[test]
fn odd_rows_fall_back_and_say_so() {
    let cases = [
        ("Q4_K_S", 320, "Q5_0"),
        ("Q6_K", 96, "Q8_0"),
        ("Q3_K_S", 32, "Q4_0"),
        ("IQ4_XS", 64, "IQ4_NL"),
        ("Q4_K_S", 40, "F16"),
        ("Q4_0", 40, "F16"),
    ];
    for (mix, cols, ty) in cases {
        let tensors = [("blk.0.attn_q.weight".to_string(), vec![64, cols])];
        let c = Chosen::of(mix, &tensors, FACTS, &Overrides::default());
        let (_, choice) = &c.0[0];
        assert_eq!(choice.ty.name, ty, "{mix} with {cols} columns");
        assert_ne!(choice.wanted, choice.ty);
    }
    let head = [("output.weight".to_string(), vec![64, 320])];
    let c = Chosen::of("Q4_K_M", &head, FACTS, &Overrides::default());
    assert_eq!(c.get("output.weight"), "Q8_0");
}

#[test]
fn overrides_win() {
    let o = Overrides {
        tensors: vec![
            (Regex::new(r"ffn_(up|gate)").unwrap(), &types::Q3_K),
            (Regex::new("ffn").unwrap(), &types::Q8_0),
        ],
        head: Some(&types::F16),
        embedding: Some(&types::Q8_0),
        ..Overrides::default()
    };
    let c = Chosen::of("Q4_K_M", &model(8, 512, false), FACTS, &o);
    assert_eq!(c.layers("ffn_up", "Q3_K").len(), 8);
    assert_eq!(c.layers("ffn_down", "Q8_0").len(), 8);
    assert_eq!(
        (c.get("output.weight"), c.get("token_embd.weight")),
        ("F16", "Q8_0")
    );
    let pure = Overrides {
        pure: true,
        keep_head: true,
        ..Overrides::default()
    };
    let c = Chosen::of("Q4_K_M", &model(8, 512, false), FACTS, &pure);
    assert_eq!(c.layers("attn_v", "Q4_K").len(), 8);
    assert_eq!(c.get("output.weight"), "F32");
}

#[test]
fn names() {
    assert!(quantizes("blk.0.attn_q.weight", &[4, 4]));
    assert!(!quantizes("blk.0.attn_q.bias", &[4, 4]));
    assert!(!quantizes("blk.0.attn_q_norm.weight", &[4, 4]));
    assert!(!quantizes("blk.0.attn_q.weight", &[1, 4]));
    assert_eq!(Mix::by_name("q3_k").unwrap().name, "Q3_K_M");
    let error = Mix::by_name("Q4_K_X").unwrap_err();
    assert_eq!(
        (error.code, error.remedy.contains("Q4_K_")),
        (Code::Option, true)
    );
    assert_eq!(Type::by_name("q4_k").unwrap(), &types::Q4_K);
    let mut types: Vec<u32> = MIXES.iter().map(|m| m.file_type).collect();
    types.sort_unstable();
    types.dedup();
    assert_eq!(types.len(), MIXES.len());
}
