use super::*;
use proptest::prelude::*;

fn accepts(text: &str) -> bool {
    let mut reader = Reader::new(text, 0, Code::HeaderJson);
    reader.skip().and_then(|()| reader.end()).is_ok()
}

#[test]
fn literals_decode_like_serde() {
    for raw in [r#""aé\u00e9\ud83d\ude00\n\/\"""#, r#""""#, r#""__proto__""#] {
        let literal = Reader::new(raw, 0, Code::HeaderJson).string().unwrap();
        assert_eq!(literal.text(), serde_json::from_str::<String>(raw).unwrap());
    }
}

#[test]
fn depth_is_bounded() {
    let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
    assert!(accepts(&nested(128)));
    assert!(!accepts(&nested(129)));
    assert!(!accepts(&"[".repeat(1_000_000)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn accepts_what_serde_accepts(picks in prop::collection::vec(0usize..22, 0..14)) {
        const PIECES: &[&str] = &["{", "}", "[", "]", ",", ":", "\"a\"", "\"\\u0041\"", "\"\\ud800\"",
            "1", "-0", "01", "1.", "1.5e3", "1e+", "-", "true", "nul", "null", " ", "\"\\x\"", "\u{7f}"];
        let text: String = picks.iter().map(|i| PIECES[*i]).collect();
        let serde = serde_json::from_str::<serde_json::Value>(&text);
        // serde refuses numbers that f64 cannot hold; the grammar has no such limit.
        let too_large = matches!(&serde, Err(e) if e.to_string().contains("out of range"));
        prop_assume!(!too_large);
        let grammar = serde.is_ok();
        prop_assert_eq!(accepts(&text), grammar, "{}", text);
    }
}
