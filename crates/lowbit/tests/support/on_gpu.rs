//! A model on CPU and GPU at once, and sequences that cross the border between them.

use crate::support::Checkpoint;
use lowbit::cpu::{Compute, Cpu, Isa};
use lowbit::gpu::{Gpu, GpuModel, GpuOptions, block_on};
use lowbit::kernels::matmul::Weight;
use lowbit::matrix::{Codes, Floats, Integer, QuantizedMatrix, Scales, Values, Zero};
use lowbit::model::load::{Loader, Piece};
use lowbit::model::{Block, Model, Slotted, Stored, forward};
use lowbit::pack::words_from_codes;
use lowbit::session::{Output, Want};
use std::sync::Arc;

/// A device, or none where there is no adapter: then the test counts as skipped.
#[expect(
    clippy::print_stdout,
    reason = "the runner counts skipped tests by this line"
)]
pub(crate) fn device(name: &str, options: &GpuOptions) -> Option<Arc<Gpu>> {
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
pub(crate) fn rounded(stored: Stored) -> Stored {
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
        inputs: None,
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
pub(crate) struct Both {
    pub(crate) cpu: Cpu,
    pub(crate) model: Model,
    pub(crate) gpu: GpuModel,
    /// Blocks before the border.
    border: usize,
}

impl Both {
    pub(crate) fn load(name: &str, gpu: Arc<Gpu>, quantize: bool, border: usize) -> Self {
        let checkpoint = Checkpoint::open(name);
        let cpu = Cpu::new(Isa::detect(), 2).expect("threads");
        let place = |stored: Stored| match stored {
            Stored::Dense(t) => Weight::dense(t.view()?),
            Stored::Quantized(m) => Weight::packed(&m, Compute::F32, cpu.isa),
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
                Piece::Tail(_) => unreachable!("only decoders run on a GPU"),
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
            head: Some(Arc::new(place(head).expect("a known dtype"))),
            blocks,
            norm,
            tail: None,
        };
        Self {
            cpu,
            model,
            gpu: on_gpu,
            border,
        }
    }

    /// Hidden states at the border; `caches` hold the blocks before it.
    pub(crate) fn before(&self, sequence: &mut Front<'_>, tokens: &[u32]) -> Vec<f32> {
        let mut hidden = forward::embed(&self.model, tokens).expect("tokens of the vocabulary");
        let (scratch, caches) = (&mut sequence.scratch, &mut sequence.caches);
        for (block, cache) in self.model.blocks[..self.border].iter().zip(caches) {
            forward::run_block(&self.cpu, scratch, block, cache, &mut hidden, None)
                .expect("no tap");
        }
        hidden
    }
}

pub(crate) fn quantized(block: Block<Stored>) -> Block<Stored> {
    let mut block = block;
    for (_, slotted) in &mut block.weights {
        if let Slotted::Matrix { weight, .. } = slotted {
            *weight = rounded(weight.clone());
        }
    }
    block
}

/// A sequence whose first blocks are on the CPU and whose last ones are on the GPU.
pub(crate) struct Front<'a> {
    both: &'a Both,
    scratch: forward::Scratch,
    caches: Vec<forward::LayerCache>,
    pub(crate) cache: lowbit::gpu::GpuCache,
}

impl<'a> Front<'a> {
    pub(crate) fn new(both: &'a Both, capacity: usize) -> Self {
        Self {
            scratch: forward::Scratch::new(&both.model.config),
            caches: vec![forward::LayerCache::default(); both.border],
            cache: both.gpu.new_cache(capacity).expect("room"),
            both,
        }
    }

    pub(crate) fn run(&mut self, tokens: &[u32], want: Want) -> Output {
        let both = self.both;
        let hidden = both.before(self, tokens);
        block_on(both.gpu.forward(&mut self.cache, &hidden, want)).expect("a pass")
    }

    pub(crate) fn logits(&mut self, tokens: &[u32], want: Want) -> Vec<f32> {
        match self.run(tokens, want) {
            Output::Logits(logits) => logits,
            other => panic!("asked for logits, got {other:?}"),
        }
    }
}
