//! The formats that compressed-tensors stores a module in, one value of `format` each.

use super::fp4::{MXFP4, NVFP4};
use super::pack::PACK;
use super::whole::{FLOAT, INT, NAIVE};
use crate::container::safetensors::Planned;
use crate::error::Result;
use crate::matrix::QuantizedMatrix;
use crate::scheme::{Element, Scheme};
use crate::tensor::{Dtype, Tensor};

/// A matrix that is planned or written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The module.
    pub(super) base: &'a str,
    pub(super) scheme: &'a Scheme,
    /// Outputs and inputs.
    pub(super) shape: (usize, usize),
}

/// One value of `format`.
pub(super) trait Format: Sync + std::fmt::Debug {
    /// The value in `quantization_config`.
    fn name(&self) -> &'static str;

    /// Whether it has a place for a scheme; `scheme` with the reason otherwise.
    fn accepts(&self, scheme: &Scheme) -> Result<()>;

    /// Whether a matrix of this shape divides as its scheme asks.
    fn fits(&self, scheme: &Scheme, rows: usize, cols: usize) -> Result<()>;

    /// As `Layout::outputs`.
    fn outputs(&self, place: Place<'_>, scale_dtype: Dtype, by_index: bool) -> Vec<Planned>;

    /// As `Layout::encode`, for a matrix that is sound and fits.
    fn encode(&self, place: Place<'_>, matrix: &QuantizedMatrix) -> Result<Vec<Tensor>>;

    /// As `Layout::decode`, without the check of the matrix itself.
    fn decode(&self, base: &str, scheme: &Scheme, tensors: &[Tensor]) -> Result<QuantizedMatrix>;
}

/// Every format that is read.
pub(super) static FORMATS: &[&dyn Format] = &[&PACK, &INT, &FLOAT, &NAIVE, &NVFP4, &MXFP4];

/// The format that compressed-tensors itself would choose.
pub(super) fn home(scheme: &Scheme) -> &'static dyn Format {
    match (scheme.element, scheme.activations) {
        (Element::Int, Some(_)) => &INT,
        (Element::Fp8, Some(_)) => &FLOAT,
        (Element::Fp8, None) => &NAIVE,
        (Element::Nvfp4, _) => &NVFP4,
        (Element::Mxfp4, _) => &MXFP4,
        (Element::Int | Element::Nf4 | Element::Fp4 | Element::Aqlm, _) => &PACK,
    }
}
