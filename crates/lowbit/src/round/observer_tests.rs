//! Parameters of single groups.

use super::*;
use crate::round::gptq::GptqOptions;
use crate::scheme::Group;

const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::BF16, Dtype::F16];

fn options(scale_dtype: Dtype) -> RoundOptions {
    RoundOptions {
        observer: Observer::Mse,
        scale_dtype,
        gptq: GptqOptions::default(),
    }
}

fn rounded(values: &[f32], scheme: &Scheme, dtype: Dtype) -> Vec<f32> {
    let (scale, zero) = group_params(values, &[], scheme, &options(dtype));
    assert!(scale != 0.0 && scale.is_finite());
    let grid = Grid::new(scheme, dtype);
    let zero = f32::from(zero);
    let mut codes = vec![0; values.len()];
    let params = Params {
        scale,
        zero: zero + grid.lo,
    };
    grid.codes(values, params, &mut codes);
    assert!(codes.iter().all(|c| u32::from(*c) < 1 << scheme.bits));
    codes
        .iter()
        .map(|c| scale * (f32::from(*c) - zero))
        .collect()
}

#[test]
fn groups_of_one_value_come_back_exactly() {
    for (bits, symmetric) in [(2, true), (3, false), (4, true), (4, false), (8, true)] {
        let scheme = Scheme::weights(bits, Group::Row, symmetric);
        for (dtype, c) in DTYPES
            .iter()
            .flat_map(|d| [0.0, 1.0, -1.0, 0.3125, -0.011_718_75, 1024.0].map(|c| (*d, c)))
        {
            assert_eq!(rounded(&[c; 33], &scheme, dtype), [c; 33], "{scheme} {c}");
        }
    }
    let scheme = Scheme::weights(4, Group::Row, true);
    let tiny = [1.0e-44f32; 16];
    assert_eq!(rounded(&tiny, &scheme, Dtype::F32), tiny);
    assert_eq!(
        rounded(&tiny, &scheme, Dtype::F16),
        [0.0; 16],
        "scale underflow"
    );
}

#[test]
fn a_scale_that_does_not_fit_is_infinite() {
    let scheme = Scheme::weights(4, Group::Row, true);
    let (scale, _) = group_params(&[1.0e6, -1.0], &[], &scheme, &options(Dtype::F16));
    assert!(scale.is_infinite());
}
