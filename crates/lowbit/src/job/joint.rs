//! NVFP4's scale above its scales: one for all matrices that engines join into one.
//!
//! vLLM keeps one such scale for queries, keys and values and one for gate and up projection, and
//! takes the largest of those it finds; codes that were made under another would be wrong.

use super::material::Material;
use super::plan::{Layer, Plan};
use crate::error::Result;
use crate::round::rtn;
use crate::scheme::Element;

/// Largest magnitudes of joined matrices, by `Part::joined`.
#[derive(Debug, Default)]
pub(super) struct Joint(Vec<((u8, u16), f32)>);

impl Joint {
    /// That of every joined matrix among `layers`, none of which is quantized yet.
    pub(super) fn of<'a>(
        material: &Material,
        layers: impl Iterator<Item = &'a Layer>,
    ) -> Result<Self> {
        let mut joint = Self::default();
        for layer in layers.filter(|l| l.scheme.element == Element::Nvfp4) {
            if layer.linear.part.joined().is_some() {
                joint.add(layer, &material.values(layer.linear.part)?);
            }
        }
        Ok(joint)
    }

    /// Takes weights of a layer, all of them or some.
    pub(super) fn add(&mut self, layer: &Layer, values: &[f32]) {
        let Some(key) = layer.linear.part.joined() else {
            return;
        };
        let largest = rtn::absmax(values);
        match self.0.iter_mut().find(|(k, _)| *k == key) {
            Some((_, most)) => *most = most.max(largest),
            None => self.0.push((key, largest)),
        }
    }

    /// The largest magnitude that the scale of a layer must cover; its own when nothing is known.
    pub(super) fn of_layer(&self, layer: &Layer) -> Option<f32> {
        let key = layer.linear.part.joined()?;
        let found = self.0.iter().find(|(k, _)| *k == key)?;
        (layer.scheme.element == Element::Nvfp4).then_some(found.1)
    }
}

/// The layers of a block whose weights have to be looked at before any of them is rounded.
pub(super) fn scanned(plan: &Plan, block: usize) -> Vec<Layer> {
    let joined = |l: &&Layer| {
        let alike = |o: &&Layer| o.linear.part.joined() == l.linear.part.joined();
        let layers = plan.layers_of(block).filter(alike);
        let nvfp4 = |l: &Layer| l.scheme.element == Element::Nvfp4;
        l.linear.part.joined().is_some() && nvfp4(l) && layers.filter(|l| nvfp4(l)).count() > 1
    };
    plan.layers_of(block).filter(joined).cloned().collect()
}
