//! LLM.int8: bytes with a scale per row.

use crate::error::{Code, Error, Result};
use crate::layout::parts::Parts;
use crate::matrix::{Codes, Floats, Integer, QuantizedMatrix, Scales, Values, Zero};
use crate::tensor::Dtype;

/// Row maxima over 127, whose codes are centred.
pub(super) fn encode(m: &Integer, cols: usize) -> Option<Vec<Vec<u8>>> {
    let absmax = match &m.scales {
        Scales::Divided {
            values,
            divisor: 127.0,
        } => values.to_bytes(),
        // A scale of another kind: the row maximum is what comes nearest to 127 of them.
        other => (0..other.len())
            .flat_map(|i| (other.get(i) * 127.0).to_le_bytes())
            .collect(),
    };
    if m.codes.bits != 8 || m.group != cols || m.zero != Zero::Centre || m.group_of_col.is_some() {
        return None;
    }
    let weight = m.codes.unpack(cols).into_iter().map(|c| c ^ 128).collect();
    Some(vec![weight, absmax, vec![0]])
}

/// Undoes `encode`.
pub(super) fn decode(parts: &Parts<'_>) -> Result<QuantizedMatrix> {
    let (rows, cols, weight) = parts.matrix("weight", Dtype::I8)?;
    let absmax = parts.get("SCB", &[Dtype::F32], &[rows])?;
    if let Some(format) = parts.find("weight_format").filter(|t| t.bytes != [0]) {
        let what = format!("weight_format {:?}: rows in another order", format.bytes);
        return Err(Error::new(Code::Unsupported, what).at(format!("{:?}", parts.base)));
    }
    let codes: Vec<u8> = weight.bytes.iter().map(|b| b ^ 128).collect();
    Ok(QuantizedMatrix {
        rows,
        cols,
        values: Values::Integer(Integer {
            codes: Codes::pack(&codes, cols, 8),
            group: cols,
            scales: Scales::Divided {
                values: Floats::from_bytes(Dtype::F32, &absmax.bytes)?,
                divisor: 127.0,
            },
            zero: Zero::Centre,
            group_of_col: None,
        }),
        inputs: None,
    })
}
