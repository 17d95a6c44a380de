//! In which order GPTQ rounds the columns of a matrix, and which columns share a scale.

use crate::error::{Code, Error, Result, nearest};

/// The order of columns; named as `--act-order` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Order {
    /// Most active columns first; groups stay runs along the row with parameters of the source
    /// weights, so that nothing is stored or paid for at run time.
    #[default]
    Static,
    /// Groups by their most active column, columns by their activity inside each group (GAR):
    /// groups stay runs along the row and nothing is stored.
    GroupAware,
    /// Most active columns first; groups are formed in that order and `g_idx` is stored.
    Group,
    /// As they lie in the row; each group's parameters come from the weights as updated so far.
    Off,
}

impl Order {
    /// Every order with its name.
    pub const ALL: &[(&'static str, Order)] = &[
        ("static", Order::Static),
        ("gar", Order::GroupAware),
        ("group", Order::Group),
        ("off", Order::Off),
    ];

    /// The order's name.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, o)| *o == self);
        found.map_or("static", |(n, _)| n)
    }

    /// Looks one up by name; `option` with the nearest name otherwise.
    pub fn parse(name: &str) -> Result<Order> {
        let names = || Self::ALL.iter().map(|(n, _)| *n);
        let found = Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, o)| *o);
        found.ok_or_else(|| {
            let near = nearest(name, names()).unwrap_or("static");
            Error::new(Code::Option, format!("unknown activation order {name:?}"))
                .remedy(format!("did you mean {near:?}?"))
        })
    }

    /// Columns from the last one rounded to the first one, in groups of `group` along the row.
    ///
    /// `diagonal` is that of the Hessian; equal entries keep the order of the row, so that the
    /// result is the same everywhere.
    pub fn columns_backwards(self, diagonal: &[f64], group: usize) -> Vec<u32> {
        let mut columns: Vec<u32> = (0..diagonal.len() as u32).collect();
        let falling = |a: f64, b: f64| b.total_cmp(&a);
        match self {
            Order::Off => {}
            Order::Static | Order::Group => {
                columns.sort_by(|a, b| falling(diagonal[*a as usize], diagonal[*b as usize]));
            }
            Order::GroupAware => {
                let peaks: Vec<f64> = diagonal
                    .chunks(group.max(1))
                    .map(|g| g.iter().copied().fold(f64::NEG_INFINITY, f64::max))
                    .collect();
                let key = |c: u32| (peaks[c as usize / group.max(1)], c as usize / group.max(1));
                columns.sort_by(|a, b| {
                    let ((peak_a, group_a), (peak_b, group_b)) = (key(*a), key(*b));
                    falling(peak_a, peak_b)
                        .then(group_a.cmp(&group_b))
                        .then(falling(diagonal[*a as usize], diagonal[*b as usize]))
                });
            }
        }
        columns.reverse();
        columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_active_column_is_last_of_the_backwards_list() {
        let diagonal = [1.0, 3.0, 0.0, 3.0];
        assert_eq!(Order::Static.columns_backwards(&diagonal, 4), [2, 0, 3, 1]);
        assert_eq!(Order::Off.columns_backwards(&diagonal, 4), [3, 2, 1, 0]);
    }

    #[test]
    fn groups_stay_together_in_the_group_aware_order() {
        let diagonal = [1.0, 2.0, 0.5, 9.0, 2.0, 2.0, 4.0];
        assert_eq!(
            Order::GroupAware.columns_backwards(&diagonal, 2),
            [5, 4, 0, 1, 6, 2, 3],
            "rounded: group 1 (9), the short group 3 (4), groups 0 and 2 (2 each)"
        );
    }

    #[test]
    fn unknown_order_names_the_nearest() {
        assert_eq!(
            Order::parse("groups").unwrap_err().remedy,
            "did you mean \"group\"?"
        );
        assert_eq!(Order::parse("off").unwrap(), Order::Off);
    }
}
