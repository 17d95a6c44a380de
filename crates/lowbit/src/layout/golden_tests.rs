use super::sample::{codes, matrix};
use super::*;
use crate::cpu::Cpu;
use crate::kernels::shapes::Random;
use crate::matrix::{Codes, Floats, Integer, Scales, Values, Zero};
use crate::pack::{words_from_codes, words_len};
use crate::round::gptq::GptqOptions;
use crate::round::observer::Observer;
use crate::round::{RoundOptions, Weights, rtn};
use parts::words_from_bytes;

/// Integers `[rows, cols]` with scales of 1 and zero points of `zero`.
fn integers(
    rows: usize,
    cols: usize,
    bits: u8,
    zero: Zero,
    code: impl Fn(usize, usize) -> u8,
) -> QuantizedMatrix {
    let row = |r: usize| words_from_codes(&(0..cols).map(|c| code(r, c)).collect::<Vec<_>>(), bits);
    QuantizedMatrix {
        rows,
        cols,
        values: Values::Integer(Integer {
            codes: Codes {
                bits,
                row_words: words_len(cols, bits),
                words: (0..rows).flat_map(row).collect(),
            },
            group: cols,
            scales: Scales::Flat(Floats::F32(vec![1.0; rows])),
            zero,
            group_of_col: None,
        }),
        inputs: None,
    }
}

/// Words of the first tensor, and the length of its lines.
fn words(
    layout: &dyn Layout,
    matrix: &QuantizedMatrix,
    scheme: &str,
    tensor: usize,
) -> (Vec<u32>, usize) {
    let tensors = layout
        .encode("m", matrix, &scheme.parse().unwrap(), Dtype::F16)
        .unwrap();
    let tensor = &tensors[tensor];
    (words_from_bytes(&tensor.bytes), tensor.shape[1])
}

#[test]
fn gptq_words_are_the_known_ones() {
    let q = |o: usize, i: usize| ((i + 3 * o) % 16) as u8;
    let four = integers(32, 32, 4, Zero::Centre, q);
    let (found, line) = words(&gptq::V1, &four, "w4", 0);
    assert_eq!(found[..3], [0x7654_3210, 0xa987_6543, 0xdcba_9876]);
    assert_eq!(found[line], 0xfedc_ba98);
    let three = integers(32, 32, 3, Zero::Centre, |o, i| q(o, i) % 8);
    let (found, line) = words(&gptq::V1, &three, "w3", 0);
    let column = |o: usize| [found[o], found[line + o], found[2 * line + o]];
    assert_eq!(column(0), [0x88fa_c688, 0xc688_fac6, 0xfac6_88fa]);
    assert_eq!(column(1), [0x6344_7d63, 0x7d63_447d, 0x447d_6344]);
    let eight = integers(32, 32, 8, Zero::Centre, |o, i| 5 * q(o, i));
    assert_eq!(words(&gptq::V1, &eight, "w8", 0).0[1], 0x1e19_140f);
}

#[test]
fn gptq_zero_points_differ_by_version() {
    for (bits, scheme, v1, v2) in [
        (2, "w2", 0x5555_5555, 0xaaaa_aaaa),
        (4, "w4", 0x7777_7777, 0x8888_8888),
        (8, "w8", 0x7f7f_7f7f, 0x8080_8080),
    ] {
        let matrix = integers(32, 32, bits, Zero::Centre, |_, _| 0);
        assert!(
            words(&gptq::V1, &matrix, scheme, 1)
                .0
                .iter()
                .all(|w| *w == v1)
        );
        assert!(
            words(&gptq::V2, &matrix, scheme, 1)
                .0
                .iter()
                .all(|w| *w == v2)
        );
    }
    let zeros: Vec<u8> = (0..32).map(|o| o % 16).collect();
    let matrix = integers(32, 32, 4, Zero::Int(zeros.clone()), |_, _| 0);
    let scheme = "w4-asym".parse().unwrap();
    let mut tensors = gptq::V2.encode("m", &matrix, &scheme, Dtype::F16).unwrap();
    // The same zero points as version 1 stores them: 0 becomes 15.
    let less: Vec<u8> = zeros.iter().map(|z| z.wrapping_sub(1) & 15).collect();
    tensors[1].bytes = parts::bytes_from_words(&words_from_codes(&less, 4));
    assert_eq!(gptq::V1.decode("m", &scheme, &tensors).unwrap(), matrix);
    let refused = gptq::V1.fits(&scheme, 32, 32).unwrap_err();
    assert!(refused.to_string().contains("gptq-v2"), "{refused}");
}

#[test]
fn gptq_keeps_the_order_of_its_columns() {
    let mut source = integers(32, 64, 4, Zero::Centre, |o, i| ((o + i) % 16) as u8);
    if let Values::Integer(m) = &mut source.values {
        m.group = 32;
        m.scales = Scales::Flat(Floats::F16(vec![0x3c00; 64]));
        m.group_of_col = Some((0..64).map(|j| j % 2).collect());
    }
    let scheme = "w4g32".parse().unwrap();
    let tensors = gptq::V1.encode("m", &source, &scheme, Dtype::F16).unwrap();
    assert_eq!(gptq::V1.decode("m", &scheme, &tensors).unwrap(), source);
    let config = gptq::V1.config(&[("m".into(), scheme)], &[], true);
    assert_eq!(config["desc_act"], true);
}

