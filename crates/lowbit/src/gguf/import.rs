//! GGUF files as the checkpoint that they were made of: config.json, the tokenizer's files, and
//! where each of its tensors lies.
//!
//! ```text
//! open(first bytes of a file) ─► Head: more of them ┐
//!      └──────────────────────── Files: its siblings ┼─► … open again with what was asked for
//!                             Values: a small tensor ┘
//! ```
//! Nothing is kept between the calls and nothing is read here.

use super::header::{Header, Limits, Parsed, parse};
use super::import_config::{Model, config};
use super::import_latent::{Joined, joined, modern};
use super::import_names::places;
use super::import_rope::FACTORS;
use super::import_tokenizer::{generation, tokenizer};
use super::mix::MIXES;
use super::value::{Metadata, Value};
use super::{codec, pooling, split};
use crate::error::{Code, Error, Result};
use crate::tensor::Dtype;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};

pub use super::import_names::{Place, Second};

/// One file of a model, as far as it was read.
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    /// Its name, without the folder.
    pub name: &'a str,
    /// How long it is.
    pub bytes: u64,
    /// Its first bytes.
    pub head: &'a [u8],
}

/// What opening a model gave.
#[derive(Debug)]
pub enum Step {
    /// Call again with this many first bytes of a file, by its index.
    Head(usize, u64),
    /// The model has several files: call again with all of them, in this order.
    Files(Vec<String>),
    /// Call again with the values of a tensor of a file, by its index.
    Values {
        /// Its name.
        name: String,
        /// The file.
        file: usize,
        /// First byte in it.
        offset: u64,
        /// How many bytes.
        bytes: u64,
    },
    /// The checkpoint.
    Done(Box<Import>),
}

