//! Refusing a file takes little memory beside the header that was read.
#![cfg(target_os = "linux")]

use lowbit::container::{safetensors, shards};
use std::fmt::Write;

/// Peak resident memory in KiB since the last reset.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let mut words = status.split_whitespace().skip_while(|w| *w != "VmHWM:");
    let peak = words.nth(1).and_then(|kib| kib.parse().ok());
    peak.expect("a number of KiB follows the name")
}

fn reset_peak() {
    // 5 resets the high-water mark: proc_pid_clear_refs(5).
    std::fs::write("/proc/self/clear_refs", "5").expect("Linux has it");
}

fn file(header: &str) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()
}

/// As many of the smallest entries as the limits allow, and what comes last.
fn crowded(last: &str) -> Vec<u8> {
    let mut header = String::with_capacity(99_000_000);
    header.push('{');
    for i in 0..safetensors::TENSORS_MAX - 1 {
        let entry = r#""dtype":"U8","shape":[0],"data_offsets":[0,0]"#;
        write!(header, "\"{i:x}\":{{{entry}}},").expect("text takes any text");
    }
    header += last;
    header.push('}');
    file(&header)
}

fn used(run: impl Fn() -> &'static str, code: &str) -> u64 {
    reset_peak();
    let before = peak();
    let found = run();
    let used = peak() - before;
    assert_eq!(found, code);
    used
}

#[test]
fn refusing_takes_at_most_64_mib() {
    let code = |bytes: &[u8]| {
        let result = safetensors::parse(bytes, bytes.len() as u64);
        result.map_or_else(|e| e.code.name(), |_| "ok")
    };
    for (last, wanted) in [
        (
            "\"x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[8,8]}",
            "hole",
        ),
        (
            "\"ff\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
            "duplicate-key",
        ),
        (
            "\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}",
            "truncated",
        ),
    ] {
        let bytes = crowded(last);
        let kib = used(|| code(&bytes), wanted);
        println!(
            "{wanted}: {} MB of header, {kib} KiB beside it",
            bytes.len() / 1_000_000
        );
        assert!(kib <= 64 << 10, "{wanted}: {kib} KiB");
    }
    let long = format!("{{\"{}\":1}}", "\\u0061".repeat(16_000_000));
    let bytes = file(&long);
    assert!(used(|| code(&bytes), "header-json") <= 64 << 10);

    let entry = |i: usize| format!("\"t{i}\":\"model-{}.safetensors\",", i % 9_999);
    let index = "{\"weight_map\":{".to_string() + &(0..600_000).map(entry).collect::<String>();
    let refuse = || {
        shards::parse_index(index.as_bytes())
            .unwrap_err()
            .code
            .name()
    };
    let kib = used(refuse, "index");
    println!("index: {} MB, {kib} KiB beside it", index.len() / 1_000_000);
    assert!(kib <= 64 << 10, "index: {kib} KiB");
}
