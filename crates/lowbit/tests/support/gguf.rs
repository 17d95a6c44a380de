//! Checkpoints as GGUF files in memory, and back.

use super::Checkpoint;
use lowbit::Cpu;
use lowbit::gguf::export::{Plan, Request, Source, plan};
use lowbit::gguf::import::{File, Import, Step, open};
use lowbit::gguf::split::split;
use lowbit::gguf::vocabulary::Files;
use lowbit::gguf::write::{Planned, layout_file};
use lowbit::gguf::{
    Limits, Metadata, Mix, Overrides, Parsed, Restore, Value as Field, parse, rows,
};
use lowbit::model::load;
use lowbit::tensor::{Dtype, Tensor};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A vocabulary for checkpoints without one: as many tokens as rows.
pub(crate) fn stand_in(count: u64) -> Value {
    let vocab: serde_json::Map<_, _> = (0..count).map(|i| (format!("t{i}"), i.into())).collect();
    json!({
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
        "pre_tokenizer": {"type": "ByteLevel", "use_regex": true},
    })
}

/// What the file of a model will hold.
pub(crate) fn plan_of(checkpoint: &Checkpoint, mix: &str) -> lowbit::Result<Plan> {
    let model = &checkpoint.source.config;
    let tokenizer = stand_in(model["vocab_size"].as_u64().expect("a vocabulary"));
    let source = |t: &load::TensorInfo| Source {
        name: t.name.clone(),
        dtype: t.dtype,
        shape: t.shape.clone(),
    };
    let sources: Vec<_> = checkpoint.source.tensors.iter().map(source).collect();
    plan(&Request {
        name: "test",
        tensors: &sources,
        files: Files {
            tokenizer: Some(&tokenizer),
            config: None,
            model,
            template: None,
            pre: None,
        },
        mix: Mix::by_name(mix).expect("a mix"),
        pooling: &[],
        overrides: &Overrides::default(),
        imatrix: None,
    })
}

/// The model's files, each of at most `most` bytes of tensors.
pub(crate) fn files(checkpoint: &Checkpoint, mix: &str, most: u64) -> Vec<(String, Vec<u8>)> {
    let plan = plan_of(checkpoint, mix).expect("a plan");
    let planned: Vec<Planned> = plan.outputs.iter().map(|o| o.planned.clone()).collect();
    let parts = split("m", &plan.metadata, &planned, most).expect("parts");
    let part = |part: lowbit::gguf::split::Part| {
        let layout = layout_file(&part.metadata, &planned[part.tensors.clone()]).expect("a layout");
        let mut bytes = layout.head;
        for (at, offset) in part.tensors.zip(&layout.offsets) {
            bytes.resize(*offset as usize, 0);
            bytes.extend(blocks(checkpoint, &plan, at));
        }
        bytes.resize(layout.file_bytes as usize, 0);
        (part.file, bytes)
    };
    parts.into_iter().map(part).collect()
}

fn blocks(checkpoint: &Checkpoint, plan: &Plan, at: usize) -> Vec<u8> {
    let (output, cpu) = (&plan.outputs[at], Cpu::single());
    if output.sources.is_empty() {
        return output.encode_values(&cpu).expect("values");
    }
    let one = |(i, name): (usize, &String)| {
        let rows = checkpoint.tensors[name].view().expect("a tensor");
        output.encode(i, &rows, &cpu).expect("blocks")
    };
    output.sources.iter().enumerate().flat_map(one).collect()
}

/// Opens files as a caller does who reads `first` bytes and then what is asked for.
pub(crate) fn import(
    files: &[(String, Vec<u8>)],
    first: usize,
    floats: Option<Dtype>,
) -> lowbit::Result<Import> {
    let mut names = vec![files[0].0.clone()];
    let (mut reads, mut values) = (BTreeMap::new(), BTreeMap::new());
    let find = |name: &str| &files.iter().find(|(n, _)| n == name).expect("a file").1;
    for _ in 0..64 {
        let heads = names.iter().map(|name| {
            let file = find(name);
            let read = *reads.entry(name.clone()).or_insert(first);
            File {
                name,
                bytes: file.len() as u64,
                head: &file[..read.min(file.len())],
            }
        });
        let heads: Vec<_> = heads.collect();
        match open(&heads, &values, floats)? {
            Step::Head(file, bytes) => _ = reads.insert(names[file].clone(), bytes as usize),
            Step::Files(all) => names = all,
            Step::Values {
                name,
                file,
                offset,
                bytes,
            } => {
                let data = &find(&names[file])[offset as usize..][..bytes as usize];
                values.insert(name, data.to_vec());
            }
            Step::Done(import) => return Ok(*import),
        }
    }
    panic!("no end of asking");
}

