//! Later blocks are calibrated on what the quantized blocks before them put out.

use super::store::{SET, Store};
use crate::cpu::{Compute, Cpu};
use crate::job::{Job, Plan};
use crate::kernels::matmul::Weight;
use crate::matrix::{Codes, Floats, Integer, QuantizedMatrix, Scales, Values, Zero};
use crate::model::forward::{LayerCache, Scratch, embed_from, run_block};
use crate::model::{Block, Stored, weights};
use crate::round::factor::{Factored, Factoring};
use crate::round::gptq::{Extra, Rounding};
use crate::round::hessian::Hessian;
use crate::tensor::{Dtype, Tensor};

const CPU: fn() -> Cpu = Cpu::single;

pub(super) fn tensor(store: &Store, name: &str) -> Tensor {
    let entry = store.entries.iter().find(|t| t.name == name).unwrap();
    Tensor {
        name: name.into(),
        dtype: Dtype::parse(&entry.dtype).unwrap(),
        shape: entry.shape.clone(),
        bytes: store.source[name].clone(),
    }
}

pub(super) fn output<'a>(store: &'a Store, plan: &Plan, name: &str) -> &'a [u8] {
    let place = plan.files.place(name).unwrap();
    let file = &store.files[plan.files.list[place.file].name.as_str()];
    &file[place.offset as usize..][..place.bytes as usize]
}

fn words(bytes: &[u8]) -> Vec<u32> {
    let words = bytes.as_chunks::<4>().0;
    words.iter().map(|b| u32::from_le_bytes(*b)).collect()
}

/// A block as the source has it, or with the matrices that the job wrote.
pub(super) fn block(store: &Store, plan: &Plan, index: usize, written: bool) -> Block<Weight> {
    let names = weights::block_tensors(&plan.model, index);
    let tensors = names.iter().map(|n| tensor(store, &n.name)).collect();
    let block = weights::block(&plan.model, index, tensors).unwrap();
    let place = |stored| {
        let Stored::Dense(dense) = stored else {
            unreachable!("the source is dense")
        };
        if !written {
            return Weight::dense(dense.view()?);
        }
        let base = dense.name.strip_suffix(".weight").unwrap();
        let scales = output(store, plan, &format!("{base}.weight_scale"));
        let (rows, cols) = dense.view()?.matrix()?;
        let codes = Codes {
            bits: 4,
            row_words: cols / 8,
            words: words(output(store, plan, &format!("{base}.weight_packed"))),
        };
        let values = Values::Integer(Integer {
            codes,
            group: 32,
            scales: Scales::Flat(Floats::from_bytes(Dtype::BF16, scales)?),
            zero: Zero::Centre,
            group_of_col: None,
        });
        let matrix = QuantizedMatrix {
            rows,
            cols,
            values,
            inputs: None,
        };
        Weight::packed(&matrix, Compute::F32, CPU().isa)
    };
    block.map(place).unwrap()
}

/// Activations after a block.
fn forward(plan: &Plan, block: &Block<Weight>, mut hidden: Vec<f32>) -> Vec<f32> {
    for sample in hidden.chunks_mut(SET.length * plan.model.hidden) {
        let mut scratch = Scratch::new(&plan.model);
        let mut cache = LayerCache::default();
        run_block(&CPU(), &mut scratch, block, &mut cache, sample, None).unwrap();
    }
    hidden
}

/// Words of the first linear of block 1, calibrated on the given outputs of block 0.
fn q_proj_calibrated_on(store: &Store, plan: &Plan, hidden: &[f32]) -> Vec<u32> {
    let (cpu, source) = (CPU(), block(store, plan, 1, false));
    let mut hessian = Hessian::new(plan.model.hidden);
    for sample in hidden.chunks(SET.length * plan.model.hidden) {
        let mut scratch = Scratch::new(&plan.model);
        let mut cache = LayerCache::default();
        let mut first = true;
        let mut tap = |_: &[_], x: &[f32]| {
            if std::mem::take(&mut first) {
                hessian.add(&cpu, x);
            }
            Ok(())
        };
        let mut sample = sample.to_vec();
        run_block(
            &cpu,
            &mut scratch,
            &source,
            &mut cache,
            &mut sample,
            Some(&mut tap),
        )
        .unwrap();
    }
    hessian.finish(&cpu);
    let layer = plan.layers_of(1).next().unwrap();
    let options = plan.round_options(layer);
    let mut factoring = Factoring::for_rounding(&hessian, &options.gptq, hessian.width());
    let factor = loop {
        match factoring.step(&cpu, &hessian) {
            None => {}
            Some(Factored::Ready(factor)) => break factor,
            Some(Factored::Failed(why)) => panic!("{why}"),
        }
    };
    let (weight, _) = source.matrix(layer.linear.part);
    let mut rounding = Rounding::new(
        weight.rows(),
        weight.cols(),
        layer.scheme,
        options,
        Extra::default(),
    )
    .unwrap();
    while !rounding.step(&cpu, weight, &factor) {}
    let (matrix, _) = rounding.finish(&factor).unwrap();
    matrix.integer("the test").unwrap().codes.words.clone()
}

#[test]
fn block_1_is_calibrated_on_outputs_of_the_quantized_block_0() {
    let mut store = Store::new();
    let request = store.request("gptq");
    let mut job = Job::open(&request, Store::tokens()).unwrap();
    while !store
        .journal
        .last()
        .is_some_and(|l| l.contains("\"block 1\""))
    {
        store.step(&mut job, &CPU()).unwrap();
    }
    let plan = job.plan();
    let embedding = tensor(&store, "model.embed_tokens.weight");
    let embedding = Weight::dense(embedding.view().unwrap()).unwrap();
    let embedded = embed_from(&embedding, &Store::tokens()).unwrap();
    let quantized = forward(plan, &block(&store, plan, 0, true), embedded.clone());
    let plain = forward(plan, &block(&store, plan, 0, false), embedded);

    let name = "model.layers.1.self_attn.q_proj.weight_packed";
    let written = words(output(&store, plan, name));
    assert_eq!(q_proj_calibrated_on(&store, plan, &quantized), written);
    assert_ne!(q_proj_calibrated_on(&store, plan, &plain), written);
}
