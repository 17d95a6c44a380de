//! What engines that serve models do with the matrices of a plan: they join some into one, and cut
//! each over several devices.

use super::plan::{Layer, Plan};
use crate::model::joined;
use crate::model::ops::Part;
use crate::scheme::{Group, Scheme, ZeroPoint};
use std::collections::BTreeMap;

/// Numbers of devices that people use.
const RANKS: &[usize] = &[1, 2, 4, 8];

/// Bits of the words that codes are packed into.
const WORD: usize = 32;

/// Whether the model can be cut over some number of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parallel {
    /// The number of devices.
    pub ranks: usize,
    /// Why not, if it cannot.
    pub why: Option<String>,
}

/// Tensor parallelism as engines do it: heads are shared out, linears whose outputs are added up are
/// cut by columns, all others by rows.
pub(super) fn parallel(plan: &Plan) -> Vec<Parallel> {
    let heads = (plan.model.heads, plan.model.kv_heads);
    let why = |ranks: usize| {
        let of_layer = |l: &Layer| {
            let shape = (l.linear.rows, l.linear.cols);
            let why = cut(l.linear.part, shape, &l.scheme, ranks)?;
            Some(format!("{}: {why}", l.linear.module))
        };
        share(heads, ranks).or_else(|| plan.layers.iter().find_map(of_layer))
    };
    let of_ranks = |&ranks: &usize| Parallel {
        ranks,
        why: (ranks > 1).then(|| why(ranks)).flatten(),
    };
    RANKS.iter().map(of_ranks).collect()
}

/// Why heads cannot be shared out; fewer key heads than devices are repeated.
fn share((heads, keys): (usize, usize), ranks: usize) -> Option<String> {
    if !heads.is_multiple_of(ranks) {
        return Some(format!("{heads} heads"));
    }
    let shared = keys.is_multiple_of(ranks) || ranks.is_multiple_of(keys);
    (!shared).then(|| format!("{keys} key heads"))
}

/// Why a linear cannot be cut: a part must hold whole groups, blocks and words.
fn cut(part: Part, (rows, cols): (usize, usize), scheme: &Scheme, ranks: usize) -> Option<String> {
    let by_columns = matches!(
        part,
        Part::O | Part::Down | Part::ExpertDown(_) | Part::SharedDown
    );
    let word = WORD.div_ceil(usize::from(scheme.bits));
    let (whole, unit, what) = if by_columns {
        let unit = match scheme.group {
            Group::Run(n) | Group::Flat(n) => n,
            Group::Block { cols, .. } => cols,
            Group::Row | Group::Tensor => word,
        };
        (cols, unit, "columns")
    } else {
        let unit = match (scheme.group, scheme.zero) {
            (Group::Block { rows, .. }, _) => rows,
            // Zero points are packed down the rows.
            (_, ZeroPoint::Int) => word,
            _ => 1,
        };
        (rows, unit, "rows")
    };
    if !whole.is_multiple_of(ranks) {
        return Some(format!("{whole} {what}"));
    }
    let part = whole / ranks;
    (!part.is_multiple_of(unit))
        .then(|| format!("{part} {what} of a rank are no multiple of {unit}"))
}

/// The first two linears that engines join into one matrix although they are quantized differently.
pub(super) fn torn(plan: &Plan) -> Option<String> {
    let layers = plan.layers.iter();
    let schemes: BTreeMap<_, _> = layers.map(|l| (&*l.linear.module, l.scheme)).collect();
    joined::torn(&plan.model, |module| {
        schemes.get(module).map(Scheme::to_string)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(part: Part, shape: (usize, usize), scheme: &str, ranks: usize) -> Option<String> {
        cut(part, shape, &scheme.parse().unwrap(), ranks)
    }

    #[test]
    fn groups_blocks_and_words_are_not_cut() {
        let down = |cols: usize, scheme: &str| {
            let fits = |r: &&usize| why(Part::Down, (4096, cols), scheme, **r).is_none();
            RANKS.iter().filter(fits).copied().collect::<Vec<_>>()
        };
        assert_eq!(down(8192, "w4g128"), [1, 2, 4, 8]);
        // 11008 / 4 = 2752 columns are 21.5 groups of 128.
        assert_eq!(down(11008, "w4g128"), [1, 2]);
        let text = why(Part::Down, (4096, 11008), "w4g128", 4).unwrap();
        assert_eq!(text, "2752 columns of a rank are no multiple of 128");
        assert_eq!(down(11008, "w4g32"), [1, 2, 4, 8]);
        assert_eq!(down(11008, "fp8a8b128x128"), [1, 2]);
        assert_eq!(down(40, "w4"), [1]);
    }

    #[test]
    fn zero_points_are_packed_down_the_rows() {
        assert_eq!(why(Part::Up, (96, 512), "w4g128", 8), None);
        let text = why(Part::Up, (96, 512), "w4g128-asym", 8).unwrap();
        assert!(text.starts_with("12 rows of a rank"), "{text}");
        assert_eq!(why(Part::Up, (90, 512), "w4", 4).unwrap(), "90 rows");
    }

    #[test]
    fn key_heads_may_be_repeated() {
        assert_eq!(share((32, 4), 8), None);
        assert_eq!(share((32, 3), 2).unwrap(), "3 key heads");
        assert_eq!(share((14, 2), 4).unwrap(), "14 heads");
    }
}
