//! Any bytes as a safetensors file: no panic, and what is accepted can be laid out again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lowbit::container::safetensors::{Planned, layout_file, parse};

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = parse(bytes, bytes.len() as u64) else {
        return;
    };
    let planned: Vec<_> = header
        .entries
        .into_iter()
        .map(|e| Planned {
            name: e.name,
            dtype: e.dtype,
            shape: e.shape,
        })
        .collect();
    let (head, _, file_bytes) = layout_file(&planned, &header.metadata).expect("it was valid");
    parse(&head, file_bytes).expect("what is written can be read");
});
