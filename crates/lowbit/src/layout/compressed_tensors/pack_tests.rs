use super::*;
use crate::kernels::shapes::Random;
use crate::layout::Layout;
use crate::layout::compressed_tensors::{CURRENT as LAYOUT, CompressedTensors};
use proptest::prelude::*;

static OLD: CompressedTensors = CompressedTensors {
    format: Some(&BEFORE_0_18),
    old: true,
};

const BASE: &str = "model.layers.0.mlp.up_proj";

/// A matrix of seeded codes; every code, zero and scale occurs.
fn sample(
    scheme: &Scheme,
    rows: usize,
    cols: usize,
    dtype: Dtype,
    by_index: bool,
) -> QuantizedMatrix {
    let (bits, group) = (scheme.bits, scheme.group_cols(cols).unwrap());
    let groups = cols / group;
    let code = |i: usize| ((i * 2_654_435_761) >> 7) as u8 & ((1u16 << bits) - 1) as u8;
    let row = |r: usize| {
        (0..cols)
            .map(move |c| code(r * cols + c))
            .collect::<Vec<_>>()
    };
    let words = (0..rows)
        .flat_map(|r| crate::pack::words_from_codes(&row(r), bits))
        .collect();
    let scales: Vec<f32> = (0..rows * groups)
        .map(|i| 0.5 + (i % 64) as f32 / 64.0)
        .collect();
    QuantizedMatrix {
        rows,
        cols,
        inputs: None,
        values: Values::Integer(Integer {
            codes: Codes {
                bits,
                row_words: words_len(cols, bits),
                words,
            },
            group,
            scales: Scales::Flat(Floats::from_f32(dtype, &scales).unwrap()),
            zero: if scheme.is_symmetric() {
                Zero::Centre
            } else {
                Zero::Int((0..rows * groups).map(|i| code(i + 5)).collect())
            },
            group_of_col: by_index.then(|| (0..cols).map(|c| (c % groups) as u32).collect()),
        }),
    }
}

proptest! {
    #[test]
    fn matrices_survive_and_so_do_bytes(
        rows in 1usize..70, runs in 1usize..6, run in 1usize..50, bits in 0usize..4,
        whole in any::<bool>(), symmetric in any::<bool>(), by_index in any::<bool>(), dtype in 0usize..3,
    ) {
        let (cols, bits) = (runs * run, [2, 3, 4, 8][bits]);
        let group = if whole { Group::Row } else { Group::Run(run) };
        let scheme = Scheme::weights(bits, group, symmetric);
        let dtype = [Dtype::F32, Dtype::F16, Dtype::BF16][dtype];
        let matrix = sample(&scheme, rows, cols, dtype, by_index);
        let tensors = LAYOUT.encode(BASE, &matrix, &scheme, Dtype::F32).unwrap();
        let planned = LAYOUT.outputs(BASE, &scheme, (rows, cols), dtype, by_index);
        for (t, p) in tensors.iter().zip(&planned) {
            prop_assert_eq!((&t.name, t.dtype, &t.shape), (&p.name, p.dtype, &p.shape));
            t.view().unwrap();
        }
        prop_assert_eq!(tensors.len(), planned.len());
        let back = LAYOUT.decode(BASE, &scheme, &tensors).unwrap();
        prop_assert_eq!(&back, &matrix);
        prop_assert_eq!(LAYOUT.encode(BASE, &back, &scheme, Dtype::F32).unwrap(), tensors);
    }
}

/// Tensors of a small asymmetric matrix with column groups, after one change.
fn decode_with(change: impl Fn(&mut Vec<Tensor>)) -> Result<QuantizedMatrix> {
    let scheme = Scheme::weights(4, Group::Run(8), false);
    let matrix = sample(&scheme, 5, 16, Dtype::F32, true);
    let mut tensors = LAYOUT.encode(BASE, &matrix, &scheme, Dtype::F32).unwrap();
    change(&mut tensors);
    LAYOUT.decode(BASE, &scheme, &tensors)
}

/// Overwrites bytes of one of the matrix's tensors.
fn put(part: usize, at: usize, bytes: &[u8]) -> impl Fn(&mut Vec<Tensor>) + use<'_> {
    move |t| t[part].bytes[at..at + bytes.len()].copy_from_slice(bytes)
}

