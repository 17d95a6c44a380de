//! What transformers computed of texts, for models that embed or classify.

use super::{ids, root, tensors};
use lowbit::Tensor;
use lowbit::model::encoder::Text;
use std::collections::BTreeMap;

/// What transformers computed.
pub(crate) struct Reference {
    /// The results by name.
    pub(crate) tensors: BTreeMap<String, Tensor>,
    /// Those of all texts.
    pub(crate) tokens: Vec<u32>,
    /// Their lengths.
    pub(crate) texts: Vec<Text>,
}

impl Reference {
    /// Reads the fixture of a model that embeds or classifies.
    pub(crate) fn read(name: &str) -> Self {
        let tensors = tensors(&root("test/fixtures").join(format!("{name}.safetensors")));
        let list = |key: &str| ids(&tensors[key]);
        let texts = list("lengths").into_iter().zip(list("second"));
        let text = |(length, second): (u32, u32)| Text {
            length: length as usize,
            second: second as usize,
        };
        Self {
            texts: texts.map(text).collect(),
            tokens: list("tokens"),
            tensors,
        }
    }

    /// Largest difference from a tensor, relative to its largest value.
    pub(crate) fn worst(&self, key: &str, found: &[f32]) -> f32 {
        let wanted = self.tensors[key].view().and_then(|t| t.to_f32());
        let wanted = wanted.expect("floats");
        assert_eq!(found.len(), wanted.len(), "{key}");
        let largest = wanted.iter().fold(0.0f32, |a, v| a.max(v.abs()));
        let worse = |a: f32, d: f32| if d > a || d.is_nan() { d } else { a };
        let differences = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs());
        differences.fold(0.0, worse) / largest
    }
}
