//! The settings that are stored with every matrix.

use super::packing::packing;
use crate::container::safetensors::Planned;
use crate::layout::parts::planned;
use crate::tensor::Dtype;

/// A setting that is stored with every matrix.
#[derive(Debug)]
pub(super) enum Setting {
    Number(usize),
    Flag(bool),
    Word(&'static str),
}

/// Everything but codes, scales, zeros and the shape.
pub(super) fn settings(bits: u8, group: usize, dtype: Dtype) -> Vec<(&'static str, Setting)> {
    use Setting::{Flag, Number, Word};
    let compute = match dtype {
        Dtype::F16 => "torch.float16",
        Dtype::BF16 => "torch.bfloat16",
        _ => "torch.float32",
    };
    let view = if bits == 3 {
        "torch.int32"
    } else {
        "torch.uint8"
    };
    vec![
        ("axis", Number(1)),
        ("channel_wise", Flag(true)),
        ("compute_dtype", Word(compute)),
        ("encoded_state_dict", Flag(true)),
        ("group_size", Number(group)),
        ("nbits", Number(usize::from(bits))),
        ("offload_meta", Flag(false)),
        ("optimize", Flag(true)),
        ("packing", Word(packing(bits).name)),
        ("quant_scale", Flag(false)),
        ("quant_zero", Flag(false)),
        // What the solver starts from; its result is not rounded.
        ("round_zero", Flag(bits == 4)),
        ("stores_quant_config", Flag(true)),
        ("unpack_view_dtype", Word(view)),
        ("view_as_float", Flag(false)),
    ]
}

impl Setting {
    pub(super) fn planned(&self, base: &str, name: &str) -> Planned {
        match self {
            Self::Number(_) => planned(base, name, Dtype::I32, &[]),
            Self::Flag(_) => planned(base, name, Dtype::U8, &[]),
            Self::Word(word) => planned(base, name, Dtype::U8, &[word.len()]),
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Number(n) => (*n as u32).to_le_bytes().to_vec(),
            Self::Flag(flag) => vec![u8::from(*flag)],
            Self::Word(word) => word.as_bytes().to_vec(),
        }
    }
}
