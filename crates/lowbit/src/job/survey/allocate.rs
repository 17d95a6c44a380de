//! The cheapest choice of schemes inside a budget of bits.

use super::Place;
use crate::error::{Code, Error, Result};

/// Steps that the budget above the smallest choice is counted in.
const STEPS: usize = 1 << 14;

/// The cell of each place that costs least in sum, with at most `target` bits per weight.
///
/// Exact up to the step that bits are counted in: a knapsack with one choice per place. What the
/// steps leave over goes to the places that gain most by it. `option` when even the smallest
/// schemes take more.
pub(super) fn choose(places: &[Place], target: f64) -> Result<Vec<usize>> {
    let weights: u64 = places.iter().map(|p| p.weights).sum();
    let budget = (target * weights as f64).floor() as u64;
    let least: u64 = places.iter().map(smallest).sum();
    if budget < least {
        let bits = least as f64 / weights.max(1) as f64;
        let what = format!("targetBpw is {target}, the smallest schemes take {bits:.3}");
        return Err(Error::new(Code::Option, what).remedy("add a candidate of fewer bits"));
    }
    let slack = budget - least;
    let step = slack.div_ceil(STEPS as u64).max(1);
    let width = (slack / step) as usize + 1;
    let extra = |place: &Place, cell: usize| (place.cells[cell].bits - smallest(place)) as usize;
    let mut costs = vec![0.0f64; width];
    let mut chosen: Vec<Vec<u8>> = Vec::with_capacity(places.len());
    for place in places {
        let mut next = vec![f64::INFINITY; width];
        let mut choice = vec![0u8; width];
        for cell in 0..place.cells.len() {
            let steps = extra(place, cell).div_ceil(step as usize);
            let cost = place.cells[cell].cost;
            for (at, before) in (steps..width).zip(&costs) {
                if before + cost < next[at] {
                    (next[at], choice[at]) = (before + cost, cell as u8);
                }
            }
        }
        costs = next;
        chosen.push(choice);
    }
    let mut cells = vec![0; places.len()];
    let mut at = width - 1;
    for (i, place) in places.iter().enumerate().rev() {
        cells[i] = usize::from(chosen[i][at]);
        at -= extra(place, cells[i]).div_ceil(step as usize);
    }
    spend(places, budget, &mut cells);
    Ok(cells)
}

fn smallest(place: &Place) -> u64 {
    place.cells.iter().map(|c| c.bits).min().unwrap_or(0)
}

/// Spends what is left on single changes, the best one first.
fn spend(places: &[Place], budget: u64, cells: &mut [usize]) {
    loop {
        let spent: u64 = places
            .iter()
            .zip(&*cells)
            .map(|(p, c)| p.cells[*c].bits)
            .sum();
        let mut best: Option<(f64, usize, usize)> = None;
        for (i, place) in places.iter().enumerate() {
            let now = &place.cells[cells[i]];
            for (cell, other) in place.cells.iter().enumerate() {
                let fits = spent - now.bits + other.bits <= budget;
                let gain = now.cost - other.cost;
                if fits && gain > best.map_or(0.0, |(g, _, _)| g) {
                    best = Some((gain, i, cell));
                }
            }
        }
        match best {
            Some((_, i, cell)) => cells[i] = cell,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cell;
    use super::*;
    use crate::scheme::{Group, Scheme};

    fn places() -> Vec<Place> {
        let cell = |(bits, cost): (u64, f64)| Cell {
            scheme: Scheme::weights(4, Group::Row, true),
            bits,
            proxy: 0.0,
            kl: None,
            cost,
        };
        let place = |i: usize| {
            let n = 7 + 5 * (i as u64 * 13 % 11);
            let worth = 0.1 + (i * 29 % 17) as f64;
            let cells = [(3 * n, worth), (4 * n, worth * 0.3), (8 * n, worth * 0.01)];
            Place {
                block: i,
                role: String::new(),
                layers: Vec::new(),
                weights: n,
                cells: cells.into_iter().map(cell).collect(),
            }
        };
        (0..9).map(place).collect()
    }

    /// Every choice there is.
    fn best(places: &[Place], budget: f64) -> f64 {
        let mut best = f64::INFINITY;
        for code in 0..3usize.pow(places.len() as u32) {
            let cell = |i: usize| &places[i].cells[code / 3usize.pow(i as u32) % 3];
            let bits: u64 = (0..places.len()).map(|i| cell(i).bits).sum();
            let cost = (0..places.len()).map(|i| cell(i).cost).sum();
            if bits as f64 <= budget && cost < best {
                best = cost;
            }
        }
        best
    }

    #[test]
    fn choice_is_the_best_there_is() {
        let places = places();
        let weights: u64 = places.iter().map(|p| p.weights).sum();
        for target in [3.0, 3.1, 3.5, 4.0, 4.7, 6.0, 8.0, 9.0] {
            let cells = choose(&places, target).unwrap();
            let picked = || places.iter().zip(&cells).map(|(p, c)| &p.cells[*c]);
            let bits: u64 = picked().map(|c| c.bits).sum();
            assert!(bits as f64 <= target * weights as f64);
            let cost: f64 = picked().map(|c| c.cost).sum();
            let wanted = best(&places, target * weights as f64);
            assert!((cost - wanted).abs() < 1e-9, "{target}: {cost} {wanted}");
        }
        let e = choose(&places, 2.9).unwrap_err();
        assert!(e.what.ends_with("take 3.000"), "{e}");
    }
}
