//! How a conversion is cut into units, and how much work each tensor is.

use super::source::Logical;
use super::target::{Form, How};
use crate::error::{Code, Error, Result};
use crate::job::pace;

/// The unit of a tensor: its block's name, as `model.layers.3`, or `rest`.
pub(super) fn unit(name: &str) -> String {
    let parts: Vec<_> = name.split('.').collect();
    let number = parts.iter().position(|p| p.parse::<usize>().is_ok());
    number.map_or_else(|| "rest".into(), |n| parts[..=n].join("."))
}

/// Work of bringing a tensor in a form, and of rounding where it comes as floats.
pub(super) fn of(tensor: &Logical, form: Form) -> Result<u64> {
    let read = pace::bytes_work(tensor.stored_bytes()?);
    Ok(match form {
        Form::Stored | Form::Nothing => read,
        Form::Matrix | Form::Rows { .. } => {
            read + pace::round_work(tensor.rows(), tensor.cols(), false)
        }
    })
}

/// With `exact`, `scheme` for what turned out otherwise.
pub(super) fn check_exact(exact: bool, module: &str, how: How, why: &str) -> Result<()> {
    if !exact || how == How::Exact {
        return Ok(());
    }
    Err(
        Error::new(Code::Scheme, format!("values would change: {why}"))
            .at(format!("module {module:?}"))
            .remedy("leave out --exact to have it rounded"),
    )
}
