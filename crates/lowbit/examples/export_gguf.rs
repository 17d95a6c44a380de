//! Writes a checkpoint in one or several safetensors files as GGUF:
//! `export_gguf FOLDER OUT.gguf MIX [IMATRIX]`.
//!
//! Beside it lies `OUT.gguf.safetensors`: the floats of the file under the checkpoint's names, so that
//! the same weights can be run by something that reads no GGUF.
#![expect(clippy::print_stderr, reason = "a program for people")]

use lowbit::container::safetensors;
use lowbit::gguf::export::{Plan, Request, Source, plan};
use lowbit::gguf::imatrix::Imatrix;
use lowbit::gguf::vocabulary::Files;
use lowbit::gguf::write::{Planned, layout_file};
use lowbit::gguf::{Mix, Overrides};
use lowbit::{Cpu, Dtype, Isa, TensorRef};
use serde_json::Value;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Where the bytes of each tensor are.
struct Checkpoint {
    sources: Vec<Source>,
    files: Vec<Vec<u8>>,
    places: BTreeMap<String, (usize, usize, usize)>,
}

fn open(folder: &Path) -> Outcome<Checkpoint> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|e| Ok(e?.path()))
        .collect::<Outcome<_>>()?;
    paths.retain(|p| p.extension().is_some_and(|e| e == "safetensors"));
    paths.sort();
    let mut out = Checkpoint {
        sources: Vec::new(),
        files: Vec::new(),
        places: BTreeMap::new(),
    };
    for (file, path) in paths.iter().enumerate() {
        let bytes = fs::read(path)?;
        let header = safetensors::parse(&bytes, bytes.len() as u64)?;
        for entry in header.entries {
            let at = |offset: u64| (header.data_start + offset) as usize;
            let place = (file, at(entry.begin), at(entry.end));
            out.places.insert(entry.name.clone(), place);
            out.sources.push(Source {
                name: entry.name,
                dtype: entry.dtype,
                shape: entry.shape,
            });
        }
        out.files.push(bytes);
    }
    Ok(out)
}

fn json(folder: &Path, name: &str) -> Option<Value> {
    let text = fs::read_to_string(folder.join(name)).ok()?;
    serde_json::from_str(&text).ok()
}

/// A vocabulary for checkpoints without one: loaders want as many tokens as rows.
fn stand_in(rows: u64) -> Value {
    let vocab: serde_json::Map<_, _> = (0..rows).map(|i| (format!("t{i}"), i.into())).collect();
    serde_json::json!({
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
        "pre_tokenizer": {"type": "ByteLevel", "use_regex": true},
    })
}

fn write(out: &Path, plan: &Plan, checkpoint: &Checkpoint) -> Outcome<()> {
    let planned: Vec<Planned> = plan.outputs.iter().map(|o| o.planned.clone()).collect();
    let layout = layout_file(&plan.metadata, &planned)?;
    let cpu = Cpu::new(Isa::detect(), 2)?;
    let mut bytes = layout.head;
    let mut floats = BTreeMap::new();
    for (output, offset) in plan.outputs.iter().zip(&layout.offsets) {
        bytes.resize(*offset as usize, 0);
        for (i, name) in output.sources.iter().enumerate() {
            let (file, begin, end) = checkpoint.places[name];
            let source = checkpoint.sources.iter().find(|s| s.name == *name);
            let source = source.ok_or("a planned source is missing")?;
            let data = &checkpoint.files[file][begin..end];
            let tensor = TensorRef::new(source.dtype, &source.shape, data)?;
            let blocks = output.encode(i, &tensor, &cpu)?;
            let empty = || (source.shape.clone(), Vec::new());
            let (_, values) = floats.entry(name.clone()).or_insert_with(empty);
            output.decode(&blocks, values)?;
            bytes.extend(blocks);
        }
        if output.sources.is_empty() {
            bytes.extend(output.encode_values(&cpu)?);
        }
    }
    bytes.resize(layout.file_bytes as usize, 0);
    fs::write(out, bytes)?;
    write_floats(&out.with_added_extension("safetensors"), &floats)
}

fn write_floats(out: &Path, floats: &BTreeMap<String, (Vec<usize>, Vec<f32>)>) -> Outcome<()> {
    let tensor = |(name, (shape, _)): (&String, &(Vec<usize>, _))| safetensors::Planned {
        name: name.clone(),
        dtype: Dtype::F32,
        shape: shape.clone(),
    };
    let planned: Vec<_> = floats.iter().map(tensor).collect();
    let (mut bytes, offsets, total) = safetensors::layout_file(&planned, &BTreeMap::new())?;
    bytes.resize(total as usize, 0);
    for (offset, (_, values)) in offsets.iter().zip(floats.values()) {
        for (i, value) in values.iter().enumerate() {
            let at = *offset as usize + 4 * i;
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
    }
    Ok(fs::write(out, bytes)?)
}

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, out, mix, rest @ ..] = args.as_slice() else {
        return Err("export_gguf FOLDER OUT.gguf MIX [IMATRIX]".into());
    };
    let folder = Path::new(folder);
    let checkpoint = open(folder)?;
    let model = json(folder, "config.json").ok_or("config.json is missing")?;
    let rows = model
        .get("vocab_size")
        .and_then(Value::as_u64)
        .unwrap_or_default();
    let tokenizer = json(folder, "tokenizer.json").unwrap_or_else(|| stand_in(rows));
    let config = json(folder, "tokenizer_config.json");
    let template = fs::read_to_string(folder.join("chat_template.jinja")).ok();
    let imatrix = rest
        .first()
        .map(|f| Ok::<_, Box<dyn Error>>((Imatrix::parse(&fs::read(f)?)?, f)));
    let imatrix = imatrix.transpose()?;
    let name = folder.file_name().map(|n| n.to_string_lossy().into_owned());
    let plan = plan(&Request {
        name: &name.unwrap_or_default(),
        tensors: &checkpoint.sources,
        files: Files {
            tokenizer: Some(&tokenizer),
            config: config.as_ref(),
            model: &model,
            template: template.as_deref(),
            pre: None,
        },
        mix: Mix::by_name(mix)?,
        pooling: &[],
        overrides: &Overrides::default(),
        imatrix: imatrix.as_ref().map(|(m, f)| (m, f.as_str())),
    })?;
    for warning in &plan.warnings {
        eprintln!("warning: {warning}");
    }
    write(Path::new(out), &plan, &checkpoint)
}
