//! Whole models on the GPU against the CPU and against transformers.

#![cfg(feature = "gpu")]

mod support;

use lowbit::Tensor;
use lowbit::cpu::{Compute, Cpu, Isa};
use lowbit::error::Code;
use lowbit::gpu::{Counts, Gpu, GpuModel, GpuOptions};
use lowbit::matrix::{Codes, Floats, Integer, QuantizedMatrix, Scales, Values, Zero};
use lowbit::model::load::{Loader, Piece};
use lowbit::model::{Block, Model, Slotted, Stored, forward};
use lowbit::pack::words_from_codes;
use lowbit::session::{Output, Want, top};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use support::{Checkpoint, Sequence, ids, root, tensors};

/// Worst absolute difference of logits between GPU and CPU, whose own order of sums differs.
const LOGIT_BOUND: f32 = 2e-4;

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            return value;
        }
        std::thread::yield_now();
    }
}

/// A device, or none where there is no adapter: then the test counts as skipped.
fn device(name: &str, options: &GpuOptions) -> Option<Arc<Gpu>> {
    match block_on(Gpu::request(options)) {
        Ok(gpu) => Some(Arc::new(gpu)),
        Err(e) if std::env::var("LOWBIT_GPU").is_ok_and(|v| v == "require") => {
            panic!("{name}: LOWBIT_GPU=require and {e}")
        }
        Err(_) => {
            println!("skipped: {name}: no GPU adapter");
            None
        }
    }
}

/// Rounds to 4 bits in groups of 64 around zero, simply: the kernels are tested, not the rounder.
fn rounded(stored: Stored) -> Stored {
    let Stored::Dense(tensor) = stored else {
        return stored;
    };
    let (rows, cols) = (tensor.shape[0], tensor.shape[1]);
    let values = tensor.view().and_then(|t| t.to_f32()).expect("floats");
    let group = if cols.is_multiple_of(64) { 64 } else { cols };
    let (mut scales, mut codes) = (Vec::new(), Vec::new());
    for run in values.chunks(group) {
        let highest = run.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let scale = highest.max(1e-9) / 7.5;
        scales.push(scale);
        codes.extend(
            run.iter()
                .map(|v| ((v / scale).round() + 8.0).clamp(0.0, 15.0) as u8),
        );
    }
    let words = codes
        .chunks(cols)
        .flat_map(|c| words_from_codes(c, 4))
        .collect();
    Stored::Quantized(QuantizedMatrix {
        rows,
        cols,
        values: Values::Integer(Integer {
            codes: Codes {
                bits: 4,
                row_words: cols.div_ceil(8),
                words,
            },
            group,
            scales: Scales::Flat(Floats::F32(scales)),
            zero: Zero::Centre,
            group_of_col: None,
        }),
    })
}

/// The whole model on the CPU, and its last blocks and head on the GPU.
struct Both {
    cpu: Cpu,
    model: Model,
    gpu: GpuModel,
    /// Blocks before the border.
    border: usize,
}

impl Both {
    fn load(name: &str, gpu: Arc<Gpu>, quantize: bool, border: usize) -> Self {
        let checkpoint = Checkpoint::open(name);
        let cpu = Cpu::new(Isa::detect(), 2).expect("threads");
        let place = |stored: Stored| match stored {
            Stored::Dense(t) => lowbit::kernels::matmul::Weight::dense(t.view()?),
            Stored::Quantized(m) => {
                lowbit::kernels::matmul::Weight::packed(&m, Compute::F32, cpu.isa)
            }
        };
        let mut loader = Loader::new(&checkpoint.source).expect("a checkpoint");
        let config = loader.config().clone();
        let mut on_gpu = GpuModel::new(gpu, &config).expect("heads that fit");
        let (mut embed, mut head, mut norm, mut blocks) = (None, None, Vec::new(), Vec::new());
        while let Some(names) = loader.wants() {
            let wanted = names
                .iter()
                .map(|n| checkpoint.tensors[n].clone())
                .collect();
            match loader.supply(wanted).expect("a piece") {
                Piece::Embed(w) => embed = Some(w),
                Piece::Norm(v) => norm = v,
                Piece::Head(w) => head = Some(w),
                Piece::Block(i, block) => {
                    let block = if quantize { quantized(block) } else { block };
                    if i >= border {
                        on_gpu.push_block(block.clone()).expect("an upload");
                    }
                    blocks.push(block.map(place).expect("a known dtype"));
                }
            }
        }
        let embed = embed.expect("an embedding");
        let head = head.unwrap_or_else(|| embed.clone());
        on_gpu.set_head(&norm, head.clone()).expect("an upload");
        let model = Model {
            config,
            embed: Arc::new(place(embed).expect("a known dtype")),
            head: Arc::new(place(head).expect("a known dtype")),
            blocks,
            norm,
        };
        Self {
            cpu,
            model,
            gpu: on_gpu,
            border,
        }
    }