/// A model of GGUF files as a checkpoint.
#[derive(Debug)]
pub struct Import {
    /// Files of the checkpoint that GGUF keeps in its metadata, by name.
    pub texts: Vec<(&'static str, Json)>,
    /// Files that cannot be made of it, and why.
    pub problems: Vec<(&'static str, Error)>,
    /// The tensors, in the order of files and bytes.
    pub tensors: Vec<Place>,
    /// Keys and values as text; long arrays by their length.
    pub metadata: Vec<(String, String)>,
    /// Version of the container.
    pub version: u32,
    /// The mix that the file says it is, by name.
    pub mix: Option<&'static str>,
}

/// Opens a model of one file or several, of which `files[0]` is any one.
///
/// `values` are the bytes of tensors that were asked for, by name; `floats` is the type that blocks
/// are to be decoded to, if they are. Codes of `header::parse`, `split::check` and of the parts of
/// the import; those that concern one file only have its name.
pub fn open(
    files: &[File<'_>],
    values: &BTreeMap<String, Vec<u8>>,
    floats: Option<Dtype>,
) -> Result<Step> {
    let mut headers = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let at = |e: Error| e.at(file.name);
        if file.head.len() as u64 > file.bytes {
            let what = format!("{} bytes of a file of {}", file.head.len(), file.bytes);
            return Err(at(Error::new(Code::FileChanged, what)));
        }
        match parse(file.head, file.bytes, &Limits::default()).map_err(at)? {
            Parsed::Need(bytes) => return Ok(Step::Head(index, bytes)),
            Parsed::Header(header) => headers.push(*header),
        }
        let count = split::count(&headers[index]).map_err(at)?;
        if count > 1 && files.len() == 1 {
            return siblings(file.name, count).map(Step::Files);
        }
    }
    split::check(&headers)?;
    let Some(first) = headers.first() else {
        return Err(Error::new(Code::Internal, "no files were given"));
    };
    let factors = match factors(&headers, values)? {
        Ok(factors) => factors,
        Err(step) => return Ok(step),
    };
    match import(&headers, &first.metadata, &factors, floats) {
        Ok(import) => Ok(Step::Done(Box::new(import))),
        Err(error) => Err(error.at(files[0].name)),
    }
}

/// The names of all files of a model; `index` when this one's name is no part of a series.
fn siblings(name: &str, count: usize) -> Result<Vec<String>> {
    let Some((stem, _, _)) = split::parse_name(name).filter(|(_, _, n)| *n == count) else {
        let what = format!("{name:?} is one of {count} files, its name does not say which");
        return Err(
            Error::new(Code::Index, what).remedy("name the files as in model-00001-of-00003.gguf")
        );
    };
    Ok((0..count)
        .map(|i| split::file_name(stem, i, count))
        .collect())
}

/// Values of the tensors that config.json is made of, or the step that brings them.
fn factors(
    headers: &[Header],
    values: &BTreeMap<String, Vec<u8>>,
) -> Result<std::result::Result<BTreeMap<String, Vec<f32>>, Step>> {
    let mut out = BTreeMap::new();
    for (file, header) in headers.iter().enumerate() {
        let wanted = header
            .tensors
            .iter()
            .filter(|t| FACTORS.contains(&&*t.name));
        for tensor in wanted {
            let Some(bytes) = values.get(&tensor.name) else {
                return Ok(Err(Step::Values {
                    name: tensor.name.clone(),
                    file,
                    offset: header.data_start + tensor.offset,
                    bytes: tensor.bytes,
                }));
            };
            let at = |e: Error| e.at(format!("tensor {:?}", tensor.name));
            let count = tensor.shape.iter().product::<usize>();
            // A rotary embedding has no more frequencies than this.
            if count > 1 << 13 {
                let what = format!("{count} frequencies");
                return Err(at(Error::new(Code::Shape, what)));
            }
            let mut floats = vec![0.0; count];
            codec::decode(tensor.ty, bytes, &mut floats).map_err(at)?;
            out.insert(tensor.name.clone(), floats);
        }
    }
    Ok(Ok(out))
}

fn import(
    headers: &[Header],
    own: &Metadata,
    factors: &BTreeMap<String, Vec<f32>>,
    floats: Option<Dtype>,
) -> Result<Import> {
    let m = &*modern(own)?;
    if let Some(kind) = m.string("general.type")?.filter(|kind| *kind != "model") {
        let what = format!("the file is of type {kind:.60?}, not a model");
        return Err(Error::new(Code::NotAModel, what).at("the metadata"));
    }
    let model = Model::read(m)?;
    let all = || headers.iter().flat_map(|h| &h.tensors);
    let names: BTreeSet<&str> = all().map(|t| &*t.name).collect();
    let rows = |name: &str| all().find(|t| t.name == name)?.shape.first().copied();
    let tensors_of = (&names, rows("token_embd.weight"), rows("cls.output.weight"));
    let mut texts = vec![("config.json", config(m, &model, tensors_of, factors)?)];
    let mut problems = Vec::new();
    match tokenizer(m) {
        Ok(Some((tokenizer, settings))) => {
            texts.push(("tokenizer.json", tokenizer));
            texts.push(("tokenizer_config.json", settings));
        }
        Ok(None) => {}
        // Everything but text works without it.
        Err(error) => problems.push(("tokenizer.json", error)),
    }
    let width = m.index(&format!("{}.embedding_length", model.arch))?;
    texts.extend(pooling::texts(m, &model.arch, width.unwrap_or(0))?);
    match generation(m) {
        Ok(json) => texts.push(("generation_config.json", json)),
        Err(error) => problems.push(("generation_config.json", error)),
    }
    let tensors = tensors(headers, &model, floats)?;
    let file_type = m.index("general.file_type")?;
    let mix = MIXES
        .iter()
        .find(|mix| Some(u64::from(mix.file_type)) == file_type);
    Ok(Import {
        texts,
        problems,
        tensors,
        metadata: own.iter().map(|(k, v)| (k.into(), shown(v))).collect(),
        version: headers[0].version,
        mix: mix.map(|mix| mix.name),
    })
}

/// The checkpoint's tensors, in the order of files and bytes.
fn tensors(headers: &[Header], model: &Model, floats: Option<Dtype>) -> Result<Vec<Place>> {
    let all = headers
        .iter()
        .enumerate()
        .flat_map(|(file, header)| header.tensors.iter().map(move |t| (file, header, t)));
    let by_name: BTreeMap<&str, _> = all.clone().map(|found| (&*found.2.name, found)).collect();
    let mut out = Vec::new();
    // What became a part of config.json is no tensor of the checkpoint.
    for (file, header, tensor) in all.filter(|(.., t)| !FACTORS.contains(&&*t.name)) {
        match joined(model, tensor, |name| by_name.get(name).copied(), floats)? {
            Joined::No => out.extend(places(model, tensor, (file, header.data_start), floats)?),
            Joined::Elsewhere => {}
            Joined::Here(place) => out.push(*place),
        }
    }
    Ok(out)
}

/// Longest text of a value that is shown whole.
const SHOWN: usize = 16 << 10;

fn shown(value: &Value) -> String {
    match value {
        Value::String(s) => s.chars().take(SHOWN).collect(),
        Value::Bool(b) => b.to_string(),
        Value::F32(x) => x.to_string(),
        Value::F64(x) => x.to_string(),
        Value::I64(x) => x.to_string(),
        Value::I32(x) => x.to_string(),
        Value::I16(x) => x.to_string(),
        Value::I8(x) => x.to_string(),
        Value::Array(list) => format!("[{} values]", list.len()),
        other => other.as_index().map_or_else(String::new, |x| x.to_string()),
    }
}
