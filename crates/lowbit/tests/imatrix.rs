//! Importance matrices against a plain loop over every captured input.

mod support;

use lowbit::cpu::{Compute, Cpu};
use lowbit::gguf::gather::gather;
use lowbit::model::forward::{LayerCache, Scratch, Watch, embed, watch_block};
use lowbit::model::ops::Part;
use lowbit::model::weights;
use std::collections::BTreeMap;
use support::Checkpoint;

/// Σ x² of each column and the number of inputs, by the module that got them.
fn captured(name: &str, tokens: &[u32]) -> BTreeMap<String, (Vec<f64>, f32)> {
    let cpu = Cpu::single();
    let model = Checkpoint::open(name)
        .load(&cpu, Compute::F32)
        .expect("a pass over a tiny model");
    let mut hidden = embed(&model, tokens).expect("a pass over a tiny model");
    let mut found = BTreeMap::new();
    for (index, block) in model.blocks.iter().enumerate() {
        let linears = weights::linears(&model.config, index);
        let mut tap = |parts: &[Part], x: &[f32]| {
            for linear in linears.iter().filter(|l| parts.contains(&l.part)) {
                let (sums, count) = found
                    .entry(linear.module.clone())
                    .or_insert_with(|| (vec![0.0; linear.cols], 0.0));
                for (i, v) in x.iter().enumerate() {
                    sums[i % linear.cols] += f64::from(v * v);
                }
                *count += (x.len() / linear.cols) as f32;
            }
            Ok(())
        };
        let watch = Watch {
            tap: &mut tap,
            all_experts: false,
            until: None,
        };
        let (mut scratch, mut cache) = (Scratch::new(&model.config), LayerCache::default());
        watch_block(
            &cpu,
            &mut scratch,
            block,
            &mut cache,
            &mut hidden,
            Some(watch),
        )
        .expect("a pass over a tiny model");
    }
    found
}

fn agrees(sums: &[f32], wanted: &[f64]) {
    assert_eq!(sums.len(), wanted.len());
    let largest = wanted.iter().fold(0.0, |m: f64, v| m.max(*v));
    for (a, b) in sums.iter().zip(wanted) {
        assert!((f64::from(*a) - b).abs() <= 1e-5 * largest, "{a} {b}");
    }
}

#[test]
fn sums_are_those_of_a_plain_loop() {
    let tokens: Vec<u32> = (2..50).collect();
    let cpu = Cpu::new(lowbit::Isa::detect(), 2).expect("a pass over a tiny model");
    for name in ["tiny-llama", "tiny-qwen3"] {
        let model = Checkpoint::open(name)
            .load(&cpu, Compute::F32)
            .expect("a pass over a tiny model");
        let found = gather(&cpu, &model, &tokens).expect("a pass over a tiny model");
        let wanted = captured(name, &tokens);
        assert_eq!(found.entries.len(), 14, "seven linears in each block");
        assert_eq!((found.chunks, found.chunk_tokens), (1, 48));
        for (ours, theirs) in [
            ("blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj"),
            (
                "blk.1.attn_output.weight",
                "model.layers.1.self_attn.o_proj",
            ),
            ("blk.1.ffn_down.weight", "model.layers.1.mlp.down_proj"),
        ] {
            let (entry, (sums, count)) = (&found.entries[ours], &wanted[theirs]);
            assert_eq!((&entry.counts[..], *count), (&[48.0][..], 48.0));
            agrees(&entry.sums, sums);
        }
    }
}

#[test]
fn an_expert_counts_the_tokens_that_are_routed_to_it() {
    let tokens: Vec<u32> = (2..50).collect();
    let cpu = Cpu::single();
    let model = Checkpoint::open("tiny-mixtral")
        .load(&cpu, Compute::F32)
        .expect("a pass over a tiny model");
    let found = gather(&cpu, &model, &tokens).expect("a pass over a tiny model");
    let wanted = captured("tiny-mixtral", &tokens);
    let entry = &found.entries["blk.1.ffn_down_exps.weight"];
    assert_eq!(entry.counts.len(), 4);
    // Two experts for each token.
    assert_eq!(entry.counts.iter().sum::<f32>(), 96.0);
    for (e, sums) in entry.sums.chunks(entry.sums.len() / 4).enumerate() {
        let module = format!("model.layers.1.block_sparse_moe.experts.{e}.w2");
        let Some((plain, count)) = wanted.get(&module) else {
            assert_eq!(entry.counts[e], 0.0);
            continue;
        };
        assert_eq!(entry.counts[e], *count);
        agrees(sums, plain);
    }
    assert!(!found.entries.keys().any(|n| n.contains("ffn_gate_inp")));
}
