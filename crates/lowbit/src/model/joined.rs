//! Linears that engines join into one matrix when they load a model: queries, keys and values, gate
//! and up projection (`Part::joined`).
//!
//! One matrix has one scheme, and for NVFP4 one scale above its scales.

use super::config::Config;
use super::weights;

/// The modules of every set that is joined, in the order of the model; a set has two or more.
pub fn sets(config: &Config) -> Vec<Vec<String>> {
    let blocks = 0..config.layers;
    blocks.flat_map(|block| of_block(config, block)).collect()
}

fn of_block(config: &Config, block: usize) -> Vec<Vec<String>> {
    let mut found: Vec<((u8, u16), Vec<String>)> = Vec::new();
    for linear in weights::linears(config, block) {
        let Some(key) = linear.part.joined().filter(|_| linear.quantizable) else {
            continue;
        };
        match found.iter_mut().find(|(k, _)| *k == key) {
            Some((_, set)) => set.push(linear.module),
            None => found.push((key, vec![linear.module])),
        }
    }
    let sets = found.into_iter().map(|(_, set)| set);
    sets.filter(|set| set.len() > 1).collect()
}

/// The first two linears of a set that do not have the same scheme, as a sentence; none when all
/// sets can be joined. `scheme` names that of a module, none for one that is not quantized.
pub fn torn(config: &Config, scheme: impl Fn(&str) -> Option<String>) -> Option<String> {
    let own = |module: &str| scheme(module).unwrap_or_else(|| "as it is".into());
    sets(config).into_iter().find_map(|set| {
        let first = own(&set[0]);
        let other = set.iter().find(|module| own(module) != first)?;
        Some(format!("{} is {first}, {other} is {}", set[0], own(other)))
    })
}