    /// Hidden states at the border; `caches` hold the blocks before it.
    fn before(&self, sequence: &mut Front<'_>, tokens: &[u32]) -> Vec<f32> {
        let mut hidden = forward::embed(&self.model, tokens).expect("tokens of the vocabulary");
        let (scratch, caches) = (&mut sequence.scratch, &mut sequence.caches);
        for (block, cache) in self.model.blocks[..self.border].iter().zip(caches) {
            forward::run_block(&self.cpu, scratch, block, cache, &mut hidden, None)
                .expect("no tap");
        }
        hidden
    }
}

fn quantized(block: Block<Stored>) -> Block<Stored> {
    let mut block = block;
    for (_, slotted) in &mut block.weights {
        if let Slotted::Matrix { weight, .. } = slotted {
            *weight = rounded(weight.clone());
        }
    }
    block
}

/// A sequence whose first blocks are on the CPU and whose last ones are on the GPU.
struct Front<'a> {
    both: &'a Both,
    scratch: forward::Scratch,
    caches: Vec<forward::LayerCache>,
    cache: lowbit::gpu::GpuCache,
}

impl<'a> Front<'a> {
    fn new(both: &'a Both, capacity: usize) -> Self {
        Self {
            scratch: forward::Scratch::new(&both.model.config),
            caches: vec![forward::LayerCache::default(); both.border],
            cache: both.gpu.new_cache(capacity).expect("room"),
            both,
        }
    }

    fn run(&mut self, tokens: &[u32], want: Want) -> Output {
        let both = self.both;
        let hidden = both.before(self, tokens);
        block_on(both.gpu.forward(&mut self.cache, &hidden, want)).expect("a pass")
    }

    fn logits(&mut self, tokens: &[u32], want: Want) -> Vec<f32> {
        match self.run(tokens, want) {
            Output::Logits(logits) => logits,
            other => panic!("asked for logits, got {other:?}"),
        }
    }
}

fn worst(found: &[f32], wanted: &[f32]) -> f32 {
    assert_eq!(found.len(), wanted.len());
    let differences = found.iter().zip(wanted).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |w, d| if d > w || d.is_nan() { d } else { w })
}

fn prompt(fixture: &str, key: &str) -> (Vec<u32>, Tensor) {
    let mut all = tensors(&root("test/fixtures").join(format!("{fixture}.safetensors")));
    let tokens = ids(&all[&format!("{key}tokens")]);
    (tokens, all.remove(&format!("{key}logits")).expect("logits"))
}

#[test]
fn logits_are_those_of_transformers() {
    let Some(gpu) = device("GPU logits of dense models", &GpuOptions::default()) else {
        return;
    };
    for (name, fixture, key) in [
        ("novels-4m", "novels-4m-reference", "prompt_0."),
        ("tiny-llama", "tiny-llama", ""),
        ("tiny-llama-linear", "tiny-llama-linear", ""),
        ("tiny-mistral", "tiny-mistral", ""),
        ("tiny-qwen2", "tiny-qwen2", ""),
        ("tiny-qwen3", "tiny-qwen3", ""),
    ] {
        let (tokens, wanted) = prompt(fixture, key);
        let wanted = wanted.view().and_then(|t| t.to_f32()).expect("floats");
        let both = Both::load(name, Arc::clone(&gpu), false, 0);
        let whole = Front::new(&both, 1024).logits(&tokens, Want::All);
        let mut sequence = Front::new(&both, 1024);
        let pieces = [&tokens[..3], &tokens[3..4], &tokens[4..]];
        let pieces: Vec<f32> = pieces
            .iter()
            .flat_map(|p| sequence.logits(p, Want::All))
            .collect();
        let worst = worst(&whole, &wanted).max(worst(&pieces, &wanted));
        println!("{name} on the GPU: worst {worst:.2e}");
        assert!(worst <= LOGIT_BOUND, "{name}: {worst:e} off");
    }
}

#[test]
fn quantized_logits_are_those_of_the_cpu() {
    for (max_binding, border) in [(None, 0), (Some(160 << 10), 1)] {
        let options = GpuOptions { max_binding };
        let Some(gpu) = device("GPU logits of a quantized model", &options) else {
            return;
        };
        let both = Both::load("novels-4m", gpu, true, border);
        let (mut tokens, _) = prompt("novels-4m-reference", "prompt_0.");
        while tokens.len() < 140 {
            tokens.extend_from_within(..tokens.len().min(140 - tokens.len()));
        }
        let wanted = Sequence::new(&both.cpu, &both.model).logits(&tokens);
        // Several chunks, and a cache that grows between them.
        let mut sequence = Front::new(&both, 320);
        let found = sequence.logits(&tokens, Want::All);
        let difference = worst(&found, &wanted);
        println!("quantized, bindings {max_binding:?}, border {border}: worst {difference:.2e}");
        assert!(difference <= LOGIT_BOUND, "{difference:e} off");
        let last = Front::new(&both, 320).logits(&tokens, Want::Last);
        assert!(
            worst(
                &last,
                &wanted[wanted.len() - both.model.config.vocabulary..]
            ) <= LOGIT_BOUND
        );
    }
}