#[test]
fn broken_values_are_refused() {
    assert!(decode_with(|_| {}).is_ok());
    let rows: &[(usize, usize, &[u8], Code, &str)] = &[
        (1, 4, &[0, 0, 0xc0, 0x7f], Code::Qparam, "scale NaN"),
        (1, 4, &[0, 0, 0x80, 0x7f], Code::Qparam, "scale infinite"),
        (1, 4, &[0; 4], Code::Qparam, "scale 0"),
        (2, 8, &[17], Code::Scheme, "columns and groups"),
        (2, 8, &[24], Code::Qparam, "more columns"),
        (2, 0, &[0xff; 8], Code::Qparam, "negative rows"),
        (4, 0, &[2], Code::Qparam, "group out of range"),
        (4, 0, &[0xff; 4], Code::Qparam, "group −1"),
        (4, 0, &[1], Code::Qparam, "unequal groups"),
    ];
    for (part, at, bytes, code, what) in rows {
        let error = decode_with(put(*part, *at, bytes)).unwrap_err();
        assert_eq!(error.code, *code, "{what}");
    }
}

#[test]
fn broken_tensors_are_refused() {
    let code = |r: Result<QuantizedMatrix>| r.unwrap_err().code;
    assert!(decode_with(|t| t.reverse()).is_ok(), "any order");
    let shape = decode_with(|t| t[0].shape = vec![10, 1]);
    assert_eq!(code(shape), Code::Qparam, "packed shape");
    let dtype = decode_with(|t| t[0].dtype = Dtype::F32);
    assert_eq!(code(dtype), Code::Dtype, "packed dtype");
    let short = decode_with(|t| t[0].bytes.truncate(8));
    assert_eq!(code(short), Code::Shape, "packed bytes");
    let missing = decode_with(|t| drop(t.remove(3)));
    assert_eq!(code(missing), Code::MissingTensor, "zero points");
}

#[test]
fn the_old_stream_of_three_bits_is_read() {
    // Worked out by hand from the bit order: codes 3j mod 8, 32 of them.
    let tensor = |part: &str, dtype, shape: &[usize], bytes: Vec<u8>| Tensor {
        name: format!("{BASE}.{part}"),
        dtype,
        shape: shape.to_vec(),
        bytes,
    };
    let scheme = Scheme::weights(3, Group::Row, true);
    let decode = |layout: &CompressedTensors, words: &[u32]| {
        let shape = [1i64, 32].iter().flat_map(|n| n.to_le_bytes()).collect();
        layout.decode(
            BASE,
            &scheme,
            &[
                tensor(
                    "weight_packed",
                    Dtype::I32,
                    &[1, words.len()],
                    bytes_from_words(words),
                ),
                tensor(
                    "weight_scale",
                    Dtype::F32,
                    &[1, 1],
                    1.0f32.to_le_bytes().to_vec(),
                ),
                tensor("weight_shape", Dtype::I64, &[2], shape),
            ],
        )
    };
    let old = [0x18ab_c398, 0x0e62_af0e, 0x3c39_8abc, 0x0000_002a];
    let new = [0x98ab_c398, 0xc398_abc3, 0xabc3_98ab];
    assert_eq!(decode(&OLD, &old).unwrap(), decode(&LAYOUT, &new).unwrap());
    assert_eq!(decode(&LAYOUT, &old).unwrap_err().code, Code::Qparam);
}

#[test]
fn both_versions_are_written() {
    let old = crate::layout::find("compressed-tensors@0.17").unwrap();
    for (scheme, same) in [
        ("w3g16", false),
        ("w3g16-asym", false),
        ("w4g16-asym", true),
        ("w8", true),
        ("fp8", true),
    ] {
        let scheme: Scheme = scheme.parse().unwrap();
        let source = match scheme.element {
            Element::Int => sample(&scheme, 7, 48, Dtype::F32, false),
            _ => crate::layout::sample::matrix(&mut Random(4), &scheme, (7, 48), Dtype::F32),
        };
        let config = old.config(&[("m".into(), scheme)], &[], false);
        assert_eq!(config["version"], "0.17.1");
        let resolver = LAYOUT.detect(&config).unwrap().unwrap();
        let rule = resolver.rule("m").unwrap();
        let tensors = old.encode("m", &source, &scheme, Dtype::F32).unwrap();
        assert_eq!(
            rule.layout.decode("m", &rule.scheme, &tensors).unwrap(),
            source
        );
        let planned = old.outputs("m", &scheme, (7, 48), Dtype::F32, false);
        assert!(
            planned
                .iter()
                .zip(&tensors)
                .all(|(p, t)| p.shape == t.shape)
        );
        let new = LAYOUT.encode("m", &source, &scheme, Dtype::F32).unwrap();
        assert_eq!(new == tensors, same, "{scheme}");
    }
}

#[test]
fn fits_says_why_not() {
    let what = |scheme: &str, cols: usize| {
        LAYOUT
            .fits(&scheme.parse().unwrap(), 8, cols)
            .unwrap_err()
            .to_string()
    };
    assert!(what("w4g128", 96).contains("use w4g32"));
    assert!(what("nf4", 96).contains("use format bitsandbytes"));
    assert!(what("w4flat64", 96).contains("per run of a row"));
}