/// The checkpoint that files are opened as.
pub(crate) fn checkpoint(files: &[(String, Vec<u8>)], import: &Import) -> Checkpoint {
    let tensor = |place: &lowbit::gguf::import::Place| {
        let part = |file: usize, offset: u64, stored: u64| {
            &files[file].1[offset as usize..][..stored as usize]
        };
        let mut stored = part(place.file, place.offset, place.stored).to_vec();
        if let Some(second) = place.second {
            stored.extend(part(second.file, second.offset, second.stored));
        }
        let restored = |restore: &Restore| rows(restore, stored.clone()).expect("rows");
        let tensor = Tensor {
            name: place.name.clone(),
            dtype: place.dtype,
            shape: place.shape.clone(),
            bytes: place
                .restore
                .as_ref()
                .map_or_else(|| stored.clone(), restored),
        };
        (place.name.clone(), tensor)
    };
    let config = import.texts.iter().find(|(name, _)| *name == "config.json");
    let mut checkpoint = Checkpoint {
        source: load::Source {
            tensors: Vec::new(),
            config: config.expect("a config").1.clone(),
        },
        tensors: import.tensors.iter().map(tensor).collect(),
    };
    checkpoint.list();
    checkpoint
}

/// A file as converters wrote it before llama.cpp took keys and values apart.
pub(crate) fn older(files: &[(String, Vec<u8>)], original: &Checkpoint) -> Vec<(String, Vec<u8>)> {
    let bytes = &files[0].1;
    let Ok(Parsed::Header(header)) = parse(bytes, bytes.len() as u64, &Limits::default()) else {
        panic!("a header");
    };
    let mut keys = Metadata::new();
    for (key, value) in header.metadata.iter() {
        let own = |name: &str| {
            header
                .metadata
                .get(&format!("deepseek2.attention.{name}_mla"))
        };
        let value = match key.strip_prefix("deepseek2.attention.") {
            Some(name) if name.ends_with("_mla") => continue,
            Some("head_count_kv") => &Field::U32(3),
            Some(name) => own(name).unwrap_or(value),
            None => value,
        };
        keys.set(key, value.clone());
    }
    let (mut planned, mut data) = (Vec::new(), Vec::new());
    for tensor in &header.tensors {
        let stored =
            &bytes[(header.data_start + tensor.offset) as usize..][..tensor.bytes as usize];
        let mut plan = Planned {
            name: tensor.name.clone(),
            ty: tensor.ty,
            shape: tensor.shape.clone(),
        };
        let layer = tensor.name.strip_suffix(".attn_k_b.weight");
        match layer.and_then(|l| l.strip_prefix("blk.")) {
            _ if tensor.name.ends_with("attn_v_b.weight") => continue,
            Some(layer) => {
                let name = format!("model.layers.{layer}.self_attn.kv_b_proj.weight");
                let matrix = &original.tensors[&name];
                plan.name = tensor.name.replace("k_b", "kv_b");
                plan.shape.clone_from(&matrix.shape);
                let floats = matrix.view().and_then(|t| t.to_f32()).expect("floats");
                data.push(floats.iter().flat_map(|v| v.to_le_bytes()).collect());
            }
            None => data.push(stored.to_vec()),
        }
        planned.push(plan);
    }
    let layout = layout_file(&keys, &planned).expect("a layout");
    let mut out = layout.head;
    for (offset, bytes) in layout.offsets.iter().zip(data) {
        out.resize(*offset as usize, 0);
        out.extend::<Vec<u8>>(bytes);
    }
    out.resize(layout.file_bytes as usize, 0);
    vec![(files[0].0.clone(), out)]
}
