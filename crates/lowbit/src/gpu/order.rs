//! The order in which the columns of a quantized matrix lie on the device.

use super::dispatch::{BLOCK, align};
use crate::error::{Code, Error, Result};
use crate::matrix::Integer;

/// What stands for no column in an order.
const NO_COLUMN: u32 = u32::MAX;

/// Columns group by group, each group padded to whole blocks; none when they lie so already.
pub(super) fn order(m: &Integer, cols: usize) -> Result<Option<Vec<u32>>> {
    let groups = cols / m.group;
    let group_of = |j: usize| {
        m.group_of_col
            .as_ref()
            .map_or(j / m.group, |g| g[j] as usize)
    };
    let in_order = (0..cols).all(|j| group_of(j) == j / m.group);
    if in_order && (groups == 1 || m.group.is_multiple_of(BLOCK)) {
        return Ok(None);
    }
    let mut members = vec![Vec::new(); groups];
    for j in 0..cols {
        members[group_of(j)].push(j as u32);
    }
    if let Some(uneven) = members.iter().position(|g| g.len() != m.group) {
        let what = format!(
            "group {uneven} has {} columns, not {}",
            members[uneven].len(),
            m.group
        );
        return Err(Error::new(Code::Unsupported, what).remedy("use device \"cpu\""));
    }
    for group in &mut members {
        group.resize(align(m.group), NO_COLUMN);
    }
    Ok(Some(members.concat()))
}

/// Codes of a row in an order, zero where there is no column.
pub(super) fn rearranged(codes: &[u8], order: Option<&[u32]>, cols_padded: usize) -> Vec<u8> {
    if let Some(order) = order {
        let code = |j: &u32| codes.get(*j as usize).copied().unwrap_or(0);
        return order.iter().map(code).collect();
    }
    let mut padded = codes.to_vec();
    padded.resize(cols_padded, 0);
    padded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{Codes, Floats, Scales, Zero};

    fn integer(group: usize, group_of_col: Option<Vec<u32>>) -> Integer {
        Integer {
            codes: Codes {
                bits: 4,
                row_words: 0,
                words: Vec::new(),
            },
            group,
            scales: Scales::Flat(Floats::F32(Vec::new())),
            zero: Zero::Centre,
            group_of_col,
        }
    }

    #[test]
    fn whole_blocks_in_their_own_order_stay() {
        assert_eq!(order(&integer(64, None), 128).unwrap(), None);
        assert_eq!(order(&integer(33, None), 33).unwrap(), None);
        let own = (0..128).map(|j| j / 64).collect();
        assert_eq!(order(&integer(64, Some(own)), 128).unwrap(), None);
    }

    #[test]
    fn groups_are_gathered_and_padded() {
        let found = order(&integer(2, Some(vec![1, 0, 1, 0])), 4)
            .unwrap()
            .unwrap();
        assert_eq!(found.len(), 2 * BLOCK);
        assert_eq!(found[..3], [1, 3, NO_COLUMN]);
        assert_eq!(found[BLOCK..BLOCK + 3], [0, 2, NO_COLUMN]);
        let moved = rearranged(&[5, 6, 7, 8], Some(&found), found.len());
        assert_eq!(moved[..3], [6, 8, 0]);
    }

    #[test]
    fn uneven_groups_are_refused() {
        let e = order(&integer(2, Some(vec![0, 0, 0, 1])), 4).unwrap_err();
        assert_eq!(e.code, Code::Unsupported);
    }
}
