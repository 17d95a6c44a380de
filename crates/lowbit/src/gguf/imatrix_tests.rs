//! Both formats, merging, and what must not go wrong with values of zero.

use super::imatrix::{Entry, Imatrix};
use crate::error::Code;

fn sample() -> Imatrix {
    let entry = |sums: &[f32], counts: &[f32]| Entry {
        sums: sums.to_vec(),
        counts: counts.to_vec(),
    };
    Imatrix {
        entries: [
            (
                "blk.0.attn_q.weight".to_string(),
                entry(&[8.0, 2.0, 4.0, 6.0], &[4.0]),
            ),
            (
                "blk.0.ffn_down_exps.weight".to_string(),
                entry(&[3.0, 6.0, 0.0, 0.0], &[3.0, 0.0]),
            ),
        ]
        .into(),
        datasets: vec!["wiki.txt".into()],
        chunks: 4,
        chunk_tokens: 512,
    }
}

#[test]
fn gguf_comes_back_as_it_was() {
    let bytes = sample().to_gguf().unwrap();
    assert_eq!(Imatrix::parse(&bytes).unwrap(), sample());
    for cut in 0..bytes.len() - 16 {
        let code = Imatrix::parse(&bytes[..cut]).unwrap_err().code;
        assert!(
            [Code::Truncated, Code::Imatrix].contains(&code),
            "cut at {cut}"
        );
    }
}

#[test]
fn legacy_keeps_the_means() {
    let bytes = sample().to_legacy().unwrap();
    let back = Imatrix::parse(&bytes).unwrap();
    assert_eq!((back.chunks, &back.datasets), (4, &sample().datasets));
    for (name, cols, experts) in [
        ("blk.0.attn_q.weight", 4, 1),
        ("blk.0.ffn_down_exps.weight", 2, 2),
    ] {
        let of = |m: &Imatrix| m.importance(name, cols, experts).unwrap().unwrap();
        assert_eq!(of(&back), of(&sample()));
    }
    // The dataset's name is missing in the oldest files, which end after the entries.
    let end = bytes.len() - 4 - 4 - "wiki.txt".len();
    assert_eq!(Imatrix::parse(&bytes[..end]).unwrap().entries.len(), 2);
    for cut in 0..bytes.len() {
        if cut != end {
            assert!(Imatrix::parse(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(
        Imatrix::parse(&longer).unwrap_err().code,
        Code::TrailingBytes
    );
}

#[test]
fn merging_adds_up() {
    let mut both = sample();
    let mut other = sample();
    other.datasets = vec!["code.txt".into()];
    let extra = other.entries["blk.0.attn_q.weight"].clone();
    other.entries.insert("blk.1.attn_q.weight".into(), extra);
    both.merge(&other).unwrap();
    assert_eq!(both.chunks, 8);
    assert_eq!(both.datasets, ["wiki.txt", "code.txt"]);
    assert_eq!(both.entries["blk.0.attn_q.weight"].counts, [8.0]);
    let means = |m: &Imatrix| m.importance("blk.0.attn_q.weight", 4, 1).unwrap();
    assert_eq!(means(&both), means(&sample()));
    other
        .entries
        .get_mut("blk.0.attn_q.weight")
        .unwrap()
        .sums
        .push(1.0);
    assert_eq!(both.merge(&other).unwrap_err().code, Code::Imatrix);
}

#[test]
fn what_is_asked_of_a_file() {
    let m = sample();
    assert_eq!(m.importance("blk.9.attn_q.weight", 4, 1).unwrap(), None);
    assert_eq!(
        m.importance("blk.0.attn_q.weight", 5, 1).unwrap_err().code,
        Code::Imatrix
    );
    let experts = m
        .importance("blk.0.ffn_down_exps.weight", 2, 2)
        .unwrap()
        .unwrap();
    assert_eq!(experts[0].values(), [1.0, 2.0]);
    assert_eq!(
        experts[1].values(),
        [1.0, 1.0],
        "an expert that saw no token"
    );
    let mut nan = sample();
    nan.entries.get_mut("blk.0.attn_q.weight").unwrap().sums[2] = f32::NAN;
    let error = nan.importance("blk.0.attn_q.weight", 4, 1).unwrap_err();
    assert_eq!(
        (error.code, error.place.as_str()),
        (Code::Imatrix, "blk.0.attn_q.weight")
    );
}

#[test]
fn other_files_are_refused() {
    let code = |bytes: &[u8]| Imatrix::parse(bytes).unwrap_err().code;
    assert_eq!(code(b""), Code::Truncated);
    assert_eq!(code(&[0; 8]), Code::Imatrix);
    assert_eq!(code(&[0xff; 64]), Code::Imatrix);
    assert_eq!(code(&[1, 0, 0, 0, 255, 255, 255, 127]), Code::Truncated);
    assert_eq!(code(&super::tests::file()), Code::Imatrix);
}