#[test]
fn gptq_config_names_what_differs() {
    let scheme = |text: &str| text.parse::<Scheme>().unwrap();
    let assignment = [
        ("l.0.q", "w4g128"),
        ("l.0.down", "w8g32"),
        ("l.1.q", "w4g128"),
    ];
    let assignment: Vec<_> = assignment.map(|(m, s)| (m.to_string(), scheme(s))).to_vec();
    let config = gptq::V1.config(&assignment, &["lm_head".into(), "l.1.down".into()], false);
    let read = gptq::V1.detect(&config).unwrap().unwrap();
    for (module, scheme) in &assignment {
        assert_eq!(read.scheme(module), Some(*scheme), "{module}");
    }
    assert_eq!(read.scheme("l.1.down"), None);
    assert!(gptq::V2.detect(&config).is_none());
}

#[test]
fn awq_words_are_the_known_ones() {
    let q = |o: usize, i: usize| ((i + 3 * o) % 16) as u8;
    let matrix = integers(32, 32, 4, Zero::Int(vec![0; 32]), q);
    let (found, line) = words(&awq::GEMM, &matrix, "w4-asym", 0);
    assert_eq!(
        [found[0], found[1], found[line]],
        [0x5f93_2c60, 0xd71b_a4e8, 0x60a4_3d71]
    );
    let ordered = integers(8, 8, 4, Zero::Int(vec![0; 8]), |o, _| o as u8);
    assert_eq!(words(&awq::GEMM, &ordered, "w4-asym", 0).0[0], 0x7531_6420);
}

#[test]
fn awq_beside_rows_is_read() {
    let config = serde_json::json!({
        "quant_method": "awq", "bits": 4, "group_size": 8, "zero_point": true, "version": "GEMV",
    });
    let resolver = awq::GEMM.detect(&config).unwrap().unwrap();
    let rule = resolver.rule("m").unwrap();
    let mut random = Random(5);
    let source = matrix(&mut random, &rule.scheme, (3, 24), Dtype::F16);
    let Values::Integer(m) = &source.values else {
        return;
    };
    let (Scales::Flat(Floats::F16(scales)), Zero::Int(zeros)) = (&m.scales, &m.zero) else {
        return;
    };
    // Three groups in a line of eight.
    let padded = |line: &[u8]| words_from_codes(&[line, &[0; 5]].concat(), 4);
    let tensor = |part: &str, dtype, shape: &[usize], bytes| Tensor {
        name: format!("m.{part}"),
        dtype,
        shape: shape.to_vec(),
        bytes,
    };
    let lines = scales.chunks(3).flat_map(|line| [line, &[0; 5]].concat());
    let zeros: Vec<u32> = zeros.chunks(3).flat_map(padded).collect();
    let tensors = [
        tensor(
            "qweight",
            Dtype::I32,
            &[3, 3],
            parts::bytes_from_words(&m.codes.words),
        ),
        tensor(
            "qzeros",
            Dtype::I32,
            &[3, 1],
            parts::bytes_from_words(&zeros),
        ),
        tensor(
            "scales",
            Dtype::F16,
            &[3, 8],
            lines.flat_map(u16::to_le_bytes).collect(),
        ),
    ];
    assert_eq!(
        rule.layout.decode("m", &rule.scheme, &tensors).unwrap(),
        source
    );
}

#[test]
fn bitsandbytes_bytes_are_the_known_ones() {
    let x: Vec<f32> = (0..64).map(|j| (37 * j % 101 - 50) as f32 / 64.0).collect();
    let weights = Weights {
        values: &x,
        rows: 1,
        cols: 64,
        importance: None,
    };
    for (scheme, wanted) in [
        (
            "nf4",
            "04c16e29f3b05d17e29f3c05d18e2af4c16e18e3b05d17e29f3b05d18e2af4c1",
        ),
        (
            "fp4",
            "bf5a92a63c4be5a02d63c4be2a12d73f5a92a63d4bf5a92d63c4be5a12d73c5b",
        ),
    ] {
        let scheme = scheme.parse().unwrap();
        let options = RoundOptions {
            observer: Observer::MinMax,
            scale_dtype: Dtype::F32,
            gptq: GptqOptions::default(),
        };
        let matrix = rtn::round(weights, &scheme, &options, &Cpu::single()).unwrap();
        let tensors = bitsandbytes::BitsAndBytes.encode("m", &matrix, &scheme, Dtype::F32);
        let tensors = tensors.unwrap();
        let bytes = wanted.as_bytes().as_chunks::<2>().0.iter();
        let hex = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        let wanted: Vec<u8> = bytes.map(|pair| hex(pair).unwrap()).collect();
        assert_eq!(tensors[0].bytes, wanted);
        assert_eq!(tensors[1].bytes, 0.78125f32.to_le_bytes());
    }
}

#[test]
fn eetq_bytes_follow_their_definition() {
    // By the steps of the definition, one after another, rather than by one map of places.
    let (rows, cols) = (64, 128);
    let plain = codes(&mut Random(9), rows * cols, 8);
    let source = integers(rows, cols, 8, Zero::Centre, |r, c| plain[r * cols + c]);
    let tensors = eetq::Eetq
        .encode("m", &source, &"w8".parse().unwrap(), Dtype::F32)
        .unwrap();
    let signed = |r: usize, c: usize| plain[r * cols + c].wrapping_sub(128);
    let order = [0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15];
    let permuted = |i: usize, r: usize| signed(r, i / 16 * 16 + order[i % 16]);
    let mut wanted = Vec::new();
    for pair in 0..rows / 2 {
        for tile in 0..cols / 64 {
            for r in [2 * pair, 2 * pair + 1] {
                wanted.extend((0..64).map(|i| permuted(64 * tile + i, r).wrapping_add(128)));
            }
        }
    }
    wanted
        .as_chunks_mut::<4>()
        .0
        .iter_mut()
        .for_each(|word| word.swap(1, 2));
    assert!(tensors[0].bytes == wanted);
}
