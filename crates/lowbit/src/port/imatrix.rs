//! Importance matrices: collected sample by sample, merged, written in either format.

use super::parse::parse;
use crate::error::{Code, Error, Result};
use crate::gguf::gather::gather;
use crate::gguf::imatrix::Imatrix;
use crate::session::Engine;
use serde::Deserialize;

/// What is to be done.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImatrixRequest {
    /// The model that a sample is run through; files are merged without one.
    #[serde(default)]
    pub model: Option<u32>,
    /// Names of calibration texts that the file is to list.
    #[serde(default)]
    datasets: Vec<String>,
    /// `gguf` or `dat`, the format before that.
    #[serde(default)]
    format: Option<String>,
}

pub(super) fn read(request: &str) -> Result<ImatrixRequest> {
    parse("imatrix", request)
}

/// The tokens of one sample as little-endian u32, run through a model: a file of GGUF.
pub(super) fn collect(
    engine: &Engine,
    request: &ImatrixRequest,
    data: &[Vec<u8>],
) -> Result<Vec<u8>> {
    if engine.gpu.is_some() {
        let error = Error::new(
            Code::Unsupported,
            "an importance matrix is collected on the CPU",
        );
        return Err(error.remedy("load the model with device cpu"));
    }
    let bytes = data.first().map_or(&[][..], Vec::as_slice);
    let tokens: Vec<u32> = bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| u32::from_le_bytes(*b))
        .collect();
    let mut imatrix = gather(&engine.cpu, &engine.model, &tokens)?;
    imatrix.datasets.clone_from(&request.datasets);
    write(&imatrix, request)
}

/// Files in either format, added up.
pub(super) fn merge(request: &ImatrixRequest, data: &[Vec<u8>]) -> Result<Vec<u8>> {
    let mut sum = Imatrix::default();
    for (i, bytes) in data.iter().enumerate() {
        let place = |e: Error| e.at(format!("file {}", i + 1));
        sum.merge(&Imatrix::parse(bytes).map_err(place)?)
            .map_err(place)?;
    }
    for name in &request.datasets {
        if !sum.datasets.contains(name) {
            sum.datasets.push(name.clone());
        }
    }
    write(&sum, request)
}

fn write(imatrix: &Imatrix, request: &ImatrixRequest) -> Result<Vec<u8>> {
    match request.format.as_deref() {
        None | Some("gguf") => imatrix.to_gguf(),
        Some("dat") => imatrix.to_legacy(),
        Some(other) => {
            let error = Error::new(Code::Option, format!("unknown imatrix format {other:?}"));
            Err(error.remedy("expected gguf or dat"))
        }
    }
}
