//! Formats `nvfp4-pack-quantized` and `mxfp4-pack-quantized`: E2M1 floats, two to a byte.
//!
//! ```text
//! weight_packed        U8       [rows, cols/2]   even columns in the low half of a byte
//! weight_scale         F8_E4M3  [rows, cols/16]  nvfp4: over weight_global_scale
//!                      U8       [rows, cols/32]  mxfp4: E8M0
//! weight_global_scale  F32      [1]              nvfp4 only; scales are divided by it
//! input_global_scale   F32      [1]              inputs in E2M1 too: the same for their scales
//! ```
//! A code is `s ee m` (minifloat.rs). Engines join queries, keys and values, and gate and up
//! projection: each set has one `weight_global_scale` (job/joint.rs).

use super::format::{Format, Place};
use crate::container::safetensors::Planned;
use crate::error::{Code, Error, Result};
use crate::layout::parts::{Parts, bytes_from_words, named, planned, words_from_bytes};
use crate::matrix::{Codes, Floats, Inputs, QuantizedMatrix, Scales, Table, Values};
use crate::minifloat::E2M1;
use crate::pack::words_len;
use crate::scheme::{Element, Group, Scheme};
use crate::tensor::{Dtype, Tensor};

/// One of the two.
#[derive(Debug)]
pub(super) struct Fp4 {
    name: &'static str,
    element: Element,
    group: usize,
}

pub(super) static NVFP4: Fp4 = Fp4 {
    name: "nvfp4-pack-quantized",
    element: Element::Nvfp4,
    group: 16,
};

pub(super) static MXFP4: Fp4 = Fp4 {
    name: "mxfp4-pack-quantized",
    element: Element::Mxfp4,
    group: 32,
};

/// Bytes of a row in a file are the words of `Codes` but for the padding to a whole word.
fn file_bytes(codes: &Codes, cols: usize) -> Vec<u8> {
    let rows = codes.words.chunks_exact(codes.row_words);
    rows.flat_map(|row| bytes_from_words(row).into_iter().take(cols / 2))
        .collect()
}

fn codes_of(bytes: &[u8], cols: usize) -> Codes {
    let row_words = words_len(cols, 4);
    let row = |row: &[u8]| {
        let mut row = row.to_vec();
        row.resize(4 * row_words, 0);
        words_from_bytes(&row)
    };
    Codes {
        bits: 4,
        row_words,
        words: bytes.chunks_exact(cols / 2).flat_map(row).collect(),
    }
}

impl Format for Fp4 {
    fn name(&self) -> &'static str {
        self.name
    }

    fn accepts(&self, scheme: &Scheme) -> Result<()> {
        let no = |why: String| Err(Error::new(Code::Scheme, format!("{scheme}: {why}")));
        if scheme.element != self.element {
            return no(format!("{} holds other weights", self.name));
        }
        if scheme.group != Group::Run(self.group) {
            return no(format!("{} has groups of {}", self.name, self.group));
        }
        if scheme.activations.is_some_and(|a| a.bits != 4) {
            return no(format!("{} has inputs as they are or in 4 bits", self.name));
        }
        Ok(())
    }

    fn fits(&self, scheme: &Scheme, _rows: usize, cols: usize) -> Result<()> {
        scheme.group_cols(cols).map(|_| ())
    }

    fn outputs(&self, place: Place<'_>, _scale_dtype: Dtype, _by_index: bool) -> Vec<Planned> {
        let (rows, cols) = place.shape;
        let scale = match self.element {
            Element::Nvfp4 => Dtype::F8E4M3,
            _ => Dtype::U8,
        };
        let groups = cols / self.group;
        let mut all = vec![
            planned(place.base, "weight_packed", Dtype::U8, &[rows, cols / 2]),
            planned(place.base, "weight_scale", scale, &[rows, groups]),
        ];
        if self.element == Element::Nvfp4 {
            all.push(planned(place.base, "weight_global_scale", Dtype::F32, &[1]));
        }
        if place.scheme.activations.is_some() {
            all.push(planned(place.base, "input_global_scale", Dtype::F32, &[1]));
        }
        all
    }

    fn encode(&self, place: Place<'_>, matrix: &QuantizedMatrix) -> Result<Vec<Tensor>> {
        let differs = || {
            let what = format!("the matrix is not {}", place.scheme);
            Err(Error::new(Code::Qparam, what))
        };
        let Values::Table(m) = &matrix.values else {
            return differs();
        };
        if m.values != E2M1 || m.group != self.group {
            return differs();
        }
        let mut data = vec![file_bytes(&m.codes, matrix.cols)];
        match (&m.scales, self.element) {
            (
                Scales::Divided {
                    values: f @ Floats::E4m3(_),
                    divisor,
                },
                Element::Nvfp4,
            ) => {
                data.push(f.to_bytes());
                data.push(divisor.to_le_bytes().to_vec());
            }
            (Scales::Flat(f @ Floats::E8m0(_)), Element::Mxfp4) => data.push(f.to_bytes()),
            _ => return differs(),
        }
        if place.scheme.activations.is_some() {
            let Some(scale) = matrix.inputs.and_then(|i| i.scale) else {
                let scheme = place.scheme;
                let what = format!("{scheme} needs the scale of its inputs from calibration");
                return Err(Error::new(Code::Qparam, what));
            };
            data.push(scale.to_le_bytes().to_vec());
        }
        Ok(named(self.outputs(place, Dtype::F32, false), data))
    }

    fn decode(&self, base: &str, scheme: &Scheme, tensors: &[Tensor]) -> Result<QuantizedMatrix> {
        let parts = Parts { base, tensors };
        let (rows, half, packed) = parts.matrix("weight_packed", Dtype::U8)?;
        let cols = 2 * half;
        self.fits(scheme, rows, cols)
            .map_err(|e| e.at(format!("{base:?}")))?;
        let shape = [rows, cols / self.group];
        let scales = if self.element == Element::Nvfp4 {
            let scale = parts.get("weight_scale", &[Dtype::F8E4M3], &shape)?;
            let global = parts.single("weight_global_scale", &[Dtype::F32])?;
            Scales::Divided {
                values: Floats::E4m3(scale.bytes.clone()),
                divisor: global.get(0),
            }
        } else {
            let scale = parts.get("weight_scale", &[Dtype::U8, Dtype::F8E8M0], &shape)?;
            Scales::Flat(Floats::E8m0(scale.bytes.clone()))
        };
        let mut inputs = Inputs::of(scheme);
        if let Some(inputs) = &mut inputs {
            let global = parts.single("input_global_scale", &[Dtype::F32])?;
            inputs.scale = Some(global.get(0));
        }
        Ok(QuantizedMatrix {
            rows,
            cols,
            values: Values::Table(Table {
                codes: codes_of(&packed.bytes, cols.max(2)),
                values: E2M1.to_vec(),
                group: self.group,
                scales,
            }),
            inputs,
        })
    }
}