/// Greedy on the CPU, its tokens fed to the GPU, the GPU's candidates compared at every step.
#[test]
fn forced_decoding_agrees_token_by_token() {
    let Some(gpu) = device("forced decoding", &GpuOptions::default()) else {
        return;
    };
    for quantize in [false, true] {
        let both = Both::load("novels-4m", Arc::clone(&gpu), quantize, 2);
        let (tokens, _) = prompt("novels-4m-reference", "prompt_1.");
        let mut cpu = Sequence::new(&both.cpu, &both.model);
        let mut sequence = Front::new(&both, 1024);
        sequence.run(&tokens[..tokens.len() - 1], Want::Nothing);
        let mut next = cpu.next(&tokens);
        let mut last = tokens[tokens.len() - 1];
        let before = both.gpu.counts();
        for step in 0..64 {
            let Output::Top(top) = sequence.run(&[last], Want::Top(40)) else {
                unreachable!()
            };
            assert_eq!(top.ids.len(), 40);
            assert_eq!(top.ids[0], next, "step {step}, quantized {quantize}");
            last = next;
            next = cpu.next(&[last]);
        }
        let counts = both.gpu.counts();
        let per_run = Counts {
            submits: counts.submits - before.submits,
            readbacks: counts.readbacks - before.readbacks,
        };
        assert_eq!(
            per_run,
            Counts {
                submits: 64,
                readbacks: 64
            }
        );
    }
}

#[test]
fn candidates_are_those_of_the_logits() {
    let Some(gpu) = device("GPU candidates", &GpuOptions::default()) else {
        return;
    };
    let both = Both::load("tiny-llama", gpu, false, 0);
    let tokens = [1, 5, 9, 2, 7];
    let logits = Front::new(&both, 16).logits(&tokens, Want::Last);
    for k in [1, 5, 128, 200] {
        let Output::Top(found) = Front::new(&both, 16).run(&tokens, Want::Top(k)) else {
            unreachable!()
        };
        let wanted = top::select(&logits, k).expect("finite logits");
        assert_eq!((&found.ids, &found.logits), (&wanted.ids, &wanted.logits));
        assert!((found.log_sum - wanted.log_sum).abs() <= 1e-5);
    }
}

#[test]
fn truncating_a_cache_takes_tokens_back() {
    let Some(gpu) = device("truncated GPU cache", &GpuOptions::default()) else {
        return;
    };
    let both = Both::load("tiny-qwen3", gpu, false, 0);
    let mut sequence = Front::new(&both, 32);
    let first = sequence.logits(&[3, 1, 4, 1, 5], Want::Last);
    sequence.logits(&[9, 2, 6], Want::Last);
    sequence.cache.truncate(4);
    let again = sequence.logits(&[5], Want::Last);
    assert!(worst(&again, &first) <= LOGIT_BOUND);
    assert_eq!(sequence.cache.len(), 5);
}

#[test]
fn what_does_not_fit_is_refused() {
    let options = GpuOptions {
        max_binding: Some(1 << 17),
    };
    let Some(gpu) = device("GPU context", &options) else {
        return;
    };
    let both = Both::load("novels-4m", gpu, false, 3);
    let e = both
        .gpu
        .new_cache(1000)
        .expect_err("256 positions fit into a binding");
    assert_eq!(e.code, Code::Context);
    let mut cache = both.gpu.new_cache(4).expect("room");
    let hidden = vec![0.5; 5 * both.model.config.hidden];
    let e = block_on(both.gpu.forward(&mut cache, &hidden, Want::Nothing)).expect_err("5 of 4");
    assert_eq!(e.code, Code::Context);
    assert_eq!(cache.len(), 0);
}

#[test]
fn a_pass_may_move_between_threads() {
    fn send<T: Send>(value: T) -> T {
        value
    }
    let Some(gpu) = device("GPU futures", &GpuOptions::default()) else {
        return;
    };
    let both = Both::load("tiny-llama", gpu, false, 0);
    let mut cache = both.gpu.new_cache(8).expect("room");
    let hidden = vec![0.1; both.model.config.hidden];
    let pass = send(both.gpu.forward(&mut cache, &hidden, Want::Top(1)));
    assert!(matches!(block_on(pass), Ok(Output::Top(_))));
}
